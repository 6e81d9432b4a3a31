"""What the routes share: the models, the engine's port, the queue and the settings, made at one place and handed in.

Rules of this file: no globals; a route gets the state from its application.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from .engine.port import EnginePort
from .errors import NotReady, QueueFull
from .gate.admission import Admission, admission_rules
from .gate.tls import ListenerTls, listener_tls
from .infer.infer_request import RequestReader
from .models.model_table import ModelTable
from .models.served_model import ServedModel
from .observe.counter_page import Counters
from .observe.request_id import RequestIds
from .observe.request_meter import RequestMeter, RequestMeters
from .observe.tracing import RequestTracer
from .settings import Settings
from .start_errors import CertificateError, KeysFileError
from .streams.carried_state import read_state_keys
from .streams.state_carrier import StateCarrier
from .work_queue import WorkQueue

logger = logging.getLogger("cellgate.serve")

# Threads for bodies and answers so large that they would hold up the event loop. The parser and the renderer hold the
# interpreter's lock for most of their time: more threads would only take turns.
_LARGE_AT_A_TIME = 2


class Live(Protocol):
    """A connection that stays, with requests on it."""

    def stop(self) -> None: ...  # noqa: D102 - answer what was read, read no more, and end


@dataclass(kw_only=True, slots=True)
class ServingState:
    """The state of one application.

    Attributes:
        table: the served models; exchanged when others are served (`take_models`).
        settings: of this server.
        engine: takes the work of this application's event loop.
        admission: decides who may ask; exchanged when the keys are read again.
        counters: of this process, and of all others.
        protocol: that this process speaks, as its requests are counted.
        meters: count the requests.
        tls: of this process's listeners; None: they are not encrypted.
        ids: name the requests.
        tracer: takes a trace of each request for inference; None: nothing is traced.
        queue: for what would hold up the loop; made by `start_queue`, for it belongs to a loop; None before and after.
        draining: the server stops; set by whoever stops it.
        infer_paths: the paths of inference as they are usually written, and the name of the model that each asks for.
        hot_readers, hot_meters: of these paths, as they come over the wire. These three are changed in place.
        live: connections that stay, and are told when the server stops.
    """

    table: ModelTable
    settings: Settings
    engine: EnginePort
    admission: Admission
    counters: Counters
    protocol: str = "http"
    meters: RequestMeters = field(init=False)
    tls: ListenerTls | None = field(init=False)
    ids: RequestIds = field(default_factory=RequestIds)
    tracer: RequestTracer | None = None
    queue: WorkQueue | None = None
    draining: bool = False
    infer_paths: dict[str, str] = field(default_factory=dict)
    hot_readers: dict[bytes, RequestReader] = field(default_factory=dict)
    hot_meters: dict[bytes, RequestMeter] = field(default_factory=dict)
    live: set[Live] = field(default_factory=set)
    _state_keys: tuple[bytes, ...] = ()
    _readers: dict[tuple[str, str], RequestReader] = field(default_factory=dict)
    _last_readers: dict[str, RequestReader] = field(default_factory=dict)  # of names without a current version

    def __post_init__(self) -> None:
        self.meters = RequestMeters(self.counters.own, self.protocol)
        self.tls = listener_tls(self.settings)
        path = self.settings.state_keys_path
        self._state_keys = () if path is None else read_state_keys(Path(path))
        self.take_models(self.table)

    def take_models(self, table: ModelTable, names: Sequence[str] = ()) -> None:
        """Serve these models from now on. Requests that were read for others go on as they began.

        Args:
            table: of what the engine serves.
            names: of all models that were ever served, in their order.
        """
        for name in names:
            self.counters.own.layout.add(name)
        before, self._readers = self._readers, {}
        for model in (*table.models, *table.retired):
            key = model.key, model.digest
            self._readers[key] = before.get(key) or self._make_reader(model)
        self.table = table
        self._make_last_readers()
        self._name_paths()

    def _make_reader(self, model: ServedModel, begin: Callable[[], object] | None = None) -> RequestReader:
        carrier = StateCarrier(model=model, keys=self._state_keys, idle_s=self.settings.stream_idle_s)

        def elsewhere(digest: str) -> RequestReader | None:
            found = self.table.with_digest(model.name, digest)
            return None if found is None else self.reader_of(found)

        return RequestReader(model, self.settings.limits, carrier=carrier, elsewhere=elsewhere, begin=begin)

    def _make_last_readers(self) -> None:
        """Read later chunks of streams where a name was unloaded; who would begin something is told that it is gone."""
        current, names = {model.name for model in self.table.models}, {model.name for model in self.table.retired}
        self._last_readers = {
            name: self._make_reader(self.table.any_of(name), partial(self.table.find, name, None))
            for name in names - current
        }

    def _name_paths(self) -> None:
        for found in (self.infer_paths, self.hot_readers, self.hot_meters):
            found.clear()
        for model in (*self.table.retired, *self.table.models):
            self._name_path(f"/v2/models/{model.name}/versions/{model.version}/infer", model, self.reader_of(model))
        for name in (*self._last_readers, *(model.name for model in self.table.models)):
            self._name_path(f"/v2/models/{name}/infer", *self.reader_for(name, None))

    def _name_path(self, path: str, model: ServedModel, reader: RequestReader) -> None:
        self.infer_paths[path] = model.name
        self.hot_readers[path.encode("ascii")] = reader
        self.hot_meters[path.encode("ascii")] = self.meters.of(model.name)

    def read_keys(self) -> None:
        """Take the keys, and the certificate with its key, as they are now; what cannot be used changes nothing."""
        if self.settings.api_keys_file is not None:
            self._read_api_keys()
        if self.tls is not None:
            self._read_certificate(self.tls)

    def _read_api_keys(self) -> None:
        try:
            self.admission = Admission(admission_rules(self.settings))
        except KeysFileError as err:
            logger.error("the keys are as before: %s", err)  # noqa: TRY400 - its sentence says all
        else:
            logger.warning("the keys were read again")

    def _read_certificate(self, tls: ListenerTls) -> None:
        try:
            tls.read_again()
        except CertificateError as err:
            logger.error("the certificate is as before: %s", err)  # noqa: TRY400 - as above
        else:
            logger.warning("the certificate was read again")

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return self.queue is not None and not self.draining and self.engine.is_ready

    def reader_of(self, model: ServedModel) -> RequestReader:
        """Return what reads the requests for a model of the table."""
        found = self._readers.get((model.key, model.digest))
        return found or self._make_reader(model)  # it may have gone after it was found

    def reader_for(self, name: str, version: str | None) -> tuple[ServedModel, RequestReader]:
        """Return the model that is asked for inference, and what reads the requests for it.

        Where a name has no current version any more, a retired one stands for it: streams go on, and nothing begins.

        Raises:
            UnknownModel: there is none.
        """
        last = self._last_readers.get(name) if version is None else None
        if last is not None:
            return self.table.any_of(name), last
        model = self.table.find(name, version)
        return model, self.reader_of(model)

    def start_queue(self) -> None:
        """Take requests from now on, on this event loop."""
        self.queue = WorkQueue(_LARGE_AT_A_TIME, self.settings.max_waiting)

    def open_queue(self) -> WorkQueue:
        """Return the queue. A request that came before draining began is still answered.

        Raises:
            NotReady: the server has not started, or has stopped, or there is no engine at the moment.
        """
        if self.queue is None or not self.engine.is_ready:
            raise NotReady
        return self.queue

    def open_room(self) -> WorkQueue:
        """Return the queue for a request for inference, before anything of it is read.

        Raises:
            NotReady: as `open_queue`.
            QueueFull: as many requests wait as may wait.
        """
        queue = self.open_queue()
        if not self.engine.has_room():
            raise QueueFull(self.settings.max_waiting)
        return queue

    def stop_live(self) -> None:
        """Have the connections that stay answer what they have read, and end."""
        for connection in tuple(self.live):
            connection.stop()
