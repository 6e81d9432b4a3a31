"""The sequences of a load: of drawn lengths, with made-up values, cut into parts where they go as streams.

Rules of this file: pure; the same plan and model give the same bytes. Values are standard normal, tokens uniform over
the vocabulary: a network's cost does not depend on them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from .address import Address
from .errors import ModelError
from .infer_request import Body, Part, Writer
from .lengths import Lengths
from .model_facts import ColumnFacts, ModelFacts

StreamState = Literal["client", "server"]
Array = NDArray[Any]

_POOL: Final = 1024  # different requests; a load goes round them
_POOL_BYTES: Final = 2**27
_LEAST: Final = 32


@dataclass(frozen=True, slots=True)
class Job:
    """One request with all its rows, or one stream with all its parts.

    Attributes:
        length: steps of its longest row.
        parts: sent one after another, each after the answer to the one before.
    """

    length: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobPlan:
    """What to make.

    Attributes:
        lengths: of the sequences.
        rows: sequences of one request, 1 or more.
        body: how tensors are written.
        stream_steps: steps of a part; None sends sequences whole.
        stream_state: who keeps the state between parts.
        seed: of lengths and values.
    """

    lengths: Lengths
    rows: int = 1
    body: Body = "binary"
    stream_steps: int | None = None
    stream_state: StreamState = "client"
    seed: int = 0


def make_jobs(address: Address, facts: ModelFacts, plan: JobPlan) -> tuple[Job, ...]:
    """Make the requests of a load: up to 1,024 different ones, fewer where they take more than 128 MiB.

    Raises:
        ModelError: streams are asked of a network that carries no state, or a length is below what it takes.
    """
    _check_streams(facts, plan)
    return tuple(_until_full(_jobs(address, facts, plan)))


def _check_streams(facts: ModelFacts, plan: JobPlan) -> None:
    if plan.stream_steps is None or facts.streamable:
        return
    found = "that its parts do not give what the whole gives (streamable is not true)"
    raise ModelError(f"model {facts.name}", "a network that can be streamed", found, "leave out --stream-steps")


def _until_full(jobs: Iterator[tuple[Job, int]]) -> Iterator[Job]:
    size = 0
    for count, (job, job_bytes) in enumerate(jobs):
        if count >= _LEAST and size + job_bytes > _POOL_BYTES:
            return
        size += job_bytes
        yield job


def _jobs(address: Address, facts: ModelFacts, plan: JobPlan) -> Iterator[tuple[Job, int]]:
    writer = Writer(address=address, model=facts.name, body=plan.body)
    random = np.random.default_rng([plan.seed, 1])
    # Rows of a stream are constant, and a network without lengths takes rows of one length: one length for all rows.
    alike = plan.stream_steps is not None or facts.lengths is None
    drawn = plan.lengths.draw(_POOL * (1 if alike else plan.rows), plan.seed)
    if drawn.min() < facts.least_steps:
        expected = f"sequences of at least {facts.least_steps} steps"
        raise ModelError(f"model {facts.name}", expected, f"one of {drawn.min()}", "look at --lengths")
    if facts.most_steps is not None and drawn.max() > facts.most_steps:
        expected = f"sequences of at most {facts.most_steps} steps"
        raise ModelError(f"model {facts.name}", expected, f"one of {drawn.max()}", "look at --lengths")
    for lengths in np.repeat(drawn, plan.rows).reshape(_POOL, -1) if alike else drawn.reshape(_POOL, -1):
        values = _values(facts, lengths, random)
        if plan.stream_steps is None:
            parts: Sequence[Part] = [_whole(writer, facts, values, lengths)]
        else:
            parts = _stream(writer, facts, values, plan.stream_steps, plan.stream_state)
        factor = 5 if plan.body == "json" else 1  # a JSON number takes about so much more than 4 bytes
        yield Job(int(lengths.max()), tuple(parts)), values.nbytes * factor + 1024 * len(parts)


def _values(facts: ModelFacts, lengths: NDArray[np.int64], random: np.random.Generator) -> Array:
    """Return x float32 [B, T, I], zero at and after a row's length, or tokens int64 [B, T]."""
    shape = (len(lengths), int(lengths.max()))
    if facts.vocabulary_size is not None:
        return random.integers(0, facts.vocabulary_size, shape)
    x: Array = random.standard_normal((*shape, facts.features or 1), dtype=np.float32)
    start = 0
    for column in facts.columns:
        part = x[..., start : start + column.width]
        part[:] = _allowed(column, part, random)
        start += column.width
    x[np.arange(shape[1]) >= lengths[:, None]] = 0
    return x


def _allowed(column: ColumnFacts, drawn: Array, random: np.random.Generator) -> Array:
    """Return values for some columns that they take, where ``drawn`` would be any number."""
    if column.values == "whole":
        return random.integers(0, column.counts, drawn.shape)
    if column.values == "mark":
        return random.integers(0, 2, drawn.shape)
    return np.abs(drawn) if column.values == "not negative" else drawn


def _whole(writer: Writer, facts: ModelFacts, values: Array, lengths: NDArray[np.int64]) -> Part:
    tensors = {facts.sequence: values}
    if facts.lengths is not None and len(lengths) > 1:
        tensors[facts.lengths] = lengths.astype(np.int32)
    return writer.whole(tensors, int(lengths.sum()))


def _stream(writer: Writer, facts: ModelFacts, values: Array, steps: int, keeper: StreamState) -> list[Part]:
    parts: list[Part] = []
    length, rows = values.shape[1], values.shape[0]
    for begin in range(0, length, steps):
        chunk = {facts.sequence: np.ascontiguousarray(values[:, begin : begin + steps])}
        count, is_last = rows * chunk[facts.sequence].shape[1], begin + steps >= length
        outputs = [facts.answer, *(() if is_last else (state.output for state in facts.states))]
        if keeper == "server":
            parts.append(writer.numbered(chunk, count, start=begin == 0, end=is_last))
        elif begin == 0:
            parts.append(writer.whole(chunk, count, outputs))
        else:
            parts.append(writer.carried(chunk, count, outputs, facts.states))
    return parts
