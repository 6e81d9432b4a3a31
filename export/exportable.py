"""A network ready for export: one call for every kind of network, its lowered twin, and the signature of its graph.

Rules of this file: it decides names and shapes (design: x or tokens, lengths, h0, c0, ... -> y, h_n, c_n, ...); it runs
nothing but a copy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from ..bundle.manifest import GraphSignature
from .description import describe
from .errors import UnsupportedLayerError
from .foreign.columns import Column
from .foreign.exchange import Exchange
from .foreign.network import ForeignNetwork
from .foreign.plain_module import plain_copy, unwrapped
from .foreign.renormed_tables import refuse_tables_read_elsewhere
from .graph.cuda_kernels import runs_on_cuda
from .graph.lowering import LoweredLayer, lower
from .house_call import with_house_call
from .lost_in_graph import nothing_lost_in_graph
from .network_signature import signature_of
from .own_cells import check_own_cells

_EXAMPLE_STEPS: Final = 5


class FlatCall(nn.Module):
    """The network with one tensor for each graph input and output, which is what a graph capturer wants."""

    def __init__(self, network: nn.Module, *, has_lengths: bool) -> None:
        super().__init__()
        self.network = network
        self.has_lengths = has_lengths

    def forward(self, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Take x, then lengths where the graph has them, then the state tensors; return y, then the state tensors."""
        lengths = rest[0] if self.has_lengths else None
        state = list(rest[1:] if self.has_lengths else rest)
        y, final = self.network(x, lengths, state or None)
        return (y, *final)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exportable:
    """What the exporters and the verification start from.

    Attributes:
        network: this house's call (x, lengths, state) -> (y, state) on the network in eager PyTorch, eval mode.
        graph_call: the lowered copy, flat (FlatCall).
        scriptable: the module that TorchScript compiles: ``network`` itself, or a foreign module as it came, in a loop
            where it takes one step a call.
        signature: of the graph.
        layers: what each recurrent layer became.
        exchanges: what was exchanged in a foreign module; empty for this house's networks.
        description: for manifest and inspect.
        float64_gates: whether the graph computes gates and states in float64 (wide_gates.py).
    """

    network: nn.Module
    graph_call: FlatCall
    scriptable: nn.Module
    signature: GraphSignature
    layers: tuple[LoweredLayer, ...]
    exchanges: tuple[Exchange, ...]
    description: dict[str, Any]
    float64_gates: bool = False

    @property
    def captures(self) -> tuple[int, ...]:
        """The fewest steps that a capture may allow, tried in turn: it takes a size of one for a special case."""
        least = self.signature.least_steps
        if not isinstance(self.network, ForeignNetwork):
            return (least,)
        several = self.network.least_captured
        return tuple(dict.fromkeys((least, several, several + 1, several + 2)))

    @property
    def uncaptured(self) -> range:
        """Numbers of steps that a capture may have left out, so that each is to be verified on runs."""
        return range(self.captures[0], self.captures[-1])

    def example(self, rows: int = 3, steps: int | None = None) -> tuple[Tensor, ...]:
        """Return random inputs in the order of the signature, rows of unequal length where lengths are taken.

        Args:
            rows: B.
            steps: T; None: as many as tell what the network does.
        """
        least = self.signature.least_steps
        if steps is None:
            probed = _EXAMPLE_STEPS
            if isinstance(self.network, ForeignNetwork):
                probed = max(self.network.probe_steps[0], self.network.least_captured)
            steps = max(probed, least + 3)  # so that nothing that is shortened has a size of one, a special case
        generator = torch.Generator().manual_seed(0)
        tensors: list[Tensor] = []
        for spec in self.signature.inputs:
            shape = [rows if axis == "B" else steps if axis == "T" else int(axis) for axis in spec.shape]
            if spec.name == self.signature.lengths:
                tensors.append(torch.arange(rows, dtype=torch.int32) % (steps - least + 1) + least)
            elif spec.dtype == "int64":
                assert self.signature.vocabulary_size is not None
                tensors.append(torch.randint(0, self.signature.vocabulary_size, shape, generator=generator))
            else:
                tensors.append(torch.randn(shape, generator=generator))
        return tuple(tensors)


