"""Weights on disk: safetensors and PyTorch checkpoints, read so that a file can neither run code nor change a value.

Rules of this file: whatever is wrong with a file is a WeightsError of one sentence, and leaves the module untouched. A
dtype is converted where no value changes by it (half precision into float32 or float64, float64 that holds float32
values), and refused otherwise: what was trained is what runs.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from .error_line import first_line
from .network import CELLS, SequenceModel
from .weight_file import (
    WeightFile,
    WeightsError,
    list_some,
    pack_weights,
    read_weights,
    replace_file,
    say_dtype,
)

NETWORK_KEY: Final = "cellgate.network"
"""Where a file's metadata holds the description of its network, as JSON."""

_COMPILED: Final = "_orig_mod"
_FLOATS: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS: Final = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a file into ``module``, every key or none.

    What stands before every name where the module's own names have nothing is taken off: ``module.`` of DataParallel,
    ``_orig_mod.`` of torch.compile, the attribute of whoever held the network while it trained. Which parts of it were
    compiled, on either side, does not matter. Values are copied into the module's own dtype and device; see the rules
    above.

    Raises:
        WeightsError: unreadable, keys missing or unexpected, shapes or dtypes that do not fit.
    """
    expected: dict[str, Any] = dict(module.state_dict())
    beyond = [name for name, value in expected.items() if not isinstance(value, Tensor)]
    if beyond:
        raise WeightsError(
            f"{type(module).__name__} keeps {list_some(beyond)} beside its tensors, which no file of weights holds; "
            "load it in the factory"
        )
    file = read_weights(path)
    found = _as_named(file.tensors, expected)
    _refuse_more_beside(found, expected, file.path)
    check_fit(expected, found, file.path)
    converted = {name: _convert(name, found[name], expected[name], file.path) for name in found}
    module.load_state_dict(converted)


def save_network(network: SequenceModel, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the weights of ``network`` with its description, so that ``load_network`` needs nothing else.

    The same weights and metadata give the same bytes. The file appears whole or not at all.

    Args:
        network: over a cell of this house.
        path: ends in ``.safetensors``; an existing file is replaced.
        metadata: further entries, text to text.

    Raises:
        WeightsError: the network cannot be described, or path or metadata do not fit.
        OSError: the disk refuses.
    """
    path = Path(path)
    entries = dict(metadata or {})
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path} has the suffix {path.suffix!r}, expected .safetensors")
    if NETWORK_KEY in entries or not all(isinstance(text, str) for pair in entries.items() for text in pair):
        raise WeightsError(f"metadata is {entries!r}, expected text to text, without {NETWORK_KEY!r}")
    description = network.describe()
    if description["cell"] not in CELLS:
        raise WeightsError(
            f"{description['cell']} is a cell of your own, which a file cannot describe; "
            "save the state_dict and export with --weights and the factory"
        )
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    check_fit(_empty_network(description, path).state_dict(), tensors, path)
    replace_file(path, pack_weights(tensors, {**entries, NETWORK_KEY: json.dumps(description, sort_keys=True)}))


def load_network(path: str | Path) -> SequenceModel:
    """Return the network that ``save_network`` wrote, in the file's dtype, on the CPU, in evaluation mode.

    Raises:
        WeightsError: unreadable, without a description, or description and weights do not fit.
    """
    return restore_network(read_weights(path))


def restore_network(file: WeightFile) -> SequenceModel:
    """Return the network that a file describes; see ``load_network``."""
    text = file.metadata.get(NETWORK_KEY)
    if text is None:
        raise WeightsError(
            f"{file.path} carries no {NETWORK_KEY!r} in its metadata, expected a file written by save_network; "
            "load it into a module with load_weights"
        )
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise WeightsError(f"{file.path}: {NETWORK_KEY!r} in its metadata is not JSON") from err
    network = _empty_network(description, file.path, most_layers=len(file.tensors))
    check_fit(network.state_dict(), file.tensors, file.path)
    network.load_state_dict(unify_dtypes(file), assign=True)
    return network.eval()


