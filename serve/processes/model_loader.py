"""Opens bundles on a thread beside the engine: read, digests checked, golden cases reproduced, costs measured.

    trial    first in a process of its own (`trial`), which may die of the bundle; not where `is_tried` is off
    open     then here, for the engine; what the trial measured is not measured again

Rules of this file: one at a time, in the order in which they were asked for. The thread touches nothing of the engine;
what it made is taken by whoever drives that. A failure is a sentence for whoever asked, and changes nothing.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ...bundle.errors import BundleError
from ..engine.models import EngineModel, open_engine_model
from ..errors import LoadRefused, NotReady, ServeError
from ..models.repository import Repository
from ..models.served_model import BundlePlace, ServedBundle, read_served_bundle
from ..settings import Settings
from ..start_errors import ServerStartError
from .tensor_frames import ModelCodec
from .trial import Trial

logger = logging.getLogger("cellgate.engine")


@dataclass(slots=True, eq=False)
class LoadJob:
    """A bundle to be opened.

    Attributes:
        name: of the model.
        version: asked for; None: the highest, or what lies at its place.
        held: digest of each version of the name that the engine holds.
        model: that was opened, or None.
        same: version that the engine holds already, where that is what lies there, or None.
        error: why there is neither.
    """

    name: str
    version: str | None
    held: Mapping[str, str] = field(default_factory=dict)
    model: EngineModel | None = None
    same: str | None = None
    error: ServeError | None = None


class ModelLoader:
    """The thread, and what waits for it.

    Args:
        repository: where bundles lie.
        settings: of the server.
        is_tried: whether a process of its own opens each bundle first. An engine that is embedded has none: it would
            start this program again.

    Attributes:
        waker: called by the thread when a job is done; whoever drives the engine sets it.
    """

    def __init__(self, repository: Repository, settings: Settings, *, is_tried: bool = False) -> None:
        self.waker: Callable[[], None] = lambda: None
        self._repository = repository
        self._settings = settings
        self._is_tried = is_tried
        self._trial = Trial(settings)
        self._waiting: deque[LoadJob] = deque()
        self._running: LoadJob | None = None
        self._is_done = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def post(self, job: LoadJob) -> None:
        """Queue a job. Its `held` is filled in when its turn comes, by `begin`."""
        self._waiting.append(job)

    def begin(self, held_of: Callable[[str], Mapping[str, str]]) -> None:
        """Begin the next job, unless one is at work.

        Args:
            held_of: returns the digests that the engine holds of a name.
        """
        if self._running is not None or not self._waiting:
            return
        job = self._running = self._waiting.popleft()
        job.held = dict(held_of(job.name))
        self._is_done.clear()
        self._trial = Trial(self._settings)
        self._thread = threading.Thread(target=self._run, args=(job,), name="cellgate-loader")
        self._thread.start()

    def take(self) -> LoadJob | None:
        """Return the job that is done, once."""
        if self._running is None or not self._is_done.is_set():
            return None
        job, self._running = self._running, None
        return job

    def give_up(self) -> list[LoadJob]:
        """End the trial that is at work, and return what had not begun, which is forgotten."""
        self._trial.stop()
        forgotten = list(self._waiting)
        self._waiting.clear()
        return forgotten

    def close(self) -> None:
        """Begin nothing more, and wait for what is at work. Closing twice is fine."""
        # The bundle is opened for nobody; but a process that ends in the middle of that is aborted by the runtime.
        self._is_closed = True
        self.give_up()
        if self._thread is not None:
            self._thread.join()
        if self._running is not None and self._running.model is not None:
            self._running.model.runtime.close()
        self._running = None

    def _run(self, job: LoadJob) -> None:
        try:
            self._open(job)
        except ServerStartError as err:
            job.error = LoadRefused("bundle", "one that this server can serve", str(err), "nothing was changed")
        except ServeError as err:
            job.error = err
        except BundleError as err:
            job.error = LoadRefused("bundle", "a whole one", str(err), "nothing was changed")
        except Exception:
            logger.exception("model %s: it could not be loaded", job.name)
            found = "a fault, which the server's log tells"
            job.error = LoadRefused("bundle", "one that this server can serve", found, "nothing was changed")
        self._is_done.set()
        self.waker()

    def _open(self, job: LoadJob) -> None:
        """Fill in what came of a job.

        Raises:
            BundleError, ServeError: it cannot be served.
        """
        if job.version is not None and job.version in job.held and not self._lies_there(job):
            job.same = job.version
            return
        read = read_served_bundle(self._repository.find(job.name, job.version))
        version = str(read.bundle.manifest.version)
        if job.held.get(version) == read.bundle.digest:
            job.same = version
            return
        if version in job.held:
            raise _other_of(read, version)
        ModelCodec(0, read.name, read.bundle.manifest.graph)  # refuses what no frame can carry
        measured = None
        if self._is_tried:
            measured = self._trial.prove(BundlePlace(read.bundle.path, read.name, read.bundle.digest))
        if self._is_closed:
            raise NotReady
        job.model = open_engine_model(read, self._settings, measured=measured)

    def _lies_there(self, job: LoadJob) -> bool:
        try:
            self._repository.find(job.name, job.version)
        except ServeError:
            return False
        return True


def _other_of(read: ServedBundle, version: str) -> LoadRefused:
    found = f"version {version} with other contents, which is served already"
    return LoadRefused(f"model {read.name}", "a version that is new", found, "export it with another --model-version")
