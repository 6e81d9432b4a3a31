"""The width of a step, or the number of tokens, that no layer tells: the only one that runs is taken."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cellgate.export.errors import SignatureError, UnsupportedLayerError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.columns import read_columns
from cellgate.export.foreign.input_search import number_of_tokens, only_width
from cellgate.export.proof.cases import Case, make_inputs
from cellgate.export.proof.oracle import Oracle
from cellgate.export.proof.torch_legs import EagerLeg

from .foreign_modules import H, I, assert_equal_to_module_row_by_row


class WithDifferences(nn.Module):
    """Joins to each step how it differs from the last."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(2 * I, H, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(torch.cat([x, torch.diff(x, dim=1, prepend=x[:, :1])], -1))[0]


class Windows(nn.Module):
    """Convolves over time and sensors as over an image; six sensors, whose number stands in no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.rnn = nn.Conv2d(1, 2, (3, 1)), nn.GRU(2 * 6, H, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.front(x.unsqueeze(1)).permute(0, 2, 1, 3)
        return self.rnn(seen.flatten(2))[0][:, -1]


class OneHot(nn.Module):
    """Makes vectors of its tokens by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(7, H, batch_first=True), nn.Linear(H, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(functional.one_hot(x, 7).float())[0])


class Wave(nn.Module):
    """Cuts numbers [B, T] into frames."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, H, batch_first=True)

    def forward(self, wave: Tensor) -> Tensor:
        return self.rnn(wave.unfold(1, 8, 4))[0][:, -1]


class JoinedCell(nn.Module):
    """One map of input and state side by side to three gates, so that no side of it is either's width."""

    def __init__(self) -> None:
        super().__init__()
        self.joint = nn.Linear(I + H, 3 * H)

    def forward(self, x: Tensor) -> Tensor:
        h, seen = x.new_zeros(x.size(0), H), []
        for step in x.unbind(1):
            keep, show, new = self.joint(torch.cat([step, h], 1)).chunk(3, 1)
            h = keep.sigmoid() * h + show.sigmoid() * new.tanh()
            seen.append(h)
        return torch.stack(seen, 1)


@pytest.mark.covering("loop")
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        pytest.param(WithDifferences, ("B", "T", I), id="differences"),
        pytest.param(Windows, ("B", "T", 6), id="windows"),
        pytest.param(JoinedCell, ("B", "T", I), id="loop"),
    ],
)
def test_width_that_no_layer_tells_is_found(exported: Any, make: type[nn.Module], shape: tuple[Any, ...]) -> None:
    module = make()

    graph = exported(module)

    assert graph.exportable.signature.inputs[0].shape == shape
    assert_equal_to_module_row_by_row(module, graph)


def test_numbers_that_are_cut_into_frames_are_taken_as_numbers(exported: Any) -> None:
    module = Wave().eval()

    graph = exported(module)

    assert graph.exportable.signature.inputs[0].shape == ("B", "T", 1)
    x = torch.randn(2, 23, 1)
    with torch.no_grad():
        expected = module(x.squeeze(-1)).numpy()
    assert abs(graph.run(x.numpy())[0] - expected).max() < 2e-6


@pytest.mark.no_cover
@pytest.mark.parametrize("told", [None, 7])
def test_tokens_without_a_table_are_found_and_can_be_told(exported: Any, told: int | None) -> None:
    module = OneHot()

    graph = exported(module, input_dim=told)

    assert graph.exportable.signature.vocabulary_size == 7
    assert_equal_to_module_row_by_row(module, graph)


def test_tokens_of_a_table_can_be_told(exported: Any) -> None:
    module = nn.Sequential(nn.Embedding(11, I), nn.GRU(I, H, batch_first=True))

    assert exported(module, input_dim=11).exportable.signature.vocabulary_size == 11


