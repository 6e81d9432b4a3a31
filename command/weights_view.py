"""What `inspect` says of a checkpoint: its tensors, and the network that it describes or whose shapes are known.

Rules of this file: .safetensors is read by its header alone, without torch; a .pt needs torch, which reads it without
running what it may carry (torch_checkpoint.py).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from .errors import UsageError
from .extras import load
from .terminal import Terminal

CHECKPOINTS: Final = (".safetensors", ".pt", ".pth", ".ckpt")
_NETWORK_KEY: Final = "cellgate.network"
# As NumPy calls them; others are shown as the file has them.
_DTYPES: Final[Mapping[str, str]] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}
_GATES: Final[Mapping[str, str]] = {
    "LSTMCell": "4 gates: input, forget, output, cell",
    "PeepholeLSTMCell": "4 gates: input, forget, output, cell; peepholes",
    "CoupledLSTMCell": "3 gates: forget (input is 1 - forget), output, cell",
    "LayerNormLSTMCell": "4 gates: input, forget, output, cell; layer normalisation",
    "ProjectedLSTMCell": "4 gates: input, forget, output, cell; projection",
    "GRUCell": "3 gates: reset, update, new",
}

_TORCH_FORMS: Final = {"torch.nn.LSTM", "torch.nn.GRU"}
_TORCH_GATES: Final[Mapping[str, str]] = {
    "LSTMCell": "4 gates: input, forget, cell, output",
    "ProjectedLSTMCell": "4 gates: input, forget, cell, output; projection",
    "GRUCell": "3 gates: reset, update, new",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """What a file of weights says.

    Attributes:
        tensors: (name, dtype, shape), sorted by name.
        metadata: of a safetensors file, the network's description left out.
        form: how the network was recognised, or None.
        network: its description, or None.
        reason: why no network was recognised.
    """

    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    form: str | None = None
    network: Mapping[str, Any] | None = None
    reason: str | None = None


def show_weights(path: Path, terminal: Terminal) -> None:
    """Print what a checkpoint holds.

    Raises:
        UsageError: damaged; or a .pt without torch, naming the extra.
    """
    found = read_header(path) if path.suffix == ".safetensors" else read_with_torch(path)
    parameters = sum(prod(shape) for _, _, shape in found.tensors)
    terminal.say(f"checkpoint {path}")
    terminal.say()
    rows = [("tensors", f"{len(found.tensors)}, {parameters:,} numbers"), *_network_rows(found)]
    rows += [(key, value) for key, value in sorted(found.metadata.items())]
    terminal.pairs(rows)
    terminal.say()
    terminal.table(
        ("tensor", "dtype", "shape"), [(name, dtype, str(list(shape))) for name, dtype, shape in found.tensors]
    )
    terminal.answer(
        {
            "kind": "checkpoint",
            "path": str(path),
            "parameters": parameters,
            "form": found.form,
            "network": found.network,
            "reason": found.reason,
            "metadata": dict(found.metadata),
            "tensors": [{"name": n, "dtype": d, "shape": s} for n, d, s in found.tensors],
        }
    )


def read_header(path: Path) -> Checkpoint:
    """Read a .safetensors file: header only, and torch only to recognise shapes, where it is there.

    Raises:
        UsageError: damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            slices = {name: file.get_slice(name) for name in sorted(file.keys())}
            tensors = tuple((n, _dtype(s.get_dtype()), tuple(s.get_shape())) for n, s in slices.items())
    except (SafetensorError, OSError) as err:
        raise UsageError(f"{path}: expected a safetensors file, found: {err}; write it again") from err
    text = metadata.pop(_NETWORK_KEY, None)
    if text is not None:
        network, reason = _parse_network(text)
        return Checkpoint(
            tensors=tensors,
            metadata=metadata,
            form=None if network is None else "cellgate",
            network=network,
            reason=reason,
        )
    try:
        recognised = read_with_torch(path)
    except UsageError as err:  # no torch, or a dtype that it has not: the header was read all the same
        return Checkpoint(tensors=tensors, metadata=metadata, reason=str(err))
    return Checkpoint(
        tensors=tensors,
        metadata=metadata,
        form=recognised.form,
        network=recognised.network,
        reason=recognised.reason,
    )


def read_with_torch(path: Path) -> Checkpoint:
    """Read a checkpoint of any kind.

    Raises:
        MissingExtraError: torch is not installed.
        UsageError: damaged, or it holds more than tensors.
    """
    found: Checkpoint = load(f"{__package__}.torch_checkpoint", "inspect").read_checkpoint(path)
    return found


def _dtype(name: object) -> str:
    return _DTYPES.get(str(name), str(name))


def _parse_network(text: str) -> tuple[dict[str, Any] | None, str | None]:
    try:
        network = json.loads(text)
    except (ValueError, RecursionError):
        return None, f"{_NETWORK_KEY} in its metadata is not JSON"
    return (network, None) if isinstance(network, dict) else (None, f"{_NETWORK_KEY} in its metadata is no object")


def _network_rows(found: Checkpoint) -> list[tuple[str, str]]:
    network = found.network
    if network is None:
        return [("network", f"not recognised: {found.reason}")]
    cell = str(network.get("cell", "unknown cell"))
    widths = network.get("hidden_dim")
    layers = network.get("num_layers")
    directions = "both directions" if network.get("bidirectional") else "one direction"
    shown = ", ".join(map(str, widths)) if isinstance(widths, list) else widths
    stacks = len(widths) if isinstance(widths, Sequence) else 1
    return [
        ("network", f"{found.form}: {cell} ({_gates(found.form, cell)})"),
        ("layers", f"{layers}{f' in each of {stacks} stacks' if stacks > 1 else ''}, {directions}"),
        ("sizes", f"I {network.get('input_dim')}, H {shown}, O {network.get('output_dim') or 'as H'}"),
        ("reads", str(network.get("reads"))),
    ]


def _gates(form: str | None, cell: str) -> str:
    """Say which gates there are, in the order of the file's rows."""
    if form == "LSTMLayer":
        return "4 gates, in an order that the file does not say: export wants --gate-order"
    return _TORCH_GATES[cell] if form in _TORCH_FORMS else _GATES.get(cell, "gates of its own")
