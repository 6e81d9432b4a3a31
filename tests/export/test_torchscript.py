"""TorchScript: one leg of the export, right where it is and missed by nobody where it is gone."""

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cellgate
from cellgate.export.error_line import said_by
from cellgate.export.exportable import prepare
from cellgate.export.options import ExportOptions
from cellgate.export.pipeline import build, verify_artefacts
from cellgate.export.proof.verify import VerifyOptions
from cellgate.export.source import load_source
from cellgate.export.torchscript import export_torchscript, load_torchscript
from cellgate.model import SequenceModel


def test_compiled_network_gives_what_eager_gives_at_any_batch_and_length() -> None:
    exportable = prepare(SequenceModel(4, 5, 3, num_layers=2, bidirectional=True, reads="last_step"))

    scripted = export_torchscript(exportable)

    module = load_torchscript(scripted.content)
    for rows, steps in ((1, 1), (3, 13)):
        x, lengths, *state = exportable.example(rows, steps)
        expected, actual = exportable.network(x, lengths, state), module(x, lengths, state)
        assert all(torch.equal(a, b) for a, b in zip((expected[0], *expected[1]), (actual[0], *actual[1]), strict=True))


def test_foreign_module_is_compiled_as_it_came() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 5, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0]

    module = Net()
    scripted = export_torchscript(prepare(module))

    x = torch.randn(2, 7, 4)
    assert scripted.reason == ""
    assert torch.equal(module(x), load_torchscript(scripted.content)(x))


def test_bytes_tell_nothing_of_this_machine() -> None:
    content = export_torchscript(prepare(SequenceModel(2, 3))).content

    archive = zipfile.ZipFile(io.BytesIO(content))
    held = b"".join(archive.read(name) for name in archive.namelist())
    assert str(Path(cellgate.__file__).parent).encode() not in held
    assert str(Path(torch.__file__).parent).encode() not in held


@pytest.mark.parametrize("loss", ["broken", "gone"])
def test_without_torchscript_the_reason_is_kept_and_nothing_raised(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("TorchScript has left\nthe building")

    if loss == "broken":
        monkeypatch.setattr(torch.jit, "script", refuse)
    else:
        monkeypatch.delattr(torch.jit, "script")

    scripted = export_torchscript(prepare(SequenceModel(2, 3)))

    assert scripted.module is None
    assert scripted.content == b""
    reason = "RuntimeError: TorchScript has left" if loss == "broken" else "AttributeError: module 'torch.jit' has no"
    assert scripted.reason.startswith(reason)
    assert "\n" not in scripted.reason


def test_where_the_compiler_is_switched_off_that_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.jit._state._enabled, "enabled", False)  # as PYTORCH_JIT=0 does

    scripted = export_torchscript(prepare(SequenceModel(2, 3)))

    assert (scripted.module, scripted.content) == (None, b"")
    assert scripted.reason == "not applicable: PYTORCH_JIT=0 switches the compiler off"


UNTYPED = """
import torch
from torch import nn

class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.from_x, self.from_h = nn.Linear(4, 5), nn.Linear(5, 5)

    def forward(self, x, state):
        h, c = state
        c = c + torch.tanh(self.from_x(x) + self.from_h(h))
        return torch.tanh(c), c

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = Cell()

    def forward(self, x):
        state = torch.zeros(x.size(0), 5), torch.zeros(x.size(0), 5)
        for t in range(x.size(1)):
            state = self.cell(x[:, t], state)
        return state[0]
"""


def test_reason_names_the_place_and_what_helps_where_a_type_was_guessed(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(UNTYPED, encoding="utf-8")

    scripted = export_torchscript(prepare(load_source(f"{tmp_path / 'net.py'}:Net").network))

    assert scripted.content == b""
    assert scripted.reason == (
        "RuntimeError: Tensor (inferred) cannot be used as a tuple (net.py:11); give that argument its type, as in "
        "state: tuple[Tensor, Tensor]"
    )


class _OnGpu(nn.Module):
    """Its code sends tensors to a GPU, from which an export keeps it; compiled, it cannot be kept."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x, torch.zeros(1, x.size(0), 5).cuda())[0]


class _CountsAsList(nn.Module):
    """PyTorch takes a tensor of lengths where the compiled form insists on a list."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 5, batch_first=True)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


class _NotCompiled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if torch.jit.is_scripting():
            raise RuntimeError("this head is not for that")
        return nn.functional.linear(input, self.weight, self.bias)


def _with_such_a_head() -> nn.Module:
    network = SequenceModel(4, 5, 2)
    network.head = _NotCompiled(5, 2)
    return network


def test_weight_that_a_norm_computes_is_compiled_as_what_it_is() -> None:
    network = SequenceModel(4, 5, 2)
    nn.utils.parametrizations.weight_norm(network.head)
    artefacts = build(network, ExportOptions(name="net"))

    report = verify_artefacts(artefacts, ExportOptions(name="net", verify=VerifyOptions(only_case="B3-T7")))

    assert artefacts.scripted.content
    assert report.verdict == "equivalent"


@pytest.mark.covering("head")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(_OnGpu, r"\w*Error: .*(CUDA|NVIDIA|device)", id="gpu"),
        pytest.param(_CountsAsList, r"RuntimeError: forward\(\) Expected a value of type 'List\[int\]'", id="list"),
        pytest.param(_with_such_a_head, r"\w*Error: (?!The following)", id="head"),
    ],
)
def test_compiled_form_that_stops_is_left_out_and_is_no_failure_of_the_network(
    make: Callable[[], nn.Module], said: str
) -> None:
    artefacts = build(make(), ExportOptions(name="net"))
    report = verify_artefacts(artefacts, ExportOptions(name="net", verify=VerifyOptions(only_case="B3-T7")))

    assert artefacts.scripted.content == b""
    assert re.match(f"not applicable: compiled, it stops with {said}", artefacts.scripted.reason)
    assert report.verdict == "equivalent"


def test_what_stopped_a_compiled_module_is_said_in_its_own_words() -> None:
    class Adds(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.ones(3)

    with pytest.raises(RuntimeError, match="failed in the TorchScript interpreter") as caught:
        torch.jit.script(Adds())(torch.ones(2))

    assert said_by(caught.value).startswith(
        "RuntimeError: The size of tensor a (2) must match the size of tensor b (3)"
    )
