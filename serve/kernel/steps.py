"""What the project's own kernels compute of a network, step by step, and what stays with the runtime between.

Rules of this file: data alone. Tensors go by their names in the graph, "" where one is left out.
"""

from dataclasses import dataclass, field

from ..arrays import Array
from .graph_reader import Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Lstm:
    """An LSTM layer in one direction: w [4H, I], r [4H, H], b [4H] (both biases added), gates i, o, f, c.

    Inputs by name, "" where left out: x [T, B, I], lengths [B], h0 and c0 [1, B, H]. Outputs likewise: y [T, 1, B, H],
    h_n and c_n [1, B, H].

    Attributes:
        batch_first: x is [B, T, I].
        clears: y is zero after a row's end; else it holds anything there.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    w: Array
    r: Array
    b: Array
    batch_first: bool = False
    clears: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """A product with stored weights: [..., I] to [..., O] by w [O, I] and b [O]."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    w: Array
    b: Array


@dataclass(frozen=True, kw_only=True, slots=True)
class Squeeze:
    """The same values without some axes of size 1."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Equal parts along the first axis, as many as there are outputs."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Concat:
    """Parts one after the other along the first axis."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Swap:
    """[A, B, C] to [B, A, C]."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Step = Lstm | Product | Squeeze | Split | Concat | Swap


@dataclass(kw_only=True, slots=True)
class Stage:
    """Nodes for the runtime, then steps of our own."""

    nodes: list[Node] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