class OneHotLoop(nn.Module):
    """The same with a loop of its own, which is judged in float64 though it names float32."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(7, H)

    def forward(self, ids: Tensor) -> Tensor:
        h = c = torch.zeros(ids.size(0), H)
        seen = []
        for step in functional.one_hot(ids, num_classes=7).float().unbind(1):
            h, c = self.cell(step, (h, c))
            seen.append(h)
        return torch.stack(seen, 1)


@pytest.mark.no_cover
def test_loop_over_tokens_without_a_table_is_judged_in_float64(exported: Any) -> None:
    exportable = exported(OneHotLoop()).exportable
    inputs = make_inputs(Case(id="tokens", rows=2, steps=5, ragged=False, state="zero"), exportable.signature)

    truth = Oracle(exportable).truth(inputs).outputs["y"]

    assert abs(truth - EagerLeg(exportable).run(inputs)["y"]).max() < 1e-6


class Spectrum(nn.Module):
    """Strides over frequencies, so that several numbers of them leave as many."""

    def __init__(self) -> None:
        super().__init__()
        self.front, self.rnn = nn.Conv2d(1, 2, (3, 8), (1, 4), padding=(1, 0)), nn.GRU(2 * 3, H, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.front(x.unsqueeze(1)).transpose(1, 2).flatten(2))[0]


def test_several_widths_that_run_are_refused_and_one_can_be_told(exported: Any) -> None:
    with pytest.raises(
        SignatureError, match=r"runs for several input widths \(16, 17, 18 and more\).* say --input-dim"
    ):
        prepare(Spectrum())

    assert exported(Spectrum(), input_dim=18).largest_difference() < 2e-6


class Joints(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(17 * 3, H, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, 17, 3]
        rows, steps, joints, axes = x.shape
        return self.rnn(x.reshape(rows, steps, joints * axes))[0][:, -1]


class JointsOfOneStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Joints()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.unflatten(-1, (17, 3)))


class Keyed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(I, H, batch_first=True)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.rnn(batch["x"])[0]


@pytest.mark.parametrize("make", [Joints, Keyed])
def test_more_axes_and_dicts_are_refused_with_what_helps(make: type[nn.Module]) -> None:
    with pytest.raises(SignatureError, match=r"give a module around it whose forward\(x\) makes that of one x"):
        prepare(make())


def test_remedy_for_more_axes_works(exported: Any) -> None:
    assert exported(JointsOfOneStep(), input_dim=51).largest_difference() < 2e-6


class Conditioned(nn.Module):
    """Says of an argument that has a default that it cannot do without."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(I, H, batch_first=True)

    def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        if target is None:
            raise ValueError("target features are required")
        return torch.cat([self.rnn(x)[1][0], target], 1)


def test_argument_that_was_left_at_none_is_named_with_a_remedy_that_works(exported: Any) -> None:
    with pytest.raises(SignatureError, match=r"forward needs target, which was left at None.* --columns x=3,target=1"):
        prepare(Conditioned())

    remedied = prepare(Conditioned(), columns=read_columns(f"x={I},target=2"))
    assert exported(remedied).largest_difference() < 2e-6


class LoopOverFourAxes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.from_x, self.from_h = nn.Linear(2, H), nn.Linear(H, H)

    def forward(self, x: Tensor) -> Tensor:  # [B, 2, T, 2]
        h = torch.zeros(x.size(0), x.size(3), H)[:, 0]
        for t in range(x.size(2)):
            h = torch.tanh(self.from_x(x[:, 0, t] + x[:, 1, t]) + self.from_h(h))
        return h


def test_more_axes_before_a_loop_are_refused_with_what_helps() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"out of range.*more axes than \[B, T, I\], give a module around"):
        prepare(LoopOverFourAxes())


def test_width_that_was_told_is_not_asked_for_as_if_it_were_not() -> None:
    with pytest.raises(SignatureError, match=r"\(tried 9\).* say another --input-dim"):
        prepare(nn.Sequential(nn.GRU(I, H, batch_first=True)), input_dim=9)


def test_only_width_stops_where_there_is_one_and_refuses_two() -> None:
    assert only_width(lambda width: width == 40, "Net") == 40
    assert only_width(lambda width: False, "Net") is None
    with pytest.raises(SignatureError, match=r"Net.forward runs for several input widths \(3 and 5\)"):
        only_width(lambda width: width in {3, 5}, "Net")


def test_number_of_tokens_is_the_one_beyond_which_nothing_runs() -> None:
    assert number_of_tokens(lambda count: count <= 18, [10, 18, 20]) == 18
    assert number_of_tokens(lambda count: True, [10, 18]) is None
