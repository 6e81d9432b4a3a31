"""Between PyTorch's own recurrent modules and this house's: every weight copied bit for bit, none computed.

Rules of this file: it permutes rows and copies; no files. The gate blocks of a weight [4*H, .] stand in the order
i, f, g, o in torch.nn.LSTM and i, f, o, g here; those of a GRU stand r, z, n in both. Source: the documentation of
torch.nn.LSTM and torch.nn.GRU, "Variables".
"""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn

from .cell import name_of
from .gru_cell import GRUCell
from .lstm_cell import CoupledLSTMCell, LSTMCell, PeepholeLSTMCell
from .normalised_cell import LayerNormLSTMCell, ProjectedLSTMCell
from .stack import RecurrentStack

# The same permutation in both directions: exchanging the last two blocks undoes itself.
_BLOCKS: Final[Mapping[type[nn.Module], tuple[int, ...]]] = {
    LSTMCell: (0, 1, 3, 2),
    ProjectedLSTMCell: (0, 1, 3, 2),
    GRUCell: (0, 1, 2),
}
_TORCH_NAMES: Final = {
    "input_layer.weight": "weight_ih",
    "hidden_layer.weight": "weight_hh",
    "input_layer.bias": "bias_ih",
    "hidden_layer.bias": "bias_hh",
    "projection.weight": "weight_hr",
}
_BEYOND_TORCH: Final[Mapping[type[nn.Module], str]] = {
    PeepholeLSTMCell: "peepholes",
    CoupledLSTMCell: "a coupled input and forget gate",
    LayerNormLSTMCell: "layer normalisation",
}


def stack_from_torch(module: nn.Module) -> RecurrentStack:
    """Return the stack that computes what ``module`` does.

    Dtype, device, training mode, dropout and ``requires_grad`` are kept. ``batch_first`` is not: a stack always is.

    Args:
        module: torch.nn.LSTM (any layers, directions, proj_size, with bias or without) or torch.nn.GRU.

    Raises:
        ValueError: ``module`` is of another kind.
    """
    if not isinstance(module, nn.LSTM | nn.GRU):
        raise ValueError(f"{type(module).__name__} is no recurrent stack, expected torch.nn.LSTM or torch.nn.GRU")  # noqa: TRY004 - as every other refusal here
    options: dict[str, object] = {"bias": module.bias}
    if module.proj_size:
        options["projection_dim"] = module.proj_size
    with torch.device("meta"):  # no initialisation, and no random numbers drawn
        stack = RecurrentStack(
            GRUCell if isinstance(module, nn.GRU) else ProjectedLSTMCell if module.proj_size else LSTMCell,
            module.input_size,
            module.hidden_size,
            num_layers=module.num_layers,
            bidirectional=module.bidirectional,
            dropout=module.dropout,
            **options,
        )
    _give_memory(stack, next(module.parameters()))
    for k, cell in enumerate(_cells_of(stack)):
        _copy(cell, module, _suffix(k, stack.num_directions), to_torch=False)
    return stack.train(module.training)


def stack_to_torch(stack: RecurrentStack, *, batch_first: bool = True) -> nn.LSTM | nn.GRU:
    """Return the torch.nn.LSTM or torch.nn.GRU that computes what ``stack`` does.

    Dtype, device, training mode, dropout and ``requires_grad`` are kept.

    Raises:
        ValueError: torch has no module for it: other activations, peepholes, coupled gates, layer normalisation, or a
            cell of your own.
    """
    cells = _cells_of(stack)
    for k, cell in enumerate(cells):
        _check_expressible(cell)
        if bool(stack.layers[k].reverse) != (k % stack.num_directions == 1):
            raise ValueError(f"layer {k} of the stack runs backwards alone, which torch.nn has no module for")
    first = cells[0].input_layer
    assert isinstance(first, nn.Linear)
    projection = stack.state_widths[0] if isinstance(cells[0], ProjectedLSTMCell) else 0
    module = (nn.GRU if isinstance(cells[0], GRUCell) else nn.LSTM)(
        stack.input_dim,
        stack.state_widths[-1],
        num_layers=stack.num_layers,
        bias=first.bias is not None,
        batch_first=batch_first,
        bidirectional=stack.num_directions == 2,  # noqa: PLR2004
        device=first.weight.device,
        dtype=first.weight.dtype,
        **({"proj_size": projection} if projection else {}),
    )
    module.dropout = stack.dropout.p  # after construction: torch warns of dropout on one layer, where it does nothing
    for k, cell in enumerate(cells):
        _copy(cell, module, _suffix(k, stack.num_directions), to_torch=True)
    return module.train(stack.training)