def prepare(
    source: nn.Module,
    told: Mapping[str, str] | None = None,
    input_dim: int | None = None,
    *,
    answer: str | None = None,
    columns: Sequence[Column] | None = None,
    float64_gates: bool = False,
) -> Exportable:
    """Make a network ready for export.

    Args:
        source: a SequenceModel, RecurrentStack or LSTMLayer, or any module around recurrent layers. Not changed.
        told: argument names of a foreign module's forward for the roles sequence, lengths, mask and state.
        input_dim: I of a foreign module, where it cannot be found.
        answer: which of the tensors that a foreign module's forward returns is y; None for the first (answer.py).
        columns: arguments of a foreign module's forward that are cut out of x, in the order in which x has them.
        float64_gates: see Exportable; every layer becomes a Scan for it.

    Raises:
        SourceError: see plain_copy; a head of another width than the network names; or a cell of the user's own that
            does not keep the cell protocol.
        ExportError: one of its classes, saying what in the module cannot be exported.
    """
    plain = plain_copy(source)
    with nothing_lost_in_graph(plain):
        network, scriptable = with_house_call(plain, told, input_dim, answer, columns)
    network = network.eval()
    if isinstance(network, ForeignNetwork):
        refuse_tables_read_elsewhere(network, scriptable, unwrapped(source))
    signature = signature_of(network)
    if not isinstance(network, ForeignNetwork):
        check_own_cells(network, signature)
    lowered, layers = lower(network, can_fuse=lambda _: not float64_gates)
    width = int(network.input_dim)  # type: ignore[arg-type] # every kind of network has one
    return Exportable(
        network=network,
        graph_call=_graph_call(lowered, layers, signature),
        scriptable=scriptable,
        signature=signature,
        layers=layers,
        exchanges=network.exchanges if isinstance(network, ForeignNetwork) else (),
        description=describe(plain, width, signature.vocabulary_size)
        | (network.input_said if isinstance(network, ForeignNetwork) else {})
        | ({"gates": "float64"} if float64_gates else {})
        | ({"least_steps": signature.least_steps} if signature.least_steps > 1 else {})
        | ({"most_steps": signature.most_steps} if signature.most_steps is not None else {})
        | ({"answer": _words(parts)} if (parts := getattr(network, "answer_columns", {})) else {}),
        float64_gates=float64_gates,
    )


def _words(columns: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in columns.items())


def for_cuda(exportable: Exportable) -> Exportable | None:
    """Return the same network lowered to what the CUDA provider has kernels for; None where it is that already."""
    network = exportable.network
    if exportable.float64_gates or (isinstance(network, ForeignNetwork) and network.input_layout.one_at_a_time):
        return None  # all are scans already, or none can be
    lowered, layers = lower(exportable.network, runs_on_cuda)
    if layers == exportable.layers:
        return None
    return replace(exportable, graph_call=_graph_call(lowered, layers, exportable.signature), layers=layers)


def _graph_call(lowered: nn.Module, layers: tuple[LoweredLayer, ...], signature: GraphSignature) -> FlatCall:
    if isinstance(lowered, ForeignNetwork):
        lowered.in_graph = True
        # The capturer cannot map a Scan over rows, nor one recurrent operator behind another.
        if lowered.input_layout.one_at_a_time and (len(layers) > 1 or layers[0].operator == "Scan"):
            found = f"{len(layers)} recurrent layers" if len(layers) > 1 else f"{layers[0].path} as a Scan"
            raise UnsupportedLayerError(
                f"{type(lowered.module).__name__} takes one sequence at a time and has {found}, expected one fused "
                "layer there; let its forward take a batch [B, T, I], without a view() to one row"
            )
    return FlatCall(lowered, has_lengths=signature.lengths is not None).eval()
