"""What a head sees of what the stacks say over time: every step, the last real one, a mean, a maximum.

Rules of this file: functions that TorchScript compiles; a padded step never counts, and a pooling carries on what it
has seen, so that chunks give what one pass gives.
"""

from typing import Final

import torch
from torch import Tensor

READS: Final = ("every_step", "last_step", "mean", "max")


def mask_padding(y: Tensor, lengths: Tensor | None) -> Tensor:
    """Zero y [B, T, O] at t >= lengths[b]."""
    if lengths is None:
        return y
    real = torch.arange(y.size(1), device=y.device).unsqueeze(0) < lengths.unsqueeze(1)
    return torch.where(real.unsqueeze(2), y, torch.zeros_like(y))


def last_real_step(y: Tensor, lengths: Tensor | None) -> Tensor:
    """Return y [B, T, O] at t = lengths[b] - 1: [B, O]."""
    if lengths is None:
        return y[:, -1]
    last = (lengths.to(torch.int64) - 1).reshape(-1, 1, 1).expand(-1, 1, y.size(2))
    return y.gather(1, last).squeeze(1)


def carry_pool(
    kind: str, y: Tensor, lengths: Tensor | None, pool: Tensor, count: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Carry a mean or maximum over time on.

    Args:
        kind: "mean" or "max".
        y: [B, T, W], zero where padded.
        lengths: integer [B] or None.
        pool: [B, W], the sum or the maximum of the steps before (ignored where count is 0).
        count: [B, 1], the number of steps before.

    Returns:
        (pooled [B, W], pool, count).
    """
    steps = torch.full_like(count, y.size(1)) if lengths is None else lengths.to(count.dtype).unsqueeze(1)
    new_count = count + steps
    if kind == "mean":
        # Runtimes add up 10,000 steps one after the other; in float32 that would be the largest error of the network.
        total = pool + y.sum(1, dtype=torch.float64).to(pool.dtype)
        return total / new_count, total, new_count
    if lengths is not None:
        real = torch.arange(y.size(1), device=y.device).unsqueeze(0) < lengths.unsqueeze(1)
        y = y.masked_fill(~real.unsqueeze(2), float("-inf"))  # at least one step is real, so none survives
    highest = y.amax(1)
    new_pool = torch.where(count > 0, torch.maximum(pool, highest), highest)
    return new_pool, new_pool, new_count
