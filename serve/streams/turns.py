"""The turn of a stream's head: it is judged by the stream's record, and runs, is written, answered or refused.

    find the record -> judge -> run on the engine -> commit

Rules of this file: synchronous, and it never waits: where the store or the engine has to do something first, the turn
goes on when that is done. Whatever it refuses is doubted first, where others write to the store too.
"""

from dataclasses import replace

from ..arrays import Array
from ..engine.engine import Engine
from ..engine.work import Outcome, StreamAnswer, StreamOrder, StreamReport, Work
from ..errors import EngineError, ServeError
from ..stream_errors import ModelChanged, StoreUnavailable, StreamDamaged, StreamsFull
from .answers import Answers
from .judge import RunStep, judge
from .order import decide_order
from .payload import payload_hash
from .record import StreamRecord
from .served_streams import ServedStreams
from .store_client import StoreClient
from .stream_counts import StreamCounts
from .table import Entry, Held, Phase, StreamTable
from .versions import Versions


class Turns:
    """What becomes of the heads of the queues.

    Args:
        engine: runs what is to be run; a request is its own ticket there.
        versions: that are served.
        table: the streams that somebody waits for.
        client: asks the store.
        answers: to those who wait.
        counts: of what happens to streams.
        max_record_bytes: of a record that is given out.
    """

    def __init__(
        self,
        engine: Engine,
        versions: Versions,
        table: StreamTable,
        client: StoreClient,
        answers: Answers,
        counts: StreamCounts,
        max_record_bytes: int,
    ) -> None:
        self._engine = engine
        self._versions = versions
        self._table = table
        self._client = client
        self._room = client.room
        self._answers = answers
        self._counts = counts
        self._max_record_bytes = max_record_bytes

    def take(self, entry: Entry) -> None:
        """Decide about the head of a queue, if there is one and its stream's record is at hand."""
        if not entry.queue or entry.phase is not Phase.DUE or not self._has_record(entry):
            return
        held = entry.queue[0]
        try:
            if isinstance(held.work, StreamOrder):
                self._carry_out(entry, held.work)
                return
            verdict = self._verdict(entry, held, held.work)
        except ServeError as err:
            if isinstance(err, StreamsFull):
                self._client.sweep.hurry()
            if not self._client.doubts(entry):
                self._answers.end_head(entry, err)
            return
        if isinstance(verdict, RunStep):
            self._run(entry, held, held.work, verdict)
        elif not self._client.doubts(entry):
            self._counts.replayed(entry.key.model)
            self._answers.end_head(entry, verdict)

    def take_run(self, held: Held, outcome: Outcome) -> None:
        """The engine is done with a request: what it found goes to the store."""
        entry, work = held.entry, held.work
        if isinstance(outcome, ServeError):
            self._give_up(entry, outcome)
            return
        assert isinstance(outcome, dict)
        assert isinstance(work, Work)
        try:
            record = held.model_that_runs.record_of(
                work, outcome, step=held.step, revision=0, payload=held.payload, now_s=self._client.now_s()
            )
        except ServeError as err:
            self._give_up(entry, err)
            return
        held.outputs = outcome if record.answer is None else record.answer
        self._client.commit(entry, record)

    def stop_run(self, held: Held) -> None:
        """Nobody waits for a request that runs: it is stopped and not applied."""
        self._engine.cancel(held)
        self._give_up(held.entry)

    def _has_record(self, entry: Entry) -> bool:
        """Whether the head can be judged; if not, it is refused, or waits for the store."""
        if self._client.is_late:
            self._answers.end_head(entry, StoreUnavailable())
            return False
        return self._client.find(entry)

    def _carry_out(self, entry: Entry, order: StreamOrder) -> None:
        """Do what an order says; what writes goes to the store first."""
        now_s = self._client.now_s()
        record = self._client.record_at(entry, now_s)
        decided = decide_order(order, record, self._versions, now_s, self._max_record_bytes)
        if isinstance(decided, StreamReport):
            if not self._client.doubts(entry):
                self._answers.end_head(entry, decided)
            return
        if order.kind == "bring":
            self._versions.note_brought(order.model, decided.digest)
        growth = decided.size_bytes - (0 if record is None else record.size_bytes)
        self._room.take(entry, growth, is_new=decided.ended is None)
        self._client.commit(entry, decided)

    def _verdict(self, entry: Entry, held: Held, work: Work) -> RunStep | StreamAnswer:
        """Judge a request; where it is to run, its room is set aside."""
        assert work.stream is not None
        asked = self._versions.find(work.model)
        if held.payload is None and work.stream.step is not None:
            held.payload = payload_hash(work)
        record = self._client.record_at(entry, self._client.now_s())
        began = self._versions.going_on(asked, record)
        verdict = self._judge(record, work, began, held.payload)
        # A stream that begins now, even in the place of a live one, begins in the version that was asked for.
        model = held.model = asked if isinstance(verdict, RunStep) and work.stream.is_start else began
        held.version = None if model is asked else model.version
        if isinstance(verdict, RunStep):
            if record is not None and not work.stream.is_start and not model.fits(record):
                raise StreamDamaged(work.stream.id, "the states of the model", "others")
            self._room.take(entry, model.growth_bytes(work, record), is_new=record is None or record.ended is not None)
            return verdict
        if tuple(verdict.outputs) != work.outputs:
            raise EngineError("store of streams: expected the answer to the request, found another")
        return verdict if held.version is None else replace(verdict, version=held.version)

    def _judge(
        self, record: StreamRecord | None, work: Work, began: ServedStreams, payload: bytes | None
    ) -> RunStep | StreamAnswer:
        """Judge a request; who goes on in the wrong version is told the right one, where that is there."""
        try:
            return judge(record, work, began.digest, payload)
        except ModelChanged as err:
            there = self._versions.of_bundle(began.name, err.began)
            if there is None or work.stream is None:
                raise
            raise ModelChanged(work.stream.id, err.began, began.digest, there.version) from None

    def _run(self, entry: Entry, held: Held, work: Work, verdict: RunStep) -> None:
        held.step = verdict.step
        try:
            self._engine.submit(held, _work_to_run(work, verdict.states, held.model_that_runs))
        except ServeError as err:
            self._give_up(entry, err)
            return
        self._table.run(entry)

    def _give_up(self, entry: Entry, err: ServeError | None = None) -> None:
        """A run came to nothing, or never began: its room is free again."""
        self._room.give_back(entry)
        self._answers.end_head(entry, err)


def _work_to_run(work: Work, states: tuple[Array | None, ...], model: ServedStreams) -> Work:
    """Return the work as this version runs it from these states: a copy, several times as quick as `replace`."""
    return Work(
        model=model.key,
        sequence=work.sequence,
        lengths=work.lengths,
        states=states,
        outputs=model.outputs_to_run(work),
        priority=work.priority,
        deadline_s=work.deadline_s,
        times=work.times,
    )
