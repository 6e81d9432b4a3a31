"""Every kind of network behind one call, (x, lengths, state) -> (y, state): this house's own, and a stranger's module.

Rules of this file: it says which way a network goes; what is found out about it on the way is elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from ..model.layer import LSTMLayer
from ..model.network import SequenceModel
from ..model.stack import RecurrentStack
from .errors import ExportError, SignatureError, SourceError
from .foreign.column_search import cut_inputs
from .foreign.columns import Column
from .foreign.loops import foreign_network
from .foreign.network import ForeignNetwork
from .input_width import input_dim_of
from .stack_network import StackNetwork
from .steps.stepped import stepped


def with_house_call(
    source: nn.Module,
    told: Mapping[str, str] | None,
    input_dim: int | None,
    answer: str | None,
    columns: Sequence[Column] | None,
) -> tuple[nn.Module, nn.Module]:
    """Return the network, and what TorchScript compiles; for the arguments see `exportable.prepare`.

    Raises:
        SourceError: something is told of a network of this house that only a stranger's has, or its head was exchanged
            for one of another width.
        ExportError: one of its classes.
    """
    if isinstance(source, SequenceModel | RecurrentStack | LSTMLayer):
        _check_told(source, answer, columns)
    if isinstance(source, SequenceModel):
        _check_head(source)
        return source, source
    if isinstance(source, LSTMLayer):
        source = RecurrentStack.of_layer(source, input_dim_of(source))
    if isinstance(source, RecurrentStack):
        network = StackNetwork(source)
        return network, network
    if columns is not None:
        return _of_several_inputs(source, told, input_dim, answer, columns)
    return _of_a_stranger(source, told, input_dim, answer)


def _of_a_stranger(
    source: nn.Module, told: Mapping[str, str] | None, input_dim: int | None, answer: str | None
) -> tuple[ForeignNetwork, nn.Module]:
    try:
        return foreign_network(source, told, input_dim, answer), source
    except ExportError:
        one = stepped(source, told or {}, input_dim, answer)
        if one is None:
            raise
    return one.network, one.scriptable


def _of_several_inputs(
    source: nn.Module,
    told: Mapping[str, str] | None,
    input_dim: int | None,
    answer: str | None,
    columns: Sequence[Column],
) -> tuple[ForeignNetwork, nn.Module]:
    for option, value in (("--input-dim", input_dim), ("--argument sequence", (told or {}).get("sequence"))):
        if value is not None:
            raise SignatureError(f"--columns says what x holds, expected no {option}, found {value}; leave it out")
    module, complaint = cut_inputs(source, columns, told, answer)
    told = {**(told or {}), "sequence": module.sequence}
    try:
        network, scriptable = _of_a_stranger(module, told, module.width, answer)
    except ExportError:
        if complaint is None:
            raise
        raise complaint from None
    network.columns = module.columns
    network.exchanges = tuple(replace(one, path=one.path.removeprefix("net.")) for one in network.exchanges)
    return network, scriptable


def _check_told(source: nn.Module, answer: str | None, columns: Sequence[Column] | None) -> None:
    if answer is not None:
        raise SourceError(
            f"{type(source).__name__} has one answer, expected no --answer, found {answer!r}; leave it out"
        )
    if columns is not None:
        raise SourceError(f"{type(source).__name__} has one input, expected no --columns, found some; leave it out")


def _check_head(network: SequenceModel) -> None:
    """Raise SourceError where a head was put in the place of the first and the network still names the old width."""
    head: nn.Module = network.head
    last = head[-1] if isinstance(head, nn.Sequential) and len(head) else head
    width = network.pooled_dim if isinstance(head, nn.Identity) else getattr(last, "out_features", network.output_dim)
    if width != network.output_dim:
        raise SourceError(
            f"{type(network).__name__}.head gives {width} outputs where output_dim says {network.output_dim}, expected "
            f"one number; set network.output_dim = {width} where the head is exchanged"
        )