def cell_from_torch(module: nn.Module) -> LSTMCell | GRUCell:
    """Return the cell that computes what a torch.nn.LSTMCell or torch.nn.GRUCell does.

    Raises:
        ValueError: ``module`` is of another kind.
    """
    if not isinstance(module, nn.LSTMCell | nn.GRUCell):
        raise ValueError(  # noqa: TRY004 - as every other refusal here
            f"{type(module).__name__} is no recurrent cell, expected torch.nn.LSTMCell or torch.nn.GRUCell"
        )
    kind = GRUCell if isinstance(module, nn.GRUCell) else LSTMCell
    with torch.device("meta"):
        cell = kind(module.input_size, module.hidden_size, bias=module.bias)
    _give_memory(cell, next(module.parameters()))
    _copy(cell, module, "", to_torch=False)
    return cell.train(module.training)


def cell_to_torch(cell: nn.Module) -> nn.LSTMCell | nn.GRUCell:
    """Return the torch.nn.LSTMCell or torch.nn.GRUCell that computes what ``cell`` does.

    Raises:
        ValueError: torch has no cell for it; a projection exists in torch.nn.LSTM only.
    """
    _check_expressible(cell)
    if isinstance(cell, ProjectedLSTMCell):
        raise ValueError(  # noqa: TRY004 - as every other refusal here
            "torch.nn.LSTMCell has no projection, so ProjectedLSTMCell cannot become one; convert its stack"
        )
    first = cell.input_layer
    assert isinstance(first, nn.Linear)
    kind: Callable[..., nn.LSTMCell | nn.GRUCell] = nn.GRUCell if isinstance(cell, GRUCell) else nn.LSTMCell
    width = first.out_features // len(_BLOCKS[type(cell)])
    bias = first.bias is not None
    module = kind(first.in_features, width, bias=bias, device=first.weight.device, dtype=first.weight.dtype)
    _copy(cell, module, "", to_torch=True)
    return module.train(cell.training)


def _cells_of(stack: RecurrentStack) -> list[nn.Module]:
    cells = [layer.cell for layer in stack.layers]
    return [cell for cell in cells if isinstance(cell, nn.Module)]


def _suffix(row: int, directions: int) -> str:
    """Return what torch appends to the names of row ``row`` of the state: layer, then direction."""
    return f"_l{row // directions}" + ("_reverse" if row % directions else "")


def _check_expressible(cell: nn.Module) -> None:
    name = name_of(cell)
    if type(cell) not in _BLOCKS:
        reason = _BEYOND_TORCH.get(type(cell))
        if name != type(cell).__name__:  # a loop that was adopted or rolled up, or nn.RNNCell
            raise ValueError(
                f"{name} is code of its own, and torch.nn has layers for LSTMCell, ProjectedLSTMCell and GRUCell of "
                "cellgate.model alone"
            )
        found = f"{name} has {reason}" if reason else f"{name} is a cell of your own"
        expected = "expected LSTMCell, ProjectedLSTMCell or GRUCell of cellgate.model"
        raise ValueError(f"{found}, which torch.nn has no module for; {expected}")
    if isinstance(cell, LSTMCell):
        found = f"{cell.gate_activation}, {cell.cell_activation}, {cell.output_activation}"
        if found != "sigmoid, tanh, tanh":
            raise ValueError(
                f"{name} has the activations {found}, which torch.nn has no module for; expected sigmoid, tanh, tanh"
            )
    further = next((path for path, _ in cell.named_parameters() if path not in _TORCH_NAMES), None)
    if further is not None:  # a weight norm, for one, keeps two parameters in the place of a weight
        raise ValueError(f"{name} has the parameter {further}, which torch.nn has no place for; expected plain weights")


def _give_memory(module: nn.Module, like: Tensor) -> None:
    """Put a module made on the meta device where ``like`` is, in its dtype."""
    module.to_empty(device=like.device)
    module.to(dtype=like.dtype)


@torch.no_grad()
def _copy(cell: nn.Module, module: nn.Module, suffix: str, *, to_torch: bool) -> None:
    """Copy the parameters of one cell and of the torch arrays with ``suffix`` one way or the other."""
    blocks = _BLOCKS[type(cell)]
    for name, own in cell.named_parameters():
        other: Tensor = getattr(module, _TORCH_NAMES[name] + suffix)
        source, target = (own, other) if to_torch else (other, own)
        if name != "projection.weight":
            target.copy_(torch.cat([source.chunk(len(blocks), 0)[k] for k in blocks], 0))
        else:
            target.copy_(source)
        target.requires_grad_(source.requires_grad)
