"""How modules of one step are called by hand, from the graph's states to the graph's states."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from .stepped_modules import I

Step = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]  # a step and the graph's states -> (y, states)


def one_state(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, new = module(x, state[0][0])
        return y, [new.unsqueeze(0)]

    return step


def layers(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, new = module(x, state[0])
        return y, [new]

    return step


def pair(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, new = module(x, (state[0][0], state[1][0]))
        return y, [tensor.unsqueeze(0) for tensor in new]

    return step


def pair_of_layers(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, new = module(x, (state[0], state[1]))
        return y, list(new)

    return step


def four(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h1, c1, h2, c2 = (tensor[0] for tensor in state)
        y, h1, h2, c1, c2 = module(x, h1, h2, c1, c2)
        return y, [tensor.unsqueeze(0) for tensor in (h1, c1, h2, c2)]

    return step


def cell_first(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, c, h, _ = module(x, state[1][0], state[0][0])
        return y, [h.unsqueeze(0), c.unsqueeze(0)]

    return step


def row_by_row(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        rows = [module(x[k : k + 1], state[0][:, k : k + 1]) for k in range(x.size(0))]
        return torch.cat([y for y, _ in rows]), [torch.cat([hidden for _, hidden in rows], 1)]

    return step


def delayed(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, new = module(x, state[0].view(x.size(0), 3, I))
        return y, [new.reshape(1, x.size(0), 3 * I)]

    return step


def pairs(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h1, c1, h2, c2 = (tensor[0] for tensor in state)
        y, new = module(x, [(h1, c1), (h2, c2)])
        return y, [tensor.unsqueeze(0) for one in new for tensor in one]

    return step


def alone(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h = module(x, state[0][0])
        return h, [h.unsqueeze(0)]

    return step


def pair_alone(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h, c = module(x, (state[0][0], state[1][0]))
        return h, [h.unsqueeze(0), c.unsqueeze(0)]

    return step


def new_names(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, _, c, h = module(x, state[0][0], state[1][0])
        return y, [h.unsqueeze(0), c.unsqueeze(0)]

    return step


def in_dict(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        given = module(x, state[0][0])
        return given["logits"], [given["hidden"].unsqueeze(0)]

    return step


def pair_in_dict(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        given = module(x, (state[0][0], state[1][0]))
        return given["y"], [tensor.unsqueeze(0) for tensor in given["state"]]

    return step


def stacked(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, new = module(x, torch.cat(state))
        return y, list(new.chunk(len(state)))

    return step


def rows_first(module: nn.Module) -> Step:
    def step(x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, new = module(x, state[0].transpose(0, 1))
        return y, [new.transpose(0, 1)]

    return step


def by_hand(step: Step, x: Tensor, state: list[Tensor]) -> list[np.ndarray]:
    said = []
    with torch.no_grad():
        for t in range(x.size(1)):
            y, state = step(x[:, t], state)
            said.append(y)
    return [torch.stack(said, 1).numpy(), *(tensor.numpy() for tensor in state)]
