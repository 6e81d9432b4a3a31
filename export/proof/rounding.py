"""How rounding wanders through time: the state of every cell, nudged after each step.

An activation that a library approximates is off by the same few units at every step. In a network that forgets, that
fades; one whose forget gate stands at 1 adds it up, as many times as there are steps, and no nudge of its weights would
show it. So the oracle's draws nudge the state itself after each step, by a share of itself and by a share of 1, with
signs that are drawn once for each unit and stay, since an approximation errs to one side.

Rules of this file: it nudges whatever state it is given, in NumPy or torch, and knows no cell.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

F64 = NDArray[np.float64]


class Drift:
    """Nudges state tensors [B, width], in order of the cell's declaration, float64.

    Args:
        random: draws the signs, once for each place and width.
        size: of the nudge, relative to the state and absolute.
    """

    def __init__(self, random: np.random.Generator, size: float) -> None:
        self._random = random
        self._size = size
        self._nudges: dict[tuple[int, int], tuple[F64, F64]] = {}

    def nudge(self, place: int, width: int) -> tuple[F64, F64]:
        """Return (factor, summand), each [width], for the state tensor at ``place``."""
        if (place, width) not in self._nudges:
            signs = self._random.choice([-1.0, 1.0], (2, width)) * self._size
            self._nudges[place, width] = (1.0 + signs[0], signs[1])
        return self._nudges[place, width]

    def __call__(self, state: tuple[F64, ...]) -> tuple[F64, ...]:
        """Return the state, nudged."""
        nudges = [self.nudge(place, tensor.shape[1]) for place, tensor in enumerate(state)]
        return tuple(tensor * factor + summand for tensor, (factor, summand) in zip(state, nudges, strict=True))


class DriftingCell(nn.Module):
    """A cell whose state drifts: the same protocol, float64, for the oracle's copies of a network."""

    def __init__(self, cell: nn.Module, drift: Drift) -> None:
        super().__init__()
        self.cell = cell
        self._drift = drift
        self._nudges: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # the drift's, as tensors

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """As the cell's own, with a nudged state; an output that is a state is nudged alike."""
        output, new = self.cell(x, state)
        tensors = [new] if isinstance(new, Tensor) else list(new)
        nudged = [self._nudged(place, tensor) for place, tensor in enumerate(tensors)]
        output = next((after for before, after in zip(tensors, nudged, strict=True) if before is output), output)
        return output, nudged[0] if isinstance(new, Tensor) else nudged if isinstance(new, list) else tuple(nudged)

    def _nudged(self, place: int, tensor: Tensor) -> Tensor:
        key = (place, tensor.shape[1])
        if key not in self._nudges:
            factor, summand = self._drift.nudge(*key)
            self._nudges[key] = torch.from_numpy(factor), torch.from_numpy(summand)
        factors, summands = self._nudges[key]
        return tensor * factors + summands
