"""From what people name on a command line to a network: a factory in a file or package, or a checkpoint.

Rules of this file: whatever is wrong with a source is a SourceError of one sentence that tells whose fault it is: the
file is missing, the file itself failed, the name is not in it, the factory failed, or it gave no network. Only files
that the caller names are run; checkpoints are read without running anything.
"""

import inspect
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from torch import nn

from ..model.checkpoint import network_from_checkpoint
from ..model.weight_file import WeightsError, read_weights
from ..model.weights import load_weights
from .call_modes import CpuOnly
from .errors import SourceError

CHECKPOINTS: Final = (".safetensors", ".pt", ".pth", ".ckpt")
LABELS_KEY: Final = "cellgate.labels"
"""Where a weights file's metadata holds the names of the outputs, as a JSON array."""

_FORMS: Final = "path/to/file.py:factory, package.module:factory, or a checkpoint (.safetensors, .pt, .pth, .ckpt)"
_SHOWN: Final = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What a source gave.

    Attributes:
        network: in evaluation mode, on the CPU.
        labels: names of the outputs that came with it, or None.
        weights: where its weights are from, in words.
    """

    network: nn.Module
    labels: tuple[str, ...] | None
    weights: str


def load_source(text: str, weights: str | None = None) -> Source:
    """Return the network that a SOURCE names.

    Args:
        text: FILE.py:NAME, MODULE:NAME, or the path of a checkpoint. NAME is a function or class without arguments, or
            a module that is there already.
        weights: file of weights for what a factory made.

    Raises:
        SourceError: see the rules above.
    """
    place, name = _split(text)
    if not name:
        return _from_checkpoint(text, weights)
    folder = str(Path(place).resolve().parent) if place.endswith(".py") else str(Path.cwd())
    with _import_path(folder):
        module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
        network = _make(_attribute(module, name, place), f"{place}:{name}")
    labels = _module_labels(module, place)
    said = "as the factory made them (no --weights)"
    if weights is not None:
        try:
            load_weights(network, weights)
            labels = _file_labels(read_weights(weights).metadata, weights) or labels
        except WeightsError as err:
            raise SourceError(str(err)) from err
        said = weights
    return Source(network=network.cpu().eval(), labels=labels, weights=said)


def _split(text: str) -> tuple[str, str]:
    """Return (file or module, name), the name empty for a checkpoint."""
    if Path(text).suffix in CHECKPOINTS:
        return text, ""
    place, _, name = text.rpartition(":")
    if not place or not name:
        is_file = text.endswith(".py") and Path(text).is_file()
        remedy = f"; say what in it makes the network, as in {text}:make" if is_file else ""
        raise SourceError(f"SOURCE: expected {_FORMS}, found {text!r}{remedy}")
    return place, name


def _from_checkpoint(text: str, weights: str | None) -> Source:
    if weights is not None:
        raise SourceError(f"{text} is itself a file of weights, expected no --weights beside it; leave one of them out")
    try:
        network, facts = network_from_checkpoint(text)
    except WeightsError as err:
        raise SourceError(str(err)) from err
    return Source(network=network, labels=_file_labels(facts["metadata"], text), weights=text)


@contextmanager
def _import_path(folder: str) -> Iterator[None]:
    """Let imports find what lies in ``folder``, as they do where a file is run as a script."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:  # the file may have tidied up itself
            sys.path.remove(folder)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise SourceError(
            f"{path} {'is no file' if path.exists() else 'does not exist'}, expected a Python file with your network"
        )
    name = _free_name(path)
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # TorchScript, dataclasses and the exchange of packing look a class's module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as err:
        del sys.modules[name]
        raise SourceError(f"{path} failed to import: {_say(err)}; mend the file") from err
    return module


