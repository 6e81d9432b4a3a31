"""A network from a checkpoint alone: what the file says of itself, or what the shapes of its weights say.

Rules of this file: nothing is guessed. Where names and shapes leave a choice, the answer is an error that asks for the
factory of the network.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from .network import SequenceModel
from .torch_weights import stack_from_torch
from .weight_file import WeightFile, WeightsError, list_some, read_weights, say_dtype
from .weights import NETWORK_KEY, check_fit, restore_network, unify_dtypes

_TORCH_KEY: Final = re.compile(
    r"(?P<prefix>(?:.*\.)?)(?P<name>(?:weight|bias)_(?:ih|hh|hr)_l(?P<layer>\d+)(?:_reverse)?)"
)
_CELL_KEY: Final = re.compile(r"(?P<prefix>(?:.*\.)?)(?P<name>(?:input|hidden)_layer\.(?:weight|bias))")
_GATES: Final = {4: nn.LSTM, 3: nn.GRU}
_KNOWN: Final = (
    "known alone are a file of save_network, the state dict of one torch.nn.LSTM or nn.GRU (weight_ih_l0, ...), and "
    "that of one LSTMLayer over LSTMCell (cell.input_layer.weight, ...)"
)
GATE_ORDER: Final = ("input", "forget", "output", "cell")
"""In which ``LSTMCell``'s ``chunk(4, 1)`` has the gates."""
_FACTORY: Final = "export it with a factory (package.module:factory with --weights)"


def network_from_checkpoint(
    path: str | Path, gate_order: Sequence[str] = GATE_ORDER
) -> tuple[SequenceModel, dict[str, Any]]:
    """Return the network that a checkpoint holds, in evaluation mode on the CPU, and what was found.

    Half precision is widened to float32, which changes no value; float64 stays. Networks found by their shapes have no
    head and read every step. Names may share one prefix.

    Args:
        path: of the file.
        gate_order: how the blocks of 4*H rows stand in the weights of an LSTMLayer, which these do not tell: a
            permutation of GATE_ORDER. Other files say it themselves, or have the order of torch.

    Returns:
        (network, facts): ``form`` ("cellgate", "torch.nn.LSTM", "torch.nn.GRU" or "LSTMLayer"), ``prefix`` of the
        names, ``dtype`` of the file, ``parameters`` (their number), ``description`` as ``SequenceModel.describe``
        gives it, ``metadata`` of the file.

    Raises:
        WeightsError: the file is unreadable, of no known form, or holds more than one recurrent module.
    """
    file = read_weights(path)
    metadata = {key: text for key, text in file.metadata.items() if key != NETWORK_KEY}
    if NETWORK_KEY in file.metadata:
        form, prefix, network = "cellgate", "", restore_network(file)
    elif matches := _matches(_TORCH_KEY, file):
        prefix, file = _only(matches, file)
        form, network = _from_torch(file)
    elif matches := _matches(_CELL_KEY, file):
        prefix, file = _only(matches, file)
        form, network = _from_cell(file, gate_order)
    else:
        names = list_some(file.tensors) if file.tensors else "nothing"
        raise WeightsError(f"{file.path} holds {names}, from which no network is known; {_KNOWN}; {_FACTORY}")
    dtype = next(network.parameters()).dtype
    if dtype not in {torch.float32, torch.float64}:
        network = network.float()
    parameters = sum(weight.numel() for weight in network.parameters())
    return network.eval(), {
        "form": form,
        "prefix": prefix,
        "dtype": say_dtype(dtype),
        "parameters": parameters,
        "description": network.describe(),
        "metadata": metadata,
    }


def _matches(pattern: re.Pattern[str], file: WeightFile) -> dict[str, re.Match[str]]:
    found = {name: pattern.fullmatch(name) for name in file.tensors}
    return {name: match for name, match in found.items() if match}


def _only(matches: Mapping[str, re.Match[str]], file: WeightFile) -> tuple[str, WeightFile]:
    """Return (prefix, file without it) where every name belongs to the one recurrent module."""
    prefixes = sorted({match["prefix"] for match in matches.values()})
    if len(prefixes) > 1:
        raise WeightsError(
            f"{file.path} holds {len(prefixes)} recurrent modules ({list_some(map(repr, prefixes))}), expected one; "
            f"how they are joined is not in a checkpoint; {_FACTORY}"
        )
    others = [name for name in file.tensors if name not in matches]
    if others:
        raise WeightsError(
            f"{file.path} holds {list_some(others)} beside its recurrent module, and what they do is not in a "
            f"checkpoint; {_FACTORY}"
        )
    tensors = {match["name"]: file.tensors[name] for name, match in matches.items()}
    return prefixes[0], WeightFile(file.path, tensors, file.metadata)


