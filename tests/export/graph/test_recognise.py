"""Cells of other people's writing: recognised where they are an ONNX LSTM or GRU in disguise, and only there."""

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.graph.recognise import recognise
from cellgate.model import CoupledLSTMCell, GRUCell, LayerNormLSTMCell, LSTMCell, PeepholeLSTMCell, ProjectedLSTMCell

I, H = 3, 5
Step = Callable[..., Any]


def lstm(a: Tensor, c: Tensor, order: str = "ifgo", gate: Any = torch.sigmoid, squash: Any = torch.tanh) -> Any:
    parts = dict(zip(order, a.chunk(4, 1), strict=True))
    c = gate(parts["f"]) * c + gate(parts["i"]) * squash(parts["g"])
    h = gate(parts["o"]) * squash(c)
    return h, (h, c)


class Cell(nn.Module):
    """A cell with joint or separate linear maps, and a step that tests give."""

    def __init__(
        self, step: Step, *, blocks: int = 4, joint: str = "", biases: int = 2, states: int = 2, vectors: str = ""
    ) -> None:
        super().__init__()
        self.step, self.joint = step, joint
        if joint:
            self.both = nn.Linear(I + H, blocks * H, bias=biases > 0)
        else:
            self.of_hidden = nn.Linear(H, blocks * H, bias=biases > 1)
            self.of_input = nn.Linear(I, blocks * H, bias=biases > 0)
        for name in vectors:
            self.register_parameter(name, nn.Parameter(torch.randn(H)))
        self.state_spec = (("h", H), ("c", H))[:states]

    def forward(self, x: Tensor, state: Any) -> Any:
        h = state if isinstance(state, Tensor) else state[0]
        if self.joint:
            a = self.both(torch.cat([x, h] if self.joint == "xh" else [h, x], 1))
        else:
            a = self.of_input(x) + self.of_hidden(h)
        return self.step(self, a, state)


def plain(cell: Cell, a: Tensor, state: Any) -> Any:
    return lstm(a, state[1])


@pytest.mark.parametrize("order", ["".join(order) for order in list(permutations("ifgo"))[::5]])
def test_any_order_of_gates_is_recognised(order: str) -> None:
    form = recognise(Cell(lambda cell, a, state: lstm(a, state[1], order)), I)

    assert form is not None
    assert form.kind == "LSTM"
    assert tuple(order.index(gate) for gate in "iofg") == form.order
    assert form.activations == ("sigmoid", "tanh", "tanh")


@pytest.mark.parametrize("joint", ["", "xh", "hx"])
@pytest.mark.parametrize("biases", [0, 1, 2])
def test_matrices_joint_or_apart_and_any_count_of_biases_are_recognised(joint: str, biases: int) -> None:
    form = recognise(Cell(plain, joint=joint, biases=biases), I)

    assert form is not None
    assert joint == form.slots.joint


@pytest.mark.parametrize(
    ("gate", "squash", "names"),
    [
        (nn.Hardsigmoid(), torch.relu, ("hard_sigmoid", "relu", "relu")),
        (torch.sigmoid, nn.Softsign(), ("sigmoid", "softsign", "softsign")),
        (torch.tanh, torch.tanh, ("tanh", "tanh", "tanh")),
    ],
)
def test_other_activations_are_recognised(gate: Any, squash: Any, names: tuple[str, ...]) -> None:
    form = recognise(Cell(lambda cell, a, state: lstm(a, state[1], "fiog", gate, squash)), I)

    assert form is not None
    assert names == form.activations


def coupled_by_input(cell: Cell, a: Tensor, state: Any) -> Any:
    g, i, o = a.chunk(3, 1)
    i = torch.sigmoid(i)
    c = (1 - i) * state[1] + i * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return h, (h, c)


def coupled_by_forget(cell: Cell, a: Tensor, state: Any) -> Any:
    f, g, o = a.chunk(3, 1)
    f = torch.sigmoid(f)
    c = f * state[1] + (1 - f) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return h, (h, c)


@pytest.mark.parametrize(("step", "negated"), [(coupled_by_input, False), (coupled_by_forget, True)])
def test_coupling_is_recognised_both_ways(step: Step, negated: bool) -> None:
    form = recognise(Cell(step, blocks=3), I)

    assert form is not None
    assert form.input_forget
    assert bool(form.negated) == negated


def with_peepholes(names: str) -> Step:
    def step(cell: Cell, a: Tensor, state: Any) -> Any:
        i, f, g, o = a.chunk(4, 1)
        see = {gate: getattr(cell, name) for gate, name in zip("ifo", names, strict=True)}
        c = state[1]
        new = torch.sigmoid(f + see["f"] * c) * c + torch.sigmoid(i + see["i"] * c) * torch.tanh(g)
        h = torch.sigmoid(o + see["o"] * new) * torch.tanh(new)
        return h, (h, new)

    return step


@pytest.mark.parametrize("names", ["abc", "bca", "cab"])
def test_peepholes_are_recognised_by_what_they_do_and_not_by_their_names(names: str) -> None:
    form = recognise(Cell(with_peepholes(names), vectors="abc"), I)

    assert form is not None
    assert (names[0], names[2], names[1]) == form.peephole_order


