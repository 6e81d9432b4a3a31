"""A network run once before anything is made of it, so that what is wrong with a user's own cell is said of the cell.

Later it would be said by TorchScript's compiler or by the capturer, in their words and of their own inner works.

Rules of this file: a stranger's cell runs here, and whatever it raises is an answer.
"""

from contextlib import ExitStack
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from ..bundle.manifest import GraphSignature
from ..model import CellError, LSTMLayer
from ..model.cell import name_of, state_form
from ..model.stack import output_width_of
from .error_line import said_by
from .errors import SourceError
from .half_precision import half_precision_in, say_half_precision

_B: Final = 3
_T: Final = 2
_PAIR: Final = 2


def check_own_cells(network: nn.Module, signature: GraphSignature) -> None:
    """Run a network of this project's parts around a cell of the user's own; others are left alone.

    Args:
        network: in evaluation mode.
        signature: of its graph.

    Raises:
        SourceError: a cell fails, returns something else than the cell protocol says, or computes in half precision.
    """
    layers = [part for part in network.modules() if isinstance(part, LSTMLayer) and not _is_of_this_house(part.cell)]
    running: list[nn.Module] = []
    with ExitStack() as hooks, torch.no_grad():
        for layer in layers:
            hooks.callback(layer.cell.register_forward_pre_hook(lambda cell, _: running.append(cell)).remove)
            check = partial(_check_output, running, output_width_of(layer))
            hooks.callback(layer.cell.register_forward_hook(check).remove)
        try:
            found = half_precision_in(lambda: network(_sequence(signature))) if layers else ""
        except CellError as err:
            raise SourceError(str(err)) from err
        except Exception as err:
            if not running:  # it was in no cell, and is said where the whole is captured
                return
            raise SourceError(_failed(running[-1], err)) from err
    if found:
        raise SourceError(say_half_precision(type(network).__name__, found))


def _failed(cell: nn.Module, err: Exception) -> str:
    state = state_form(cell)
    argument = state if state.isidentifier() else f"state = {state}"
    return (
        f"{name_of(cell)}.forward failed ({said_by(err)}), expected forward(x, {argument}) with x [B, I] and each "
        f"state [B, width], which returns (output [B, H], {state})"
    )


def _check_output(running: list[nn.Module], width: int, cell: nn.Module, _: object, result: object) -> None:
    """Check the output of one step; what else a cell returns is checked by its layer."""
    running.pop()
    output = result[0] if isinstance(result, tuple | list) and len(result) == _PAIR else None
    if isinstance(output, Tensor) and list(output.shape) != [_B, width]:
        raise CellError(
            f"{name_of(cell)}.forward returned an output {list(output.shape)} for {_B} rows, expected [B, {width}], as "
            "wide as its first state; return that, or set output_dim in the cell's constructor"
        )


def _is_of_this_house(cell: nn.Module) -> bool:
    return type(cell).__module__.startswith(LSTMLayer.__module__.rpartition(".")[0] + ".")


def _sequence(signature: GraphSignature) -> Tensor:
    spec = signature.inputs[0]
    if spec.dtype == "int64":
        return torch.zeros(_B, _T, dtype=torch.int64)
    return torch.zeros(_B, _T, int(spec.shape[2]))
