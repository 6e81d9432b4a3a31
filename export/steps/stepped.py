"""A module that takes one step a call, as a network for whole sequences: which way is taken, and what is said of it.

Rules of this file: it says in which order the ways are tried; the ways themselves are elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from ..errors import ExportError, UnsupportedLayerError
from ..foreign.exchange import Exchange
from ..foreign.network import ForeignNetwork
from .all_steps import AllSteps
from .state_candidates import made_state, state_makers
from .step_call import StepCall
from .step_cell import CellNetwork
from .step_form import StepForm, flat
from .step_loop import StepLoop
from .step_probe import find_form
from .step_proof import find_parts
from .step_run import starts_elsewhere
from .written_layer import WrittenLayer, with_layers


@dataclass(frozen=True, kw_only=True, slots=True)
class Stepped:
    """A module that takes one step, ready for sequences.

    Attributes:
        network: proved equal to the module called step after step.
        scriptable: the module in a loop, for TorchScript.
    """

    network: ForeignNetwork
    scriptable: StepLoop


def stepped(
    module: nn.Module, told: Mapping[str, str], input_dim: int | None, answer: str | None = None
) -> Stepped | None:
    """Return the network of a module that takes one step, or None where it takes none.

    Args:
        module: as it came; not changed.
        told: as for call_roles.find_roles.
        input_dim: I, or the number of tokens, where it cannot be found.
        answer: which of the tensors that it returns is y; None for the first that is no state.

    Raises:
        ExportError: it takes one step, and no network could be made of it that is proved equal.
    """
    form = find_form(module, told, input_dim, answer)
    if form is None:
        return None
    refusals: list[ExportError] = []
    for way in _ways(module, form):
        try:
            network = ForeignNetwork(way(), {}, form.width, takes_tokens=form.takes_tokens)
        except ExportError as refusal:
            refusals.append(refusal)
            continue
        order = find_parts(network, module, form) if network.carries_state else None
        if order is None:
            continue
        _settle(network, module, form, order)
        return Stepped(network=network, scriptable=StepLoop(StepCall(module, form), type(module).__name__))
    if refusals:
        raise refusals[-1]
    raise UnsupportedLayerError(
        f"{type(module).__name__}.forward takes one step a call, and no network that takes all steps could be proved "
        "equal to it called step after step, expected one; write the loop over the steps in its forward"
    )


def _ways(module: nn.Module, form: StepForm) -> Iterator[Callable[[], nn.Module]]:
    layers = [child for child in module.modules() if isinstance(child, nn.RNNBase)]
    if layers and not any(layer.bidirectional for layer in layers):
        yield lambda: AllSteps(module, form)
    yield lambda: StepLoop(StepCall(with_layers(module, WrittenLayer), form), type(module).__name__)
    yield lambda: CellNetwork(module, form)


def _settle(network: ForeignNetwork, module: nn.Module, form: StepForm, order: list[int]) -> None:
    """Put the network's states into the module's order as far as they go, and say what was done."""
    parts, own = iter(order), {}
    for number, tensors in network.stacks.items():
        own[number] = [next(parts) for tensor in tensors for _ in range(tensor.rows)]
    network.stacks = {number: network.stacks[number] for number in sorted(own, key=lambda number: min(own[number]))}
    in_order = [part for number in network.stacks for part in own[number]]
    network.left_out = form.left_out
    inside = tuple(
        Exchange(path=_own_path(entry.path), was=entry.was, proof=entry.proof)
        for entry in network.exchanges
        if entry.path.startswith("call.module.")
    )
    said = "proved equal to it called step after step" + _other_order(network, form, in_order) + _start(module, form)
    network.exchanges = (
        Exchange(path="(itself)", was="forward takes one step", proof=f"put in a loop over time, {said}"),
        *inside,
    )


def _own_path(path: str) -> str:
    return path.removeprefix("call.module.").removesuffix(".layer")


def _other_order(network: ForeignNetwork, form: StepForm, parts: list[int]) -> str:
    """Say which state of the module each of the network's is, where their order is another."""
    if parts == sorted(parts):
        return ""
    trees = zip(form.arguments.state, form.template, strict=True)
    names = [
        name + f"[{k}]" * (isinstance(tree, tuple | list)) for name, tree in trees for k, _ in enumerate(flat(tree))
    ]
    of_part = [name for name, leaf in zip(names, form.leaves, strict=True) for _ in range(leaf.parts)]
    given = iter(parts)
    inputs = [
        f"{tensor.name}0{tensor.suffix} is {of_part[next(given)]}"
        for tensor in network.state_tensors()
        for _ in range(tensor.rows)
    ]
    return "; " + ", ".join(inputs)


def _start(module: nn.Module, form: StepForm) -> str:
    """Say where the module would begin with another state than zeros."""
    for name in state_makers(module):
        made = made_state(module, name, 1)
        if made is not None and any(bool(tensor.count_nonzero()) for tensor in flat(made)):
            return f"; it starts from zeros, and {name} gives something else: send that as the first state"
    if starts_elsewhere(module, form):
        names = ", ".join(form.arguments.state)
        return f"; it starts from zeros, and forward without {names} from something else: send that as the first state"
    return ""
