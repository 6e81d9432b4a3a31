"""What a cell does to random weights, inputs and states: the evidence by which it is recognised.

Rules of this file: it runs a copy of the cell and judges nothing; the draws are seeded, so the evidence is the same in
every run, and no global random state is touched.
"""

import copy
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

# Rows of very different magnitude, so that clipping and other branches show.
_MAGNITUDES: Final = (0.1, 0.5, 2.0, 10.0, 100.0, 1e3, 1e4)


@dataclass(frozen=True, slots=True)
class Probe:
    """What the cell did, in float64, with random weights: parameters, x [B, I], state and new state [B, H]."""

    weights: dict[str, Tensor]
    x: Tensor
    state: tuple[Tensor, ...]
    new_state: tuple[Tensor, ...]


def probe_cell(cell: nn.Module, input_dim: int, widths: list[int], seed: int) -> Probe | None:
    """Run a float64 copy of the cell with random weights.

    Args:
        cell: keeps the cell protocol; not changed.
        input_dim: I.
        widths: of its states.
        seed: of the draws.

    Returns:
        The evidence, or None where the cell does not run in float64, or its output is not its hidden state (the fused
        operators give that and nothing else).
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    scale = torch.tensor(_MAGNITUDES, dtype=torch.float64).unsqueeze(1)
    rows = len(_MAGNITUDES)
    try:
        copied = copy.deepcopy(cell).double().eval()
        with torch.no_grad():
            for parameter in copied.parameters():
                parameter.copy_(draw(*parameter.shape) * 0.7)
            x = draw(rows, input_dim) * scale / input_dim**0.5
            # The cell state meets no matrix and keeps its whole magnitude.
            state = tuple(draw(rows, w) * scale / (w**0.5 if k == 0 else 1.0) for k, w in enumerate(widths))
            output, new = copied(x, state[0] if len(state) == 1 else state)
    except Exception:  # noqa: BLE001 - a stranger's cell may be bound to its dtype or weights in any way
        return None
    new_state = (new,) if isinstance(new, Tensor) else tuple(new)
    if not torch.equal(output, new_state[0]) or any(a.dtype != torch.float64 for a in new_state):
        return None
    return Probe({name: p.detach() for name, p in copied.named_parameters()}, x, state, new_state)
