"""From what people name on a command line to a network: a factory in a file or package, or a checkpoint.

Rules of this file: whatever is wrong with a source is a SourceError of one sentence that tells whose fault it is: the
code (user_code.py), the factory that failed or gave no network, the weights, or the labels. Checkpoints are read
without running anything.
"""

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from torch import nn

from ..model.checkpoint import GATE_ORDER, network_from_checkpoint
from ..model.weight_file import KERAS, WeightsError, read_weights
from ..model.weights import load_weights
from .errors import SourceError
from .foreign.call_modes import CpuOnly
from .foreign.plain_module import unwrapped
from .user_code import FORMS, attribute_of, candidates, loaded_module, say_failure

CHECKPOINTS: Final = (".safetensors", ".pt", ".pth", ".ckpt")
_DOTTED: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_KNOWS_ITS_GATES: Final = (
    "says itself how its gates stand, expected no --gate-order, which is for weights of a hand-written cell without "
    "its class; leave it out"
)
LABELS_KEY: Final = "cellgate.labels"
"""Where a weights file's metadata holds the names of the outputs, as a JSON array."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What a source gave.

    Attributes:
        network: in evaluation mode, on the CPU.
        labels: names of the outputs that came with it, or None.
        weights: where its weights are from, in words.
        origin: "source" and "weights" for the manifest and the report, where both stay the same wherever the files
            lie: their names, and the digest of the weights.
    """

    network: nn.Module
    labels: tuple[str, ...] | None
    weights: str
    origin: Mapping[str, str]


def load_source(
    text: str, weights: str | None = None, *, with_labels: bool = True, gate_order: tuple[str, ...] | None = None
) -> Source:
    """Return the network that a SOURCE names.

    Args:
        text: FILE.py:NAME, MODULE:NAME, or the path of a checkpoint. NAME is a function or class without arguments, or
            a module that is there already.
        weights: file of weights for what a factory made.
        with_labels: whether to look for the labels that come with it; not where others are told, or none are needed.
        gate_order: in which a checkpoint of a hand-written cell has the gates (network_from_checkpoint).

    Raises:
        SourceError: see the rules above.
    """
    place, name = _split(text)
    if not name:
        return _from_checkpoint(text, weights, gate_order, with_labels=with_labels)
    if gate_order is not None:
        raise SourceError(f"{text} {_KNOWS_ITS_GATES}")
    with loaded_module(place) as module:
        network = _make(attribute_of(module, name, place), f"{place}:{name}")
    labels, said = None, "as the factory made them (no --weights)"
    if weights is not None:
        try:
            load_weights(unwrapped(network), weights)
            labels = _file_labels(read_weights(weights).metadata, weights) if with_labels else None
        except WeightsError as err:
            raise SourceError(str(err)) from err
        said = weights
    if with_labels and labels is None:
        labels = _module_labels(module, place)
    place_alone = Path(place).name if place.endswith(".py") else place
    origin = {"source": f"{place_alone}:{name}", "weights": said if weights is None else _named_with_digest(weights)}
    return Source(network=_in_evaluation(network, f"{place}:{name}"), labels=labels, weights=said, origin=origin)


def _split(text: str) -> tuple[str, str]:
    """Return (file or module, name), the name empty for a checkpoint."""
    if Path(text).suffix in CHECKPOINTS:
        return text, ""
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise SourceError(f"SOURCE: expected {FORMS}, found {text!r}{_remedy_for(text.rstrip(':'))}")
    return place, name


def _remedy_for(text: str) -> str:
    """Say what helps where no name was given; which of a file's names is meant, is not guessed."""
    if Path(text).suffix in KERAS:
        return (
            "; a file of Keras is none of them, so write the network in PyTorch, copy the weights in its factory "
            "(docs/primer.md has the order of the gates), and name that"
        )
    if not text.endswith(".py"):
        head, _, tail = text.rpartition(".")
        named = f"{head or tail}:{tail if head else 'factory'}"
        return f"; write {named}, with a colon, if that is a module" if _DOTTED.fullmatch(text) else ""
    if not Path(text).is_file():
        return ""
    with loaded_module(text) as module:
        names = candidates(module)
    if not names:
        return ", and there is nothing in it that could be a factory or network"
    return f"; there are: {', '.join(names)}; name one of them, as {text}:{names[0]}"


def _from_checkpoint(
    text: str, weights: str | None, gate_order: tuple[str, ...] | None, *, with_labels: bool
) -> Source:
    if weights is not None:
        raise SourceError(f"{text} is itself a file of weights, expected no --weights beside it; leave one of them out")
    try:
        network, facts = network_from_checkpoint(text, gate_order or GATE_ORDER)
    except WeightsError as err:
        raise SourceError(str(err)) from err
    _check_gate_order(text, facts["form"], gate_order)
    labels = _file_labels(facts["metadata"], text) if with_labels else None
    return Source(network=network, labels=labels, weights=text, origin={"weights": _named_with_digest(text)})


def _named_with_digest(path: str) -> str:
    with Path(path).open("rb") as file:
        return f"{Path(path).name}, sha-256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _check_gate_order(text: str, form: str, gate_order: tuple[str, ...] | None) -> None:
    """Raise SourceError where it is not told and the file cannot tell, or told and the file has its own."""
    if form == "LSTMLayer" and gate_order is None:
        raise SourceError(
            f"{text} holds the weights of a hand-written cell, whose gates may stand in any order, and a file of "
            f"weights does not say in which; name your own class, as FILE.py:CLASS --weights {text}, or give the order "
            f"in which its chunk(4, 1) has them, as --gate-order {','.join(GATE_ORDER)}"
        )
    if form != "LSTMLayer" and gate_order is not None:
        raise SourceError(f"{text} {_KNOWS_ITS_GATES}")


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
        raise SourceError(f"{what} failed when called: {say_failure(err)}; mend the factory") from err
    if not isinstance(network, nn.Module):
        raise SourceError(f"{what} returned {_article(network)}, expected a torch.nn.Module; return the network itself")
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):
        raise SourceError(
            f"{what} made weights on the device meta, expected some that have numbers; make them on the CPU"
        )
    return network


def _in_evaluation(network: nn.Module, what: str) -> nn.Module:
    """Return the network on the CPU and in evaluation mode, by its own methods, which it may have overwritten."""
    try:
        ready = network.cpu().eval()
    except (Exception, SystemExit) as err:
        raise SourceError(
            f"{what}: cpu() and eval() of its {type(network).__name__} failed: {say_failure(err)}; mend what it "
            "overwrites of torch.nn.Module, such as eval or train"
        ) from err
    if not isinstance(ready, nn.Module):
        raise SourceError(
            f"{what}: cpu() and eval() of its {type(network).__name__} returned {_article(ready)}, expected itself; "
            "let its eval and train return self"
        )
    return ready


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