def _from_torch(file: WeightFile) -> tuple[str, SequenceModel]:
    """Infer the sizes of a torch.nn.LSTM or nn.GRU, fill it, and wrap its stack."""
    layers = {name.removesuffix("_reverse").rpartition("_l")[2] for name in file.tensors}
    bidirectional = any(name.endswith("_reverse") for name in file.tensors)
    projected = "weight_hr_l0" in file.tensors
    _, I = _sizes(file, "weight_ih_l0")
    rows, fed_back = _sizes(file, "weight_hh_l0")
    H = _sizes(file, "weight_hr_l0")[1] if projected else fed_back
    gates, rest = divmod(rows, H)
    if rest or gates not in _GATES or (projected and gates != 4):  # noqa: PLR2004
        raise WeightsError(
            f"{file.path}: weight_hh_l0 is [{rows}, {fed_back}], expected [4*H, H] for an LSTM ([4*H, P] with a "
            f"projection) or [3*H, H] for a GRU; {_FACTORY}"
        )
    kind = _GATES[gates]
    options: dict[str, Any] = {"proj_size": fed_back} if projected else {}
    if projected and fed_back >= H:
        raise WeightsError(f"{file.path}: weight_hr_l0 is [{fed_back}, {H}], expected a projection to less than {H}")
    with torch.device("meta"):
        bias = "bias_ih_l0" in file.tensors
        module = kind(I, H, num_layers=len(layers), bias=bias, bidirectional=bidirectional, **options)
    check_fit(module.state_dict(), file.tensors, file.path)
    module.load_state_dict(unify_dtypes(file), assign=True)
    return f"torch.nn.{kind.__name__}", _wrap_stack(module)


def _wrap_stack(module: nn.LSTM | nn.GRU) -> SequenceModel:
    stack = stack_from_torch(module)
    cell = type(stack.layers[0].cell).__name__
    options: dict[str, Any] = {"bias": module.bias}
    if module.proj_size:
        options["projection_dim"] = module.proj_size
    with torch.device("meta"):
        network = SequenceModel(
            module.input_size,
            module.hidden_size,
            cell=cell,
            num_layers=module.num_layers,
            bidirectional=module.bidirectional,
            **options,
        )
    network.stacks[0] = stack
    return network


def _from_cell(file: WeightFile, gate_order: Sequence[str]) -> tuple[str, SequenceModel]:
    """Infer the sizes of the tutorial's cell, and put it into a network of one layer, its gates in GATE_ORDER."""
    _, I = _sizes(file, "input_layer.weight")
    rows, H = _sizes(file, "hidden_layer.weight")
    if rows == 3 * H:
        raise WeightsError(
            f"{file.path}: hidden_layer.weight is [{rows}, {H}], which a GRUCell and a CoupledLSTMCell both have; "
            f"{_FACTORY}"
        )
    if rows != 4 * H:
        raise WeightsError(f"{file.path}: hidden_layer.weight is [{rows}, {H}], expected [4*H, H]; {_FACTORY}")
    with torch.device("meta"):
        network = SequenceModel(I, H, bias="input_layer.bias" in file.tensors)
    cell = network.stacks[0].layers[0].cell  # type: ignore[union-attr, index]
    assert isinstance(cell, nn.Module)
    check_fit(cell.state_dict(), file.tensors, file.path)
    blocks = [tuple(gate_order).index(gate) for gate in GATE_ORDER]
    ordered = {name: _reordered(weight, blocks) for name, weight in unify_dtypes(file).items()}
    cell.load_state_dict(ordered, assign=True)
    return "LSTMLayer", network


def _reordered(weight: Tensor, blocks: Sequence[int]) -> Tensor:
    """Return [4*H, ...] with its four blocks of H rows in another order."""
    return weight if list(blocks) == sorted(blocks) else torch.cat([weight.chunk(4)[block] for block in blocks])


def _sizes(file: WeightFile, name: str) -> tuple[int, int]:
    """Return (rows, columns) of a weight that must be there, neither of them zero."""
    weight: Tensor | None = file.tensors.get(name)
    if weight is None:
        raise WeightsError(f"{file.path}: {name} is missing beside {list_some(file.tensors)}; {_FACTORY}")
    if weight.ndim != 2 or 0 in weight.shape:  # noqa: PLR2004
        raise WeightsError(f"{file.path}: {name} is {list(weight.shape)}, expected two dimensions, neither of them 0")
    return int(weight.shape[0]), int(weight.shape[1])
