"""How a foreign module takes the state of its recurrent layers: with their axis or without, and how that of several.

Rules of this file: pure; which form a module takes is found out on runs (input_probe.py, probes.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

Arranged = Literal["by layer", "by name", "stacked", "apart"]


@dataclass(frozen=True, slots=True)
class StateForm:
    """What a module takes for its state.

    Attributes:
        squeezed: whether a tensor of one layer comes without the axis of layers, [B, width].
        arranged: of several recurrent layers: a list with the state of each, [(h, c), (h, c)]; a list for each name,
            ([h, h], [c, c]); all in one tensor for each name, [L, B, width]; or every tensor by itself.
    """

    squeezed: bool = False
    arranged: Arranged = "by layer"

    def of(self, layers: Sequence[Sequence[Tensor]], arguments: int) -> list[Any]:
        """Return what to hand over for each of ``arguments``.

        Args:
            layers: for each recurrent layer its tensors [L*D, B, width], hidden before cell.
            arguments: how many of forward's are for the state.

        Raises:
            ValueError: there are more or fewer parts than arguments.
            RuntimeError: the layers are of unlike widths, and their tensors are to be one.
        """
        if self.squeezed:
            layers = [[tensor.squeeze(0) for tensor in tensors] for tensors in layers]
        parts = self._parts(layers)
        if arguments == 1:
            return [parts[0] if len(parts) == 1 else parts]
        if len(parts) != arguments:
            raise ValueError(f"the state has {len(parts)} parts, expected {arguments}")
        return list(parts)

    def _parts(self, layers: Sequence[Sequence[Tensor]]) -> Any:
        """Return what several arguments are handed, one each; a tuple where one argument takes all as torch would."""
        if len(layers) == 1:
            return tuple(layers[0])
        if self.arranged == "by layer":
            return [tensors[0] if len(tensors) == 1 else tuple(tensors) for tensors in layers]
        if self.arranged == "apart":
            return [tensor for tensors in layers for tensor in tensors]
        named = zip(*layers, strict=True)
        return tuple(torch.cat(tensors) if self.arranged == "stacked" else list(tensors) for tensors in named)


def unbundled(state: Any) -> list[Tensor]:
    """Return the tensors of a state as a layer or a cell takes or gives it: one, or several in a tuple or list."""
    return [state] if isinstance(state, Tensor) else list(state)


def state_forms(first: StateForm, layers: int) -> Iterator[StateForm]:
    """Yield the forms to try for a module of so many recurrent layers, ``first`` and what is usual first."""
    arrangements: tuple[Arranged, ...] = ("by layer", "by name", "stacked", "apart")
    for arranged in arrangements if layers > 1 else arrangements[:1]:
        yield replace(first, arranged=arranged)
        yield replace(first, arranged=arranged, squeezed=not first.squeezed)
