"""Where an engine's models come and go while it serves: load, unload, and the end of what was replaced.

    load NAME            the highest version that lies in the repository, or what lies at the name's place, is opened
                         beside the engine and becomes current; the one before stays for its streams
    load NAME VERSION    that one; where it is still there it becomes current at once
    unload NAME          no version is current any more; streams go on to their end
    unload NAME VERSION  that one; where it was retired it goes at once, and its streams with it

Rules of this file: one thread owns it, the engine's. It decides nothing about versions (`roster` does) and opens
nothing (`model_loader` does). Whoever asked is told when every frontend goes by the change (`change_answers`).
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from ..engine.models import EngineModel
from ..errors import LoadRefused, NotReady, ServeError
from ..models.control_port import ControlAction
from ..models.model_table import unknown_model
from ..observe.counter_layout import CounterLayout
from ..settings import Settings
from .change_answers import ChangeAnswers
from .desk import OnControl
from .frames import Kind, pack_json
from .model_loader import LoadJob, ModelLoader
from .roster import Entry, Roster
from .tensor_frames import ModelCodec

logger = logging.getLogger("cellgate.engine")

_LOOK_AGAIN_S: Final = 0.05  # at a model that is to be closed and still at work


class ChangingEngine(Protocol):
    """What the desk needs of an engine; `engine.Engine` says what each does."""

    def add(self, model: EngineModel) -> None: ...  # noqa: D102
    def prefer(self, name: str, key: str | None) -> None: ...  # noqa: D102
    def uses_of(self, key: str) -> int: ...  # noqa: D102
    def is_idle(self, key: str) -> bool: ...  # noqa: D102
    def remove(self, key: str) -> None: ...  # noqa: D102


class ModelDesk:
    """The models of an engine that serves.

    Args:
        engine: that serves them.
        roster: of what it holds.
        loader: opens further ones.
        settings: of the server.
        layout: of the counters, which has a place for so many names.
        report: tells the supervisor the hello, so that an engine that starts again serves the same.
        clock: monotonic, in seconds.

    Attributes:
        codecs: see `desk`.
        next_look_s: when `look` is to be called at the latest, or None; 0.0: at once.
    """

    def __init__(
        self,
        engine: ChangingEngine,
        roster: Roster,
        loader: ModelLoader,
        settings: Settings,
        layout: CounterLayout,
        report: Callable[[Any], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._roster = roster
        self._loader = loader
        self._settings = settings
        self._layout = layout
        self._report = report
        self._clock = clock
        self._asked: dict[LoadJob, OnControl] = {}
        self._answers = ChangeAnswers()
        self._said = roster.generation  # of the last hello
        self.codecs: dict[int, ModelCodec] = {}
        for entry in roster:
            self._add_codec(entry)
            if not entry.is_current:  # of an engine that died: how long its streams have been idle is not known
                roster.retire(entry, 0, clock() + self._linger_s(entry))
        self.next_look_s = roster.next_look_s

    def hello(self) -> bytes:
        """Return the frame that says what is served."""
        return pack_json(Kind.HELLO, 0, self._roster.hello())

    def control(self, action: ControlAction, name: str, version: str | None, on_done: OnControl) -> None:
        """Load or unload a model, or give up; see `Desk`."""
        self.next_look_s = 0.0
        if action == "give_up":
            for job in self._loader.give_up():
                self._asked.pop(job)(NotReady())
            on_done({})
            return
        if action == "load":
            job = LoadJob(name, version)
            self._asked[job] = on_done
            self._loader.post(job)
            self._loader.begin(self._roster.versions)
            return
        try:
            entry = self._find(name, version)
        except ServeError as err:
            on_done(err)
            return
        self._unload(entry)
        self._publish(entry, "unloaded", on_done)

    def look(self, taken: float) -> bool:
        """Go on with whatever can go on; see `Desk`."""
        now = self._clock()
        if (job := self._loader.take()) is not None:
            self._finish(job, self._asked.pop(job))
            self._loader.begin(self._roster.versions)
        self._withdraw(now)
        self._close_gone(taken)
        self._answers.tell(taken, now)
        self._plan_next_look(now)
        said, self._said = self._said, self._roster.generation
        return self._said != said

    def close(self) -> None:
        """Tell whoever waits that the engine ends."""
        waiting = [*self._asked.values(), *self._answers.take()]
        self._asked.clear()
        self._loader.close()
        for on_done in waiting:
            on_done(NotReady())

    def _find(self, name: str, version: str | None) -> Entry:
        entry = self._roster.current(name) if version is None else self._roster.find(name, version)
        if entry is None:
            served = (entry.model.served for entry in self._roster if entry.left_at is None)
            raise unknown_model(name if version is None else f"{name}/{version}", served)
        return entry

    def _unload(self, entry: Entry) -> None:
        now, uses = self._clock(), self._engine.uses_of(entry.key)
        if entry.is_current:
            self._engine.prefer(entry.name, None)
            self._roster.retire(entry, uses, now + self._linger_s(entry))
        else:
            self._roster.look(entry, entry.uses, now, 0.0)

    def _finish(self, job: LoadJob, on_done: OnControl) -> None:
        """A job is done: serve what it opened."""
        try:
            entry = self._entry_of(job)
        except ServeError as err:
            logger.warning("model %s: not loaded: %s", job.name, err)
            on_done(err)
            return
        before = self._roster.current(entry.name)
        if before is entry:
            on_done(_value(entry, "loaded"))
            return
        uses, until_s = 0, 0.0
        if before is not None:
            uses, until_s = self._engine.uses_of(before.key), self._clock() + self._linger_s(before)
        self._roster.make_current(entry, uses, until_s)
        self._engine.prefer(entry.name, entry.key)
        self._publish(entry, "loaded", on_done)

    def _entry_of(self, job: LoadJob) -> Entry:
        """Return the version that a job is about.

        Raises:
            ServeError: it cannot be served.
        """
        if job.error is not None:
            raise job.error
        if job.same is not None:
            found = self._roster.find(job.name, job.same)
            if found is None:
                remedy = "load it again"
                raise LoadRefused(f"model {job.name}", "the version that was there", "that it was just closed", remedy)
            return found
        model = job.model
        assert model is not None
        try:
            self._layout.add(model.served.name)
        except IndexError as err:
            model.runtime.close()
            most = len(self._layout.models)
            remedy = "start the server again"
            raise LoadRefused("models", f"at most {most} names since the start", "another one", remedy) from err
        self._engine.add(model)
        entry = self._roster.add(model, model.plan_line(self._settings), is_current=False)
        self._add_codec(entry)
        return entry

    def _add_codec(self, entry: Entry) -> None:
        graph = entry.model.served.manifest.graph
        self.codecs[entry.number] = ModelCodec(entry.number, entry.key, graph)

    def _publish(self, entry: Entry, what: str, on_done: OnControl) -> None:
        """The models have changed: the supervisor knows first, for this process may die at any time."""
        self._roster.generation += 1
        logger.warning("model %s version %s: %s", entry.name, entry.version, what)
        self._report({"models": self._roster.hello()})
        self._answers.add(self._roster.generation, on_done, _value(entry, what), self._clock())

    def _withdraw(self, now: float) -> None:
        """Offer no more what has not been used for so long that no stream can live in it."""
        due = self._roster.due(now)
        gone = [
            entry
            for entry in due
            if self._roster.look(entry, self._engine.uses_of(entry.key), now, self._linger_s(entry))
        ]
        if gone:
            self._roster.generation += 1
            self._report({"models": self._roster.hello()})

    def _close_gone(self, taken: float) -> None:
        for entry in self._roster.gone(taken):
            if self._engine.is_idle(entry.key):
                self._engine.remove(entry.key)
                del self.codecs[entry.number]
                self._roster.remove(entry)
                logger.warning("model %s version %s: closed", entry.name, entry.version)

    def _plan_next_look(self, now: float) -> None:
        moments = [moment for moment in (self._answers.next_s, self._roster.next_look_s) if moment is not None]
        if self._roster.is_leaving:
            moments.append(now + _LOOK_AGAIN_S)
        self.next_look_s = min(moments, default=None)

    def _linger_s(self, entry: Entry) -> float:
        """Return how long a retired version stays unused: until a stream would expire; a request may be that slow."""
        settings = self._settings
        slow_s = settings.head_timeout_s + settings.body_timeout_s
        return max(slow_s, settings.stream_idle_s) if entry.model.served.manifest.streamable else slow_s


def _value(entry: Entry, what: str) -> dict[str, Any]:
    return {"name": entry.name, "version": entry.version, "state": what}