def _free_name(path: Path) -> str:
    """Return a name for the file that takes none from another module: a file queue.py must not become the library's."""
    known = sys.modules.get(path.stem)
    if known is not None:
        taken = getattr(known, "__file__", None) != str(path.resolve())
    else:
        elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != path.resolve().parent]
        kept, sys.path[:] = sys.path[:], elsewhere
        try:
            taken = not path.stem.isidentifier() or find_spec(path.stem) is not None
        finally:
            sys.path[:] = kept
    return f"cellgate_source_{path.stem}" if taken else path.stem


def _load_module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as err:
        if err.name and (name == err.name or name.startswith(f"{err.name}.")):
            raise SourceError(
                f"module {name} does not exist ({err.name} was not found in {Path.cwd()} nor among the installed "
                f"packages), expected {_FORMS}"
            ) from err
        raise SourceError(f"module {name} failed to import: {_say(err)}; install what it imports") from err
    except (Exception, SystemExit) as err:
        raise SourceError(f"module {name} failed to import: {_say(err)}; mend it") from err


def _attribute(module: ModuleType, dotted: str, place: str) -> Any:
    found: Any = module
    for part in dotted.split("."):
        if not hasattr(found, part):
            candidates = _candidates(module)
            there = f"there are: {', '.join(candidates)}" if candidates else "there is nothing in it that could be one"
            raise SourceError(f"{place} has no {dotted!r}, expected a function, class or network; {there}")
        found = getattr(found, part)
    return found


def _candidates(module: ModuleType) -> list[str]:
    """Return the names in a module that could be meant: its own functions and networks."""
    found = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(value, nn.Module)
            or (
                getattr(value, "__module__", None) == module.__name__
                and (inspect.isfunction(value) or (isinstance(value, type) and issubclass(value, nn.Module)))
            )
        )
    ]
    return [*found[:_SHOWN], *(["..."] if len(found) > _SHOWN else [])]


def _make(factory: Any, what: str) -> nn.Module:
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise SourceError(f"{what} is {_article(factory)}, expected a function, class or torch.nn.Module")
    _check_arguments(factory, what)
    try:
        with CpuOnly():
            network = factory()
    except (Exception, SystemExit) as err:
        raise SourceError(f"{what} failed when called: {_say(err)}; mend the factory") from err
    if not isinstance(network, nn.Module):
        raise SourceError(f"{what} returned {_article(network)}, expected a torch.nn.Module; return the network itself")
    return network


def _check_arguments(factory: Any, what: str) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # something built in, which does not tell; the call will
        return
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
    if needed:
        raise SourceError(
            f"{what} needs the arguments {', '.join(needed)}, expected none; name a function without arguments that "
            "calls it with yours"
        )


def _module_labels(module: ModuleType, place: str) -> tuple[str, ...] | None:
    labels = getattr(module, "LABELS", None)
    return None if labels is None else check_labels(labels, f"LABELS in {place}")


def _file_labels(metadata: dict[str, str], path: str) -> tuple[str, ...] | None:
    text = metadata.get(LABELS_KEY)
    if text is None:
        return None
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise SourceError(f"{path}: {LABELS_KEY} in its metadata is not JSON; give --labels") from err
    return check_labels(labels, f"{path}: {LABELS_KEY} in its metadata")


def check_labels(labels: object, what: str) -> tuple[str, ...]:
    """Return labels as a tuple of texts.

    Raises:
        SourceError: they are something else, or none at all.
    """
    if not isinstance(labels, list | tuple) or not labels or not all(isinstance(label, str) for label in labels):
        raise SourceError(f"{what} is {_article(labels)}, expected a list of texts, one for each output; give --labels")
    return tuple(labels)


def _article(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, list | tuple) and value:
        return "a list of something else"
    return f"something of type {type(value).__name__}"


def _say(err: BaseException) -> str:
    """Return an error as one line: its class and its text."""
    if isinstance(err, SystemExit):
        return f"it called sys.exit({err.code}); guard what runs with if __name__ == '__main__'"
    lines = str(err).strip().splitlines()
    return f"{type(err).__name__}: {lines[0][:200] if lines else 'no reason given'}"
