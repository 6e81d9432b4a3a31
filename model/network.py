"""The whole network: a front, one or more stacks, and a head over what the stacks say.

Rules of this file: it composes and reads; gates and loops are elsewhere. ``describe`` and ``from_description`` are
exact inverses for cells of this house, so that a file of weights can carry its own network.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from .cell import check_state, plain_number, whole_number, whole_numbers
from .gru_cell import GRUCell
from .lstm_cell import CoupledLSTMCell, LSTMCell, PeepholeLSTMCell
from .normalised_cell import LayerNormLSTMCell, ProjectedLSTMCell
from .reads import READS, carry_pool, last_real_step, mask_padding
from .stack import RecurrentStack

CELLS: Final[Mapping[str, type[nn.Module]]] = {
    cell.__name__: cell
    for cell in (LSTMCell, PeepholeLSTMCell, CoupledLSTMCell, LayerNormLSTMCell, ProjectedLSTMCell, GRUCell)
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StateTensor:
    """One state tensor of a network: [rows, B, width], zeros at the start. Stack k > 0 has ``suffix`` "_k"."""

    name: str
    rows: int
    width: int
    suffix: str = ""


class SequenceModel(nn.Module):
    """Front, stacks, head.

    Args:
        input_dim: I; with an embedding front the number of tokens.
        hidden_dim: H, or one H for each of several stacks above each other.
        output_dim: O, width of the linear head; None for no head.
        cell: a name in CELLS, or a cell class of your own.
        num_layers: L of each stack.
        bidirectional: whether every layer also runs backwards.
        dropout: between layers and between stacks, while training.
        front: None, "linear" or "embedding".
        front_dim: width of the front's output; required with a front.
        reads: what the head sees: "every_step" gives [B, T, O]; "last_step" (the last real one), "mean" or "max" (over
            the real steps) give [B, O].
        cell_options: keyword arguments of the cell, such as projection_dim.

    Raises:
        ValueError: a choice is unknown or a width is missing; the message gives the choices.
        TypeError: a width or num_layers is no whole number.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int | Sequence[int],
        output_dim: int | None = None,
        *,
        cell: str | Callable[..., nn.Module] = "LSTMCell",
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        front: str | None = None,
        front_dim: int | None = None,
        reads: str = "every_step",
        **cell_options: object,
    ) -> None:
        super().__init__()
        input_dim, widths = whole_number("input_dim", input_dim), whole_numbers("hidden_dim", hidden_dim)
        output_dim = None if output_dim is None else whole_number("output_dim", output_dim)
        _check_choices(input_dim, widths, output_dim, reads)
        self.reads = reads
        self.input_dim = input_dim
        self.front, width = _make_front(front, input_dim, front_dim)
        self.takes_tokens = front == "embedding"
        self.cell_name, make_cell = _find_cell(cell)
        self.cell_options = {name: plain_number(value) for name, value in cell_options.items()}
        self.dropout = nn.Dropout(dropout)
        self.stacks = nn.ModuleList()
        for H in widths:
            stack = RecurrentStack(
                make_cell,
                width,
                H,
                num_layers=num_layers,
                bidirectional=bidirectional,
                dropout=dropout,
                **cell_options,
            )
            self.stacks.append(stack)
            width = stack.output_dim
        self.pooled_dim = width
        self.head = nn.Identity() if output_dim is None else nn.Linear(width, output_dim)
        self.output_dim = width if output_dim is None else output_dim
        self.state_counts = [len(stack.state_widths) for stack in self._stacks()]
        self.state_sizes = [(tensor.rows, tensor.width) for tensor in self.state_tensors()]

    def _stacks(self) -> list[RecurrentStack]:
        return [stack for stack in self.stacks if isinstance(stack, RecurrentStack)]

    @torch.jit.unused
    def state_tensors(self) -> tuple[StateTensor, ...]:
        """Return the state of the network in the order in which ``forward`` takes and returns it.

        A pooling carries its accumulators: ``pool`` [1, B, width] and ``count`` [1, B, 1], the real steps seen so far.
        """
        tensors = [
            StateTensor(
                name=name, rows=stack.num_layers * stack.num_directions, width=width, suffix=f"_{k}" if k else ""
            )
            for k, stack in enumerate(self._stacks())
            for name, width in stack.state_spec
        ]
        if self.reads in {"mean", "max"}:
            tensors.append(StateTensor(name="pool", rows=1, width=self.pooled_dim))
            tensors.append(StateTensor(name="count", rows=1, width=1))
        return tuple(tensors)

    def zero_state(self, x: Tensor) -> list[Tensor]:
        """Return the zero state for x [B, T, I] or tokens [B, T], tensors [rows, B, width] in order."""
        like: Tensor = self.front(x[:, :0])  # no steps, but the dtype in which the stacks compute
        state: list[Tensor] = []
        for stack in self.stacks:
            state.extend(stack.zero_state(like))  # type: ignore[operator]
        if self.reads == "mean" or self.reads == "max":  # noqa: PLR1714 - TorchScript has no `in` for this
            state.append(torch.zeros(1, x.size(0), self.pooled_dim, dtype=like.dtype, device=x.device))
            state.append(torch.zeros(1, x.size(0), 1, dtype=like.dtype, device=x.device))
        return state

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Run the network.

        Args:
            x: float [B, T, I], or int64 tokens [B, T] in 0 .. input_dim - 1; T >= 1.
            lengths: integer [B], the real steps of each row, 1..T; None for all T.
            state: tensors [rows, B, width] as ``state_tensors`` lists them; None for zeros.

        Returns:
            (y, state): y [B, T, O], zero at and after a row's length, or [B, O]; the state after the last real steps.

        Raises:
            ValueError: no steps, or state or lengths of another shape.
        """
        initial = self.zero_state(x) if state is None else state
        check_state(initial, [[rows, x.size(0), width] for rows, width in self.state_sizes])
        signal = self.front(x)
        finals: list[Tensor] = []
        for k, stack in enumerate(self.stacks):
            if k > 0:
                signal = self.dropout(signal)
            first = len(finals)
            signal, last = stack(signal, initial[first : first + self.state_counts[k]], lengths)
            finals.extend(last)
        if self.reads == "every_step":
            return mask_padding(self.head(signal), lengths), finals
        if self.reads == "last_step":
            return self.head(last_real_step(signal, lengths)), finals
        pooled, pool, count = carry_pool(self.reads, signal, lengths, initial[-2][0], initial[-1][0])
        finals.extend([pool.unsqueeze(0), count.unsqueeze(0)])
        return self.head(pooled), finals

    @torch.jit.unused
    def gate_activations(self, x: Tensor, lengths: Tensor | None = None) -> list[dict[str, Tensor]]:
        """Return the gates of every layer and direction for whole sequences, from zero state; see LSTMLayer."""
        signal = self.front(x)
        records = []
        for stack in self._stacks():
            D = stack.num_directions
            for first in range(0, len(stack.layers), D):
                layers = list(stack.layers)[first : first + D]
                records += [layer.gate_activations(signal, None, lengths) for layer in layers]  # type: ignore[operator]
                signal = torch.cat([layer(signal, None, lengths)[0] for layer in layers], 2)
        return records

    @torch.jit.unused
    def describe(self) -> dict[str, Any]:
        """Return the network as a JSON object: everything but the weights."""
        first = self._stacks()[0]
        front = type(self.front).__name__.lower()
        return {
            "input_dim": self.input_dim,
            "hidden_dim": [stack.hidden_dim for stack in self._stacks()],
            "output_dim": None if isinstance(self.head, nn.Identity) else self.output_dim,
            "cell": self.cell_name,
            "num_layers": first.num_layers,
            "bidirectional": first.num_directions == 2,  # noqa: PLR2004
            "dropout": self.dropout.p,
            "front": None if front == "identity" else front,
            "front_dim": None if front == "identity" else first.input_dim,
            "reads": self.reads,
            "cell_options": self.cell_options,
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "SequenceModel":
        """Make the network that ``describe`` described, with fresh weights.

        Raises:
            ValueError: a field is missing or unknown, or the cell is not one of CELLS.
        """
        fields = dict(description)
        options = fields.pop("cell_options", {})
        if fields.get("cell") not in CELLS:
            raise ValueError(
                f"cell is {fields.get('cell')!r}, expected one of {', '.join(CELLS)}; "
                "a network with a cell of your own needs its factory"
            )
        try:
            return cls(**fields, **options)
        except TypeError as err:
            raise ValueError(f"the network description does not fit: {err}") from err


def _check_choices(input_dim: int, widths: list[int], output_dim: int | None, reads: str) -> None:
    if not widths or min(input_dim, *widths, 1 if output_dim is None else output_dim) < 1:
        hidden_dim = widths[0] if len(widths) == 1 else widths
        raise ValueError(
            f"input_dim, hidden_dim, output_dim are {input_dim}, {hidden_dim}, {output_dim}, expected at least 1"
        )
    if reads not in READS:
        raise ValueError(f"reads is {reads!r}, expected one of {', '.join(READS)}")


def _find_cell(cell: str | Callable[..., nn.Module]) -> tuple[str, Callable[..., nn.Module]]:
    if not isinstance(cell, str):
        name = getattr(cell, "__qualname__", type(cell).__qualname__)
        # A cell of somebody's own that bears a name of this house is another cell, and is described as such.
        return (name if CELLS.get(name) is cell else f"{cell.__module__}.{name}"), cell
    if cell not in CELLS:
        raise ValueError(f"cell is {cell!r}, expected one of {', '.join(CELLS)} or a cell class")
    return cell, CELLS[cell]


def _make_front(front: str | None, input_dim: int, front_dim: int | None) -> tuple[nn.Module, int]:
    if front is None:
        return nn.Identity(), input_dim
    if front not in {"linear", "embedding"}:
        raise ValueError(f"front is {front!r}, expected None, 'linear' or 'embedding'")
    if front_dim is None:
        raise ValueError(f"front is {front!r} but front_dim is missing, expected the width of its output")
    front_dim = whole_number("front_dim", front_dim)
    return (nn.Linear if front == "linear" else nn.Embedding)(input_dim, front_dim), front_dim
