"""TorchScript: one leg of the export, right where it is and missed by nobody where it is gone."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cellgate
from cellgate.export.exportable import prepare
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


def test_reason_does_not_end_on_the_colon_before_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        message = '\nTensor (inferred) cannot be used as a tuple:\n  File "net.py", line 10\n'
        raise RuntimeError(message)

    monkeypatch.setattr(torch.jit, "script", refuse)

    scripted = export_torchscript(prepare(SequenceModel(3, 4, 2)))

    assert scripted.reason == "RuntimeError: Tensor (inferred) cannot be used as a tuple"