def check_fit(expected: Mapping[str, Any], found: Mapping[str, Tensor], path: Path) -> None:
    """Raise WeightsError where names differ, or else where shapes do; it names keys and both shapes."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    if missing or unexpected:
        parts = [
            f"{kind} {list_some(names)}" for kind, names in (("missing", missing), ("unexpected", unexpected)) if names
        ]
        raise WeightsError(
            f"{path} does not fit the network: {'; '.join(parts)}; it needs the state_dict of this network"
        )
    wrong = [
        f"{name} is {list(found[name].shape)}, expected {list(expected[name].shape)}"
        for name in expected
        if found[name].shape != expected[name].shape
    ]
    if wrong:
        raise WeightsError(
            f"{path} does not fit the network: {list_some(wrong, '; ')}; make the network with these sizes"
        )


def unify_dtypes(file: WeightFile) -> dict[str, Tensor]:
    """Return the file's tensors in the narrowest floating dtype that holds each of them exactly.

    Raises:
        WeightsError: a tensor is not of float16, bfloat16, float32 or float64.
    """
    widest = None
    for name, tensor in file.tensors.items():
        if tensor.dtype not in _FLOATS:
            raise WeightsError(
                f"{file.path}: {name} is {say_dtype(tensor.dtype)}, expected one of "
                f"{list_some(map(say_dtype, _FLOATS))}"
            )
        widest = tensor.dtype if widest is None else torch.promote_types(widest, tensor.dtype)
    return {name: tensor.to(widest) for name, tensor in file.tensors.items()}


def _as_named(found: dict[str, Tensor], expected: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return tensors under the module's own names, as far as a prefix and torch.compile alone tell them apart."""
    fitted = _without_prefix(found, expected)
    names = {_uncompiled(name): name for name in expected}
    plain = {_uncompiled(name): tensor for name, tensor in found.items()}
    if set(fitted) == set(expected) or len(names) < len(expected) or len(plain) < len(found):
        return fitted
    return {names.get(name, name): tensor for name, tensor in _without_prefix(plain, names).items()}


def _uncompiled(name: str) -> str:
    """Return a name without what torch.compile puts into it, in front or around a part."""
    return ".".join(part for part in name.split(".") if part != _COMPILED)


def _without_prefix(found: dict[str, Tensor], expected: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return tensors without what stands before all of their names, where just that makes the names fit."""
    stripped = found
    while stripped and set(stripped) != set(expected):
        heads = {name.partition(".")[0] for name in stripped}
        if len(heads) > 1 or not all("." in name for name in stripped):
            return found
        stripped = {name.partition(".")[2]: tensor for name, tensor in stripped.items()}
    return stripped or found


def _refuse_more_beside(found: Mapping[str, Tensor], expected: Mapping[str, Any], path: Path) -> None:
    """Raise WeightsError where all of a network's names are there behind one prefix, with others beside them.

    A loss with weights of its own, held by the same module while it trained, is often one.
    """
    first = next(iter(expected), "")
    for name in found if first else ():
        prefix = name.removesuffix(first)
        if prefix and name.endswith("." + first) and all(prefix + other in found for other in expected):
            others = [other for other in found if other.removeprefix(prefix) not in expected]
            raise WeightsError(
                f"{path} holds the network behind {prefix!r} and {list_some(others)} beside it, expected the network "
                f"alone; save {{k[{len(prefix)}:]: v for k, v in state_dict.items() if k.startswith({prefix!r})}}"
            )


def _convert(name: str, value: Tensor, like: Tensor, path: Path) -> Tensor:
    """Return ``value`` in the dtype of ``like``, every value unchanged."""
    if value.dtype == like.dtype:
        return value
    if any(value.dtype in kind and like.dtype in kind for kind in (_FLOATS, _INTEGERS)):
        converted = value.to(like.dtype)
        if torch.equal(converted.to(value.dtype).nan_to_num(), value.nan_to_num()):
            return converted
    raise WeightsError(
        f"{path}: {name} is {say_dtype(value.dtype)}, expected {say_dtype(like.dtype)}, and its values would change; "
        "convert the file, or the module before loading"
    )


def _empty_network(description: object, path: Path, most_layers: int | None = None) -> SequenceModel:
    """Make the network on the meta device: whatever sizes a hostile description names, no memory is taken."""
    if not isinstance(description, dict):
        raise WeightsError(
            f"{path}: {NETWORK_KEY!r} in its metadata is {type(description).__name__}, expected an object"
        )
    layers, widths = description.get("num_layers"), description.get("hidden_dim")
    count = layers * (len(widths) if isinstance(widths, list) else 1) if isinstance(layers, int) else 0
    if most_layers is not None and count > most_layers:
        raise WeightsError(f"{path} describes {count} layers, but holds {most_layers} tensors; write it again")
    try:
        with torch.device("meta"):
            return SequenceModel.from_description(description)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as err:
        raise WeightsError(f"{path}: the network it describes cannot be made ({first_line(err)})") from err
