"""What a captured graph does not know of a module is found by running the module as it came, for many steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from cellgate.export.errors import FrozenAxisError, SignatureError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.network import ForeignNetwork

I, H = 4, 6


class Loop(nn.Module):
    """A loop over a cell; ``each`` may change a step's input and ``end`` the answer."""

    def __init__(self, each: Callable[..., Any] = lambda x, t: x, end: Callable[..., Any] = lambda y: y) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)
        self.each, self.end = each, end

    def forward(self, x: Tensor) -> Tensor:
        h, seen = torch.zeros(x.size(0), H), []
        for t in range(x.size(1)):
            h = self.cell(self.each(x[:, t], t), h)
            seen.append(h)
        return self.end(torch.stack(seen, 1))  # type: ignore[no-any-return]


class Growing(nn.Module):
    """A loop without anything that bounds its state."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(I + H, H)

    def forward(self, x: Tensor) -> Tensor:
        h, seen = torch.zeros(x.size(0), H), []
        for t in range(x.size(1)):
            h = self.step(torch.cat([x[:, t], h], 1))
            seen.append(h)
        return torch.stack(seen, 1)


class Around(nn.Module):
    """An nn.LSTM with something before it."""

    def __init__(self, before: Callable[..., Any]) -> None:
        super().__init__()
        self.rnn = nn.LSTM(I, H, batch_first=True)
        self.positions = nn.Embedding(20, I)
        self.before = before

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.before(self, x))[0]  # type: ignore[no-any-return]


@pytest.mark.covering("reset")
@pytest.mark.parametrize(
    ("loop", "found"),
    [
        pytest.param(Loop(end=lambda y: y * 2 if y.size(1) > 50 else y), "for 150 steps than for up to 40", id="many"),
        pytest.param(Loop(each=lambda x, t: x * 0 if t % 100 == 99 else x), "150 steps than for up to 40", id="reset"),
        pytest.param(
            Loop(end=lambda y: y * 2 if y.size(1) > 2500 else y), "2501 steps than for up to 2500", id="named-in-code"
        ),
    ],
)
def test_loop_that_changes_its_ways_after_many_steps_is_refused(loop: nn.Module, found: str) -> None:
    with pytest.raises(SignatureError, match=f"does something else .*{found}.*condition on the number of steps"):
        prepare(loop)


def test_loop_without_such_a_condition_is_taken() -> None:
    assert isinstance(prepare(Loop()).network, ForeignNetwork)


class Gated(nn.Module):
    """A cell whose state moves only in steps that the sequence lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(I, H)

    def forward(self, x: Tensor) -> Tensor:
        h, seen = torch.zeros(x.size(0), H), []
        for t in range(x.size(1)):
            h = torch.where(x[:, t, :1] > 0, self.cell(x[:, t], h), h)
            seen.append(h)
        return torch.stack(seen, 1)


