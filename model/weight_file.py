"""The bytes of a file of weights: safetensors or a PyTorch checkpoint, read without running what it may carry.

Rules of this file: bytes to tensors and back, nothing of networks. Whatever is wrong with a file is a WeightsError of
one sentence.
"""

import json
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .error_line import first_line

_PICKLED: Final = (".pt", ".pth", ".ckpt")
KERAS: Final = (".h5", ".hdf5", ".keras")
_WRAPPERS: Final = ("state_dict", "model_state_dict", "model")
_SHOWN: Final = 4


class WeightsError(ValueError):
    """A file of weights cannot be read, or does not fit; the message names file, key, expected, found, and remedy."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """What a file held: name -> tensor on the CPU, and the metadata of a safetensors file."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_weights(path: str | Path) -> WeightFile:
    """Read a ``.safetensors`` file, or a ``.pt``, ``.pth`` or ``.ckpt`` checkpoint with ``weights_only=True``.

    A checkpoint is a state dict, or holds one under "state_dict", "model_state_dict" or "model", or but one at all.

    Raises:
        WeightsError: no such file, unknown suffix, damaged, or it holds more than tensors.
    """
    path = Path(path)
    if path.suffix not in {".safetensors", *_PICKLED}:
        remedy = "rename it where it is PyTorch's, whatever it is called"
        if path.suffix in KERAS:
            remedy = "it is of Keras, so copy its weights into a module of PyTorch's and save that one's state_dict()"
        raise WeightsError(
            f"{path} has the suffix {path.suffix!r}, expected .safetensors, {', '.join(_PICKLED)}; {remedy}"
        )
    if not path.is_file():
        raise WeightsError(
            f"{path} {'is not a file' if path.exists() else 'does not exist'}, expected a file of weights"
        )
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)


def pack_weights(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file; metadata sorted, because the library writes it in another order each time."""
    data = safetensors.torch.save(dict(tensors))
    end = 8 + int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8:end])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants its data aligned
    return len(text).to_bytes(8, "little") + text + data[end:]


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, whole or not at all.

    Raises:
        OSError: the folder is missing, or the disk refuses.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def list_some(names: Iterable[str], separator: str = ", ") -> str:
    """Return the first few and how many there are."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more ({len(every)} in all)" if len(every) > _SHOWN else ""
    return separator.join(every[:_SHOWN]) + more


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"a tensor ({str(value.layout).removeprefix('torch.')}, {value.device.type}, {say_dtype(value.dtype)})"


def say_dtype(dtype: torch.dtype) -> str:
    """Return "float32" for torch.float32."""
    return str(dtype).removeprefix("torch.")


def _read_safetensors(path: Path) -> WeightFile:
    try:
        data = path.read_bytes()
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    # KeyError: a dtype that torch does not have.
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, RecursionError) as err:
        raise WeightsError(f"{path} is no readable safetensors file ({first_line(err)}); write it again") from err
    return WeightFile(path, dict(sorted(tensors.items())), dict(header.get("__metadata__", {})))


def _read_pickled(path: Path) -> WeightFile:
    if _is_torchscript(path):
        raise WeightsError(
            f"{path} is a TorchScript archive, expected a checkpoint; save its state_dict with "
            f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pt')"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sparse tensors since torch 2.14, and those are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # a hostile file may provoke anything, and one sentence answers all of it
        found = re.search(r"(?:GLOBAL|class|global|type) [\w.]+\.[\w.]+", str(err))
        if found:
            raise WeightsError(
                f"{path} holds more than tensors ({found[0]}), which may run code when read and is refused; "
                "save model.state_dict() with torch.save, after torch.load(..., weights_only=False) where you trust it"
            ) from err
        raise WeightsError(
            f"{path} is damaged or no PyTorch checkpoint; save model.state_dict() with torch.save"
        ) from err
    return WeightFile(path, _state_dict_in(content, path), {})


def _state_dict_in(content: object, path: Path) -> dict[str, Tensor]:
    """Return the state dict that a checkpoint is or holds, checked."""
    if isinstance(content, Mapping):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content)
        content = _only_state_dict(content, path)
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            f"{path} holds {'nothing' if content == {} else type(content).__name__}, expected a state dict (name to "
            f"tensor), or one under {' or '.join(map(repr, _WRAPPERS))}"
        )
    for name, tensor in content.items():
        dense = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not isinstance(name, str) or not dense or tensor.is_quantized:
            raise WeightsError(
                f"{path}: {name!r} is {_kind(tensor)}, expected text to a dense tensor; save model.state_dict() alone, "
                f"or under {' or '.join(map(repr, _WRAPPERS))}"
            )
    return {name: tensor.detach() for name, tensor in content.items()}


def _only_state_dict(content: Mapping[object, object], path: Path) -> Mapping[object, object]:
    """Return what is itself a state dict, or the only one in it; else what was given.

    Raises:
        WeightsError: there are several in it.
    """
    inside = {key: part for key, part in content.items() if isinstance(part, Mapping) and _is_state_dict(part)}
    if any(isinstance(value, Tensor) for value in content.values()):
        return content
    if len(inside) > 1:
        names = list_some(map(repr, inside))
        raise WeightsError(
            f"{path} holds {len(inside)} state dicts ({names}), expected one; save the right one alone, as with "
            f"torch.save(torch.load({path.name!r}, weights_only=True)[{next(iter(inside))!r}], 'weights.pt')"
        )
    return next(iter(inside.values())) if inside else content


def _is_state_dict(part: Mapping[object, object]) -> bool:
    return bool(part) and all(isinstance(value, Tensor) for value in part.values())


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
