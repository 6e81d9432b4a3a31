"""Steps of our own that can be left out, because a kernel does them on the way.

- An LSTM reads its input with the batch first; nobody puts the time first for it alone.
- Nobody clears the steps after a row's end where only another LSTM with the same lengths reads them, and nobody writes
  steps that nobody reads.
- Layers write their last states where the states of all layers lie one after the other.

Rules of this file: pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from .steps import Concat, Lstm, Squeeze, Stage, Step, Swap

_DIRECTIONS = (1,)  # axes that a squeeze takes from y [T, 1, B, H]
Home = tuple[str, int, int]  # name of the whole, place in it, how many there are


def fuse(stages: Sequence[Stage], outputs: Sequence[str]) -> list[Stage]:
    """Return the stages with less to do.

    Args:
        stages: of `cut`.
        outputs: of the graph.
    """
    readers = _Readers(stages, outputs)
    swapped = {step.outputs[0]: step.inputs[0] for step in _steps(stages) if isinstance(step, Swap)}
    made = [[_lstm(step, readers, swapped) if isinstance(step, Lstm) else step for step in s.steps] for s in stages]
    unread = {name for name in swapped if all(_is_sequence_of(step, name) for step in readers.of(name))}
    kept = [[step for step in steps if step.outputs[0] not in unread] for steps in made]
    return [Stage(nodes=stage.nodes, steps=steps) for stage, steps in zip(stages, kept, strict=True)]


def homes(stages: Sequence[Stage]) -> dict[str, Home]:
    """Return where outputs of layers belong that are concatenated, and nothing but outputs of layers is among them."""
    of_layers = {name for step in _steps(stages) if isinstance(step, Lstm) for name in step.outputs[1:]}
    found: dict[str, Home] = {}
    for step in _steps(stages):
        if not isinstance(step, Concat) or len(set(step.inputs)) != len(step.inputs):
            continue
        if of_layers.issuperset(step.inputs) and not found.keys() & set(step.inputs):  # nothing has two homes
            found |= {name: (step.outputs[0], place, len(step.inputs)) for place, name in enumerate(step.inputs)}
    return found


def _lstm(step: Lstm, readers: "_Readers", swapped: Mapping[str, str]) -> Lstm:
    x = step.inputs[0]
    if x in swapped:
        step = replace(step, inputs=(swapped[x], *step.inputs[1:]), batch_first=True)
    y = step.outputs[0]
    if not y or not readers.is_read(y):
        return replace(step, outputs=("", *step.outputs[1:]))
    return replace(step, clears=not all(_reads_as_far(reader, name, step) for reader, name in readers.through(y)))


def _is_sequence_of(reader: Step | None, name: str) -> bool:
    """Whether a reader is a layer over these values, which are not its states."""
    return isinstance(reader, Lstm) and reader.inputs[0] == name and name not in reader.inputs[1:]


def _reads_as_far(reader: Step | None, name: str, step: Lstm) -> bool:
    """Whether a reader reads no step after a row's end."""
    return _is_sequence_of(reader, name) and reader is not None and reader.inputs[1] == step.inputs[1]


class _Readers:
    """Who reads what: steps, and None for the runtime and whoever asks for the graph's outputs."""

    def __init__(self, stages: Sequence[Stage], outputs: Sequence[str]) -> None:
        self._readers: dict[str, list[Step | None]] = {name: [None] for name in outputs}
        for stage in stages:
            for node in stage.nodes:
                for name in (*node.inputs, *node.inner):
                    self._readers.setdefault(name, []).append(None)
            for step in stage.steps:
                for name in step.inputs:
                    self._readers.setdefault(name, []).append(step)

    def of(self, name: str) -> list[Step | None]:
        return self._readers.get(name, [])

    def is_read(self, name: str) -> bool:
        return bool(self.of(name))

    def through(self, name: str) -> Iterator[tuple[Step | None, str]]:
        """Yield who reads a layer's y, through the squeeze that takes its directions away, and by which name."""
        for reader in self.of(name):
            if isinstance(reader, Squeeze) and reader.axes == _DIRECTIONS:
                squeezed = reader.outputs[0]
                yield from ((one, squeezed) for one in self.of(squeezed))
            else:
                yield reader, name


def _steps(stages: Sequence[Stage]) -> Iterator[Step]:
    return (step for stage in stages for step in stage.steps)