def test_truth_values_that_a_step_reads_stay_truth_values() -> None:
    net = Gated()
    x = torch.randn(3, 9, I, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        y, _ = prepare(net).network(x)
        assert torch.allclose(y, net(x), atol=1e-6)


def test_table_of_few_positions_is_refused_with_its_size_and_the_remedy_works() -> None:
    def positions(net: Around, x: Tensor) -> Tensor:
        return x + net.positions(torch.arange(x.size(1)))  # type: ignore[no-any-return]

    def clamped(net: Around, x: Tensor) -> Tensor:
        return x + net.positions(torch.arange(x.size(1)).clamp(max=19))  # type: ignore[no-any-return]

    with pytest.raises(FrozenAxisError, match=r"at most 20 at test_original_proof.*clamp\(max=19\)"):
        prepare(Around(positions))
    assert isinstance(prepare(Around(clamped)).network, ForeignNetwork)


def test_nan_for_some_number_of_steps_is_refused() -> None:
    def broken(_: Around, x: Tensor) -> Tensor:
        return x * float("nan") if x.size(1) == 2 else x

    with pytest.raises(SignatureError, match=r"gives NaN for 2 steps, expected numbers; look for a division by zero"):
        prepare(Around(broken))


def test_loop_that_grows_beyond_all_bounds_is_taken_all_the_same() -> None:
    net = Growing()
    net.step.weight.data[:, I:] = 3.0 * torch.eye(H)

    with torch.no_grad():
        assert not net(torch.ones(1, 1100, I)).isfinite().all()
    assert isinstance(prepare(net).network, ForeignNetwork)


def test_module_that_is_chaotic_in_float32_is_not_taken_for_another_one() -> None:
    torch.manual_seed(0)
    net = Around(lambda _, x: x)
    net.rnn.weight_hh_l0.data *= 60.0

    assert isinstance(prepare(net).network, ForeignNetwork)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "before",
    [
        pytest.param(lambda _, x: (x - torch.full((I,), 0.3, dtype=torch.float64)).float(), id="float"),
        pytest.param(lambda _, x: x @ torch.ones(I, I), id="ones"),
        pytest.param(lambda _, x: x.to(torch.float32) + torch.eye(I, dtype=torch.float32)[0], id="to-and-dtype"),
    ],
)
def test_code_that_names_float32_is_judged_in_float64_all_the_same(before: Callable[..., Any]) -> None:
    network = prepare(Around(before)).network
    assert isinstance(network, ForeignNetwork)
    wide = prepare(Around(before)).network.double()
    x = torch.randn(2, 5, I, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        y, _ = wide(x)

    assert y.dtype == torch.float64
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        pytest.param(
            lambda y: y.double(), r"returns float64, expected float32; end its forward with \.float\(\)", id="f"
        ),
        pytest.param(lambda y: y.argmax(-1), "returns int64, expected float32; return scores, not argmax", id="argmax"),
        pytest.param(lambda y: {"y": y.tolist()}, "returns a dict of float, .*that tensor alone", id="no-tensor"),
        pytest.param(lambda y: {"best": y.argmax(-1), "y": y}, "or take another .* with --answer y", id="another"),
    ],
)
def test_answer_of_another_kind_is_refused_before_the_long_work(answer: Callable[..., Any], remedy: str) -> None:
    class Answering(Around):
        def forward(self, x: Tensor) -> Any:
            return answer(super().forward(x))

    with pytest.raises(SignatureError, match=remedy):
        prepare(Answering(lambda _, x: x))


class CountsItsTokens(nn.Module):
    """Tells padding by its token, as many networks for texts do."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(3, 4, padding_idx=0), nn.LSTM(4, 5, batch_first=True)
        self.least = least

    def forward(self, tokens: Tensor) -> Tensor:
        counts = (tokens != 0).sum(1).clamp(min=self.least).cpu()
        packed = pack_padded_sequence(self.words(tokens), counts, batch_first=True, enforce_sorted=False)
        return self.rnn(packed)[1][0][-1]


def test_row_of_nothing_but_padding_is_told_as_that_and_the_remedy_works() -> None:
    with pytest.raises(SignatureError, match=r"fails for 1 row of 1 step .*count one at least: .clamp\(min=1\)"):
        prepare(CountsItsTokens(least=0))

    assert prepare(CountsItsTokens(least=1)).signature.vocabulary_size == 3


def test_forward_may_write_into_what_it_is_given(exported: Any) -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(4, 5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x[:, :, 2] = torch.log1p(x[:, :, 2].abs())
            return self.rnn(x)[0]

    module = Writes()
    graph = exported(module)
    x = torch.randn(2, 6, 4)

    found = graph.run(x.numpy(), torch.full((2,), 6, dtype=torch.int32).numpy(), torch.zeros(1, 2, 5).numpy())[0]

    with torch.no_grad():
        assert abs(found - module(x.clone()).numpy()).max() < 2e-6
