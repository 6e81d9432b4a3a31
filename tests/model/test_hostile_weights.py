"""Weight files that are malformed, hostile or of another kind: one sentence, nothing run, and a remedy that works."""

import os
import pickle  # noqa: TID251 - hostile files are made with it

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from cellgate.model import LSTMCell, LSTMLayer, WeightsError, load_weights
from cellgate.model.weights import read_weights


class _RunsCode:
    def __reduce__(self) -> tuple:
        return os.system, ("touch ran",)


def _truncate(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _write(path, kind: str) -> None:
    """Write a malformed or hostile file."""
    layer = LSTMLayer(LSTMCell, 3, 4)
    if kind == "truncated":
        torch.save(layer.state_dict(), path)
        _truncate(path)
    elif kind == "truncated safetensors":
        safetensors.torch.save_file(layer.state_dict(), path)
        _truncate(path)
    elif kind == "TorchScript":
        torch.jit.script(layer).save(path)
    elif kind == "old pickle":
        torch.save({"a": _RunsCode()}, path, _use_new_zipfile_serialization=False)
    elif kind == "bare pickle":
        path.write_bytes(pickle.dumps({"a": _RunsCode()}, protocol=2))
    elif isinstance(_CONTENTS.get(kind), bytes):
        path.write_bytes(_CONTENTS[kind])
    else:
        torch.save(_CONTENTS[kind](), path)


_CONTENTS = {
    "code": lambda: {"a": _RunsCode()},
    "module": lambda: nn.Linear(1, 1),
    "NumPy": lambda: {"a": np.zeros(2)},
    "empty": b"",
    "text": b"these are no weights",
    "header too long": (10**9).to_bytes(8, "little") + b"{}",
    "header no JSON": (2).to_bytes(8, "little") + b"{{",
    "a list": lambda: [torch.zeros(2)],
    "empty dict": dict,
    "number inside": lambda: {"a": torch.zeros(2), "epoch": 3},
    "two state dicts": lambda: {"epoch": 3, "net": {"a": torch.zeros(2)}, "ema": {"a": torch.ones(2)}},
    "a tensor and a state dict": lambda: {"a": torch.zeros(2), "net": {"a": torch.zeros(2)}},
    "number for a name": lambda: {3: torch.zeros(2)},
    "sparse": lambda: {"a": torch.zeros(2).to_sparse()},
    "no data": lambda: {"a": torch.zeros(2, device="meta")},
    "quantised": lambda: {"a": torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8)},
}


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor.*", "ignore:.*TypedStorage.*")
@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("a.pt", "code", r"holds more than tensors \(GLOBAL \w+.system\), which may run code"),
        ("a.pt", "old pickle", r"holds more than tensors \(GLOBAL \w+.system\), which may run code"),
        ("a.pt", "bare pickle", "holds more than tensors|is damaged or no PyTorch checkpoint"),
        ("a.pt", "module", r"holds more than tensors \(GLOBAL torch.nn.modules.linear.Linear\)"),
        ("a.pt", "NumPy", "holds more than tensors"),
        ("a.pt", "truncated", "is damaged or no PyTorch checkpoint"),
        ("a.pt", "empty", "is damaged or no PyTorch checkpoint"),
        ("a.pt", "text", "is damaged or no PyTorch checkpoint"),
        ("a.pt", "TorchScript", "is a TorchScript archive, expected a checkpoint"),
        ("a.pt", "a list", r"holds list, expected a state dict \(name to tensor\), or one under"),
        ("a.pt", "empty dict", "holds nothing, expected a state dict"),
        ("a.pt", "number inside", "'epoch' is int, expected text to a dense tensor"),
        ("a.pt", "number for a name", r"3 is a tensor \(strided, cpu, float32\), expected text"),
        ("a.pt", "sparse", r"'a' is a tensor \(sparse_coo, cpu, float32\), expected"),
        ("a.pt", "no data", r"'a' is a tensor \(strided, meta, float32\), expected"),
        ("a.pt", "quantised", r"'a' is a tensor \(strided, cpu, qint8\), expected"),
        ("a.safetensors", "truncated safetensors", "is no readable safetensors file"),
        ("a.safetensors", "empty", "is no readable safetensors file"),
        ("a.safetensors", "text", "is no readable safetensors file"),
        ("a.safetensors", "header too long", "is no readable safetensors file"),
        ("a.safetensors", "header no JSON", "is no readable safetensors file"),
        (
            "a.pt",
            "two state dicts",
            r"holds 2 state dicts \('net', 'ema'\), expected one; .*a.pt', .*\['net'\], 'weights",
        ),
        ("a.pt", "a tensor and a state dict", "'net' is dict, expected text to a dense tensor"),
        ("a.bin", "text", "has the suffix '.bin', expected .safetensors, .pt, .pth, .ckpt; rename it where it is Py"),
        ("a.h5", "text", "has the suffix '.h5', .* it is of Keras, so copy its weights into a module of PyTorch's"),
    ],
)
def test_malformed_or_hostile_file_is_one_sentence_and_runs_nothing(tmp_path, monkeypatch, name, kind, said):
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / name, kind)

    with pytest.raises(WeightsError, match=said) as caught:
        read_weights(tmp_path / name)

    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_missing_file_and_folder_are_refused(tmp_path):
    (tmp_path / "folder.pt").mkdir()

    with pytest.raises(WeightsError, match=r"a\.pt does not exist"):
        read_weights(tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"folder\.pt is not a file"):
        read_weights(tmp_path / "folder.pt")


def test_only_state_dict_of_a_checkpoint_is_taken_whatever_it_is_called(tmp_path):
    layer = nn.Linear(2, 3)
    optimizer = torch.optim.SGD(layer.parameters(), momentum=0.9)
    checkpoint = {"epoch": 3, "net": layer.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(checkpoint, tmp_path / "a.pt")

    assert torch.equal(read_weights(tmp_path / "a.pt").tensors["weight"], layer.weight)


def test_network_behind_a_prefix_with_others_beside_it_is_told_how_to_be_saved_alone(tmp_path):
    layer = nn.Linear(2, 3)
    state_dict = {"model." + name: weight for name, weight in layer.state_dict().items()} | {"loss.w": torch.ones(3)}
    torch.save({"state_dict": state_dict}, tmp_path / "a.ckpt")

    with pytest.raises(
        WeightsError, match=r"behind 'model\.' and loss\.w beside it, expected the network alone"
    ) as caught:
        load_weights(nn.Linear(2, 3), tmp_path / "a.ckpt")

    remedy = str(caught.value).partition("; save ")[2]
    torch.save(eval(remedy, {"state_dict": state_dict}), tmp_path / "b.pt")
    loaded = nn.Linear(2, 3)
    load_weights(loaded, tmp_path / "b.pt")
    assert torch.equal(loaded.weight, layer.weight)


def test_remedy_for_torchscript_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layer = nn.Linear(2, 3)
    torch.jit.script(layer).save("a.pt")

    with pytest.raises(WeightsError, match="is a TorchScript archive") as caught:
        read_weights("a.pt")

    exec(str(caught.value).partition("state_dict with ")[2], {"torch": torch})
    assert torch.equal(read_weights("weights.pt").tensors["weight"], layer.weight)