def gru_step(*, late: bool, keeps_old: bool) -> Step:
    class Gru(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.of_input, self.of_hidden = nn.Linear(I, 3 * H), nn.Linear(H, 3 * H)
            self.state_spec = (("h", H),)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            (zx, rx, nx), (zh, rh, nh) = self.of_input(x).chunk(3, 1), self.of_hidden(h).chunk(3, 1)
            z, r = torch.sigmoid(zx + zh), torch.sigmoid(rx + rh)
            if not late:
                nh = nn.functional.linear(r * h, self.of_hidden.weight[2 * H :], self.of_hidden.bias[2 * H :])
            n = torch.tanh(nx + (r * nh if late else nh))
            new = (1 - z) * n + z * h if keeps_old else z * n + (1 - z) * h
            return new, new

    return Gru()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("keeps_old", [False, True])
def test_gru_is_recognised_in_both_conventions_and_with_the_reset_early_or_late(late: bool, keeps_old: bool) -> None:
    form = recognise(gru_step(late=late, keeps_old=keeps_old), I)

    assert form is not None
    assert form.kind == "GRU"
    assert late == form.linear_before_reset
    assert bool(form.negated) != keeps_old


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        (LSTMCell(I, H), "LSTM"),
        (LSTMCell(I, I, gate_activation="hard_sigmoid", cell_activation="softsign"), "LSTM"),
        (PeepholeLSTMCell(I, H, bias=False), "LSTM"),
        (CoupledLSTMCell(I, 1), "LSTM"),
        (GRUCell(I, 40), "GRU"),
        (LayerNormLSTMCell(I, H), None),
        (ProjectedLSTMCell(I, H, projection_dim=2), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_cells_of_the_house_are_known(cell: nn.Module, kind: str | None) -> None:
    form = recognise(cell, I)

    assert kind == (None if form is None else form.kind)


def clipped(limit: float) -> Step:
    def step(cell: Cell, a: Tensor, state: Any) -> Any:
        h, (_, c) = lstm(a, state[1])
        c = c.clamp(-limit, limit)
        h = torch.sigmoid(a.chunk(4, 1)[3]) * torch.tanh(c)
        return h, (h, c)

    return step


def noisy(cell: Cell, a: Tensor, state: Any) -> Any:
    h, (_, c) = lstm(a, state[1])
    return h + 0.01 * torch.randn_like(h), (h + 0.01 * torch.randn_like(h), c)


def dropped(cell: Cell, a: Tensor, state: Any) -> Any:
    h, (_, c) = lstm(a, state[1])
    h = nn.functional.dropout(h, 0.5, training=True)
    return h, (h, c)


def residual(cell: Cell, a: Tensor, state: Any) -> Any:
    h, (_, c) = lstm(a, state[1])
    return h + state[0], (h + state[0], c)


def other_output(cell: Cell, a: Tensor, state: Any) -> Any:
    h, state = lstm(a, state[1])
    return torch.relu(h), state


def shifted_forget_gate(cell: Cell, a: Tensor, state: Any) -> Any:
    return lstm(a + torch.eye(4, dtype=a.dtype)[1].repeat_interleave(H), state[1])


def bound_to_float32(cell: Cell, a: Tensor, state: Any) -> Any:
    return lstm(nn.functional.linear(a, torch.eye(4 * H, dtype=torch.float32)), state[1])


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(Cell(clipped(3.0)), id="clipped-at-3"),
        pytest.param(Cell(clipped(1000.0)), id="clipped-at-1000"),
        pytest.param(Cell(noisy), id="noise"),
        pytest.param(Cell(dropped), id="dropout-that-never-sleeps"),
        pytest.param(Cell(residual), id="residual"),
        pytest.param(Cell(other_output), id="output-is-not-hidden"),
        pytest.param(Cell(shifted_forget_gate), id="forget-bias-in-the-code"),
        pytest.param(Cell(bound_to_float32), id="float32-in-the-code"),
        pytest.param(Cell(plain, vectors="ab"), id="two-vectors"),
    ],
)
def test_near_miss_is_not_recognised(cell: nn.Module) -> None:
    assert recognise(cell, I) is None


def test_cell_with_buffers_or_three_states_or_unequal_widths_is_not_recognised() -> None:
    with_buffer, three, unequal = LSTMCell(I, H), LSTMCell(I, H), LSTMCell(I, H)
    with_buffer.register_buffer("mask", torch.ones(H))
    three.state_spec = (("h", H), ("c", H), ("n", H))
    unequal.state_spec = (("h", H), ("c", 2 * H))

    assert [recognise(cell, I) for cell in (with_buffer, three, unequal)] == [None] * 3


def test_recognition_touches_neither_the_cell_nor_the_global_random_state() -> None:
    cell = LSTMCell(I, H)
    before, state = {name: p.clone() for name, p in cell.named_parameters()}, torch.get_rng_state()

    recognise(cell, I)

    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], p) for name, p in cell.named_parameters())
