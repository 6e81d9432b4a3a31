"""A module as a factory gave it, made ready to be looked at: wrappers taken off, copied, or refused with the reason.

Rules of this file: the source is not changed; nothing of it runs.
"""

import copy

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from ...bundle.graph_scan import MAX_MODEL_BYTES
from ..error_line import first_line
from ..errors import NO_COMPLEX, SourceError
from .renormed_tables import renorm_tables

_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}


def plain_copy(source: object) -> nn.Module:
    """Return a copy on the CPU that neither trains nor draws gradients; the source stays as it is.

    What ``torch.compile`` and ``nn.DataParallel`` put around a module is left out, ``max_norm`` of its tables done, and
    weights that a norm or another parametrization computes stand in its place.

    Raises:
        SourceError: ``source`` is no module, is compiled TorchScript, quantised or not complete yet, cannot be copied,
            has parameters of another dtype than float32, more of them than one file can hold, or holds NaN.
    """
    if not isinstance(source, nn.Module):
        raise SourceError(f"the source gave a {type(source).__name__}, expected a torch.nn.Module")
    source = unwrapped(source)
    kind = type(source).__name__
    compiled = [name or "it" for name, module in source.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if compiled and torch.jit._state._enabled.enabled:  # noqa: SLF001 - PYTORCH_JIT=0 leaves the class in place
        raise SourceError(
            f"{kind} is compiled TorchScript ({compiled[0]} is a torch.jit.ScriptModule), expected a module as Python "
            "runs it; run the same command with PYTORCH_JIT=0 in front, or give a factory that does not compile"
        )
    for name, module in source.named_modules():
        if "quantized" in type(module).__module__.split("."):
            raise SourceError(
                f"{kind} is quantised ({name or 'it'} is a {type(module).__module__}.{type(module).__name__}), "
                "expected float32; give a factory that returns the module as it was before"
            )
    for name, parameter in source.named_parameters():
        if is_lazy(parameter):
            raise SourceError(
                f"{kind}.{name} has no size yet, expected one; let the factory call the module once with an example"
            )
        if parameter.dtype != torch.float32:
            # A graph in another dtype than was trained would be another network, so nobody converts unasked.
            dtype = str(parameter.dtype).removeprefix("torch.")
            if parameter.is_complex():
                raise SourceError(f"{kind}.{name} is {dtype}, {NO_COMPLEX}")
            raise SourceError(
                f"{kind}.{name} is {dtype}, expected float32; give a factory that returns the module's .float()"
            )
    _refuse_computed_weights(source)
    _refuse_more_than_a_file(source)
    try:
        copied = copy.deepcopy(source).cpu().eval().requires_grad_(requires_grad=False)
    except (RuntimeError, TypeError) as err:
        raise SourceError(
            f"{kind} cannot be copied, expected copy.deepcopy to take it: {first_line(err)}{_computed(source)}"
        ) from err
    _hold_computed_weights(copied)
    _refuse_nan(copied)
    renorm_tables(copied)
    return copied


def unwrapped(source: nn.Module) -> nn.Module:
    """Return the module without what ``torch.compile`` and ``nn.DataParallel`` put around it."""
    while type(source).__name__ in _WRAPPERS and type(source).__module__.startswith("torch."):
        source = source.get_submodule(_WRAPPERS[type(source).__name__])
    return source


def _computed(source: nn.Module) -> str:
    """Name what a run with gradients left in the module, and what takes it away; nothing where there is no such."""
    for path, module in source.named_modules():
        for name, value in vars(module).items():
            parts = value if isinstance(value, tuple | list) else [value]
            if any(isinstance(part, torch.Tensor) and not part.is_leaf for part in parts):
                place = f"{path}.{name}".lstrip(".")
                return f"; {place} is left from a run with gradients: let the factory set {place} = None before it ends"
    return ""


def _refuse_nan(module: nn.Module) -> None:
    """Refuse what would make every later comparison fail, and be told as the fault of something else.

    Infinity may stand there on purpose, as in a mask.
    """
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and (count := int(tensor.isnan().sum())):
            raise SourceError(
                f"{type(module).__name__}.{name} holds NaN in {count} of {tensor.numel()} places, expected numbers; if "
                "its training diverged, take weights from before that"
            )


def _refuse_computed_weights(source: nn.Module) -> None:
    """Refuse a recurrent layer with weights that a norm computes anew for each call, and hooks that do so anywhere.

    Raises:
        SourceError: names the layer and what takes the norm or the pruning off.
    """
    for path, module in source.named_modules():
        found = _computed_weight(module)
        if found is not None:
            name, by, call = found
            raise SourceError(
                f"{path or 'the module'} computes {name} anew for each call, as {by} does, expected plain weights; let "
                f"the factory end with torch.nn.utils.{call}, which keeps the values"
            )


def _computed_weight(module: nn.Module) -> tuple[str, str, str] | None:
    """Return (its name, what computes it, the call of torch.nn.utils that ends that) for the first such weight."""
    if isinstance(module, nn.RNNBase) and (name := next(iter(_parametrized(module)), None)) is not None:
        return name, "weight norm", f'parametrize.remove_parametrizations(layer, "{name}")'
    parameters, buffers = (dict(of(recurse=False)) for of in (module.named_parameters, module.named_buffers))
    for name, value in vars(module).items():
        is_pruned = f"{name}_orig" in parameters and f"{name}_mask" in buffers
        if is_pruned and (isinstance(module, nn.RNNBase) or not value.is_leaf):  # with gradients it cannot be copied
            return name, "torch.nn.utils.prune", f'prune.remove(layer, "{name}")'
        if f"{name}_g" in parameters:
            return name, "weight norm", f'remove_weight_norm(layer, "{name}")'
    return None


def _hold_computed_weights(copied: nn.Module) -> None:
    """Put the value of each weight that a parametrization computes in its place, unless it is another each time."""
    for module in copied.modules():
        for name in _parametrized(module):
            with torch.no_grad():
                alike = torch.equal(getattr(module, name), getattr(module, name))
            if alike:
                parametrize.remove_parametrizations(module, name)


def _refuse_more_than_a_file(source: nn.Module) -> None:
    """Refuse what cannot be written, before it is copied several times.

    Raises:
        SourceError: the weights alone are more than one ONNX file may have.
    """
    found = sum(tensor.numel() * tensor.element_size() for tensor in (*source.parameters(), *source.buffers()))
    if found > MAX_MODEL_BYTES:
        raise SourceError(
            f"{type(source).__name__} has {found} bytes of weights, expected at most {MAX_MODEL_BYTES}, the most that "
            "one ONNX file of float32 can hold; make its largest table smaller"
        )


def _parametrized(module: nn.Module) -> list[str]:
    found = getattr(module, "parametrizations", None)
    return list(found) if isinstance(found, nn.ModuleDict) else []
