"""What the capturer says of a stranger's module becomes one true sentence, and nothing is printed beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import ExportError
from cellgate.export.exportable import prepare
from cellgate.export.graph.capture_error import place_of
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.model import SequenceModel

I, H = 4, 6


class Net(nn.Module):
    """A recurrent layer in a forward of a test's own."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.rnn = nn.LSTM(I, H, batch_first=True)
        self.cell = nn.GRUCell(I, H)
        self.call = forward

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


def loud(net: Net, x: Tensor) -> Tensor:
    return net.rnn(x / 10 if x.abs().max() > 20 else x)[0]  # type: ignore[no-any-return]


def loud_by_row(net: Net, x: Tensor) -> Tensor:
    return net.rnn(torch.where(x.abs().amax((1, 2), keepdim=True) > 20, x / 10, x))[0]  # type: ignore[no-any-return]


def early_end(net: Net, x: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), H)
    for t in range(x.size(1)):
        h = net.cell(x[:, t], h)
        if h.abs().min() > 0.9:
            break
    return h


@pytest.mark.parametrize("forward", [pytest.param(loud, id="layer"), pytest.param(early_end, id="loop")])
def test_a_decision_by_values_is_refused_with_its_place(
    forward: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    net = Net(forward)
    if forward is loud:
        del net.cell
    else:
        del net.rnn

    place = rf"test_capture_error\.py:\d+ \({forward.__name__}\)"
    with pytest.raises(ExportError, match=f"decides by values of a tensor at {place}"):
        export_onnx(prepare(net))

    assert capfd.readouterr() == ("", "")


class Deciding(nn.Module):
    """A cell of a user's own, which becomes a scan."""

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.joint = nn.Linear(input_dim + hidden_dim, hidden_dim)
        self.state_spec = (("h", hidden_dim),)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        if h.sum() > 0:
            h = h / 2
        h = torch.tanh(self.joint(torch.cat([x, h], 1)))
        return h, h


class Counting(Deciding):
    """Does what only Python can."""

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.joint(torch.cat([x, h], 1))) * len(h.tolist())
        return h, h


def test_a_decision_in_a_cell_is_refused_with_its_place(capfd: pytest.CaptureFixture[str]) -> None:
    place = r"test_capture_error\.py:\d+ \(forward\)"
    with pytest.raises(ExportError, match=f"decides by values of a tensor at {place}, expected the same .*where"):
        export_onnx(prepare(SequenceModel(I, H, cell=Deciding)))

    assert capfd.readouterr() == ("", "")


def test_a_step_that_cannot_be_followed_is_refused_with_its_place() -> None:
    place = r"test_capture_error\.py:\d+ \(forward\)"
    with pytest.raises(ExportError, match=rf"a step of it cannot be followed at {place} \([^\n]+\)$"):
        export_onnx(prepare(SequenceModel(I, H, cell=Counting)))


def twice_as_precise(net: Net, x: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), H).double()
    for step in x.unbind(1):
        h = h * 0.5 + net.cell(step, h.float()).double()
    return h.float()


def test_a_state_in_another_precision_is_told_with_both() -> None:
    net = Net(twice_as_precise)
    del net.rnn

    with pytest.raises(ExportError, match=r"cannot be followed .*'dtype: torch\.float32 vs torch\.float64'\)$"):
        export_onnx(prepare(net))


@pytest.mark.parametrize("folder", [Path(torch.__file__).parent, Path(prepare.__code__.co_filename).parent])
def test_a_file_beside_torch_or_this_house_is_not_taken_for_theirs(folder: Path) -> None:
    """As torchvision and the like are, and a folder of one's own called exported."""
    theirs, others = folder / "module.py", folder.with_name(folder.name + "ed") / "net.py"
    places = []
    for file in (theirs, others):
        try:
            exec(compile("def forward(): 1 / 0\nforward()", str(file), "exec"), {})
        except ZeroDivisionError as err:
            places.append(place_of(err.with_traceback(err.__traceback__.tb_next)))  # type: ignore[union-attr]

    assert places == ["", " at net.py:1 (forward)"]


def test_its_remedy_works() -> None:
    net = Net(loud_by_row)
    del net.cell

    assert export_onnx(prepare(net))


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        pytest.param(lambda net, x: net.rnn(x)[0][:, :50].mean(1), r"at most 49;.*as x\[:, -50:\]", id="first-fifty"),
        pytest.param(
            lambda net, x: net.rnn(x)[0] * (2 if x.size(1) % 100 == 0 else 1),
            r"granted that \(the size % 100\)",
            id="mod",
        ),
    ],
)
def test_a_condition_on_the_length_is_named(forward: Callable[..., Any], said: str) -> None:
    net = Net(forward)
    del net.cell

    with pytest.raises(ExportError, match=said):
        export_onnx(prepare(net))


def test_the_last_three_steps_are_fewer_where_there_are_fewer(exported: Any) -> None:
    """The capturer wants three, onnxruntime's Slice does not."""
    net = Net(lambda net, x: net.rnn(x)[0][:, -3:].mean(1)).eval()
    del net.cell

    graph = exported(net)

    for steps in (1, 2, 3, 4, 30):
        x, zeros = torch.randn(2, steps, I), torch.zeros(1, 2, H).numpy()
        found = torch.from_numpy(graph.run(x.numpy(), zeros, zeros)[0])
        torch.testing.assert_close(found, net(x).detach(), rtol=1e-5, atol=1e-6)
