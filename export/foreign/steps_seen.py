"""What the recurrent layers of a foreign module see of the steps that it is given.

A front that pools, strides or convolves without padding hands its recurrent layer fewer steps than came in. Such a
layer knows nothing of a row's length, so it gets none from the Carry; only what the module itself makes of its lengths
counts.

Rules of this file: counts are read off runs, never off the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from .input_trial import PROBES, example

if TYPE_CHECKING:
    from .network import ForeignNetwork

_FEWEST_SEEN: Final = 3  # by a layer behind a front: one step and two are special to much code, and to a capture
_LEFT_OVER: Final = 16  # by the strides of a front, taken together
_FEW_LEFT_OVER: Final = 5
_FAR_AHEAD: Final = 140  # steps that a shift or a dilated convolution may look ahead


@torch.no_grad()
def find_steps_seen(network: ForeignNetwork) -> None:
    """Find which layers see another number of steps than is given, and a pair of numbers that tells it.

    A layer that sees a fixed number, as a decoder does, gets no lengths either, and does not shorten anything.
    """
    runs: dict[int, dict[int, frozenset[int]]] = {}
    behind_front: set[int] = set()
    for pair in (pair for pair in PROBES if pair[0] >= network.probe_steps[0]):
        runs |= _runs(network, pair)
        layers = {number for seen in runs.values() for number in seen}
        deaf = {n for n in layers if any(steps not in seen.get(n, {steps}) for steps, seen in runs.items())}
        behind_front = {n for n in deaf if len({seen[n] for seen in runs.values() if n in seen}) > 1}
        network.carry.deaf, network.behind_front = deaf, frozenset(behind_front)
        if not _tells(runs, network.probe_steps, behind_front) and _tells(runs, pair, behind_front):
            network.probe_steps = pair
        # The first pair alone tells too little; and where all layers see a fixed number, a wide stride may be why.
        if pair != PROBES[0] and _tells(runs, network.probe_steps, behind_front) and (behind_front or deaf != layers):
            return


def _runs(network: ForeignNetwork, pair: tuple[int, int]) -> dict[int, dict[int, frozenset[int]]]:
    """Return, for each number of steps for which the module runs, the numbers of steps that each layer saw."""
    found: dict[int, dict[int, frozenset[int]]] = {}
    for steps in pair:
        try:
            network.call(example(network, steps))
        except Exception:  # noqa: BLE001 - a stranger's forward may fail in any way
            return found
        found[steps] = {number: frozenset(seen) for number, seen in network.carry.steps.items()}
    return found


def _tells(
    runs: Mapping[int, Mapping[int, frozenset[int]]], pair: tuple[int, int], behind_front: AbstractSet[int]
) -> bool:
    """Whether the layers behind a front see several steps for both numbers, and not equally many."""
    if not runs.keys() >= set(pair):
        return not behind_front
    seen = [[max(runs[steps].get(number, {0})) for steps in pair] for number in behind_front]
    return all(counts[0] != counts[1] and min(counts) >= _FEWEST_SEEN for counts in seen)


def lengths_to_try(network: ForeignNetwork) -> list[tuple[int, Tensor]]:
    """Return numbers of steps with a length for each row of a probe; not sorted, for some modules sort them.

    The last has many steps, for what looks far ahead sees no padding in few. With a front, or an answer for fewer
    steps, there are more, for a module may be right by its lengths only where its stride leaves nothing over, of them
    or of the padded steps.
    """
    least, steps = network.least_steps, network.probe_steps[1]
    far = steps + _FAR_AHEAD if network.most_steps is None else min(steps + _FAR_AHEAD, network.most_steps)
    last = (far, torch.tensor([least + (far - least) // 2, far, least, far - 1, steps]))
    if network.sees_steps and network.answer_axis.is_every_step:
        return [(steps, torch.tensor([least + (steps - least) // 2, steps, least])), last]
    several = [
        (T, torch.tensor([least + (T - least) // 2, T, least, *range(max(least, T - left_over) + 1, T)]))
        for T, left_over in ((steps, _LEFT_OVER), (steps + 1, _FEW_LEFT_OVER))
    ]
    return [*several, last]
