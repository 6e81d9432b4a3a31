"""Where a network binds a free size: the capturer's log, read while it captures, with the place in the user's own code.

The capturer of torch logs each condition that it had to assume about a size, such as ``eval Eq(s0, 5) [guard added]``.
It logs while the network's code is on the stack, so the innermost frame outside of torch and this house is the place.
"""

import contextlib
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import torch

from ..errors import FrozenAxisError

_LOGGER: Final = "torch.fx.experimental.symbolic_shapes"
_CONDITION: Final = re.compile(
    r"eval (?:Eq\(\w+, \d+\)|\w+ <= \d+|(?P<remainder>(?:Eq|Ne)\(Mod\(\w+, \d+\), \d+\))) \["
)
_BY_REMAINDER: Final = ", by a remainder"
SIZE_AS_TENSOR: Final = (
    "take torch.tensor(x.size(1)) in the place of float(x.size(1)), and torch.tensor(x.size(1)).sqrt() in that of "
    "math.sqrt and np.sqrt of it"
)
_SIZE: Final = re.compile(r"L\['\w+'\](?:\[\d+\])*\.size\(\)\[\d+\]")
# The most that a capture is asked for; no batch and no sequence is as long. It is not written into the graph. Without
# it a convolution's own guard against overflow (torch 2.10: T <= 2147483647/5) would count as a limit.
LONGEST_AXIS: Final = 2**24
_CALLS: Final = frozenset({"FlatCall.forward", "AnswerAlone.forward"})
# Whose code is not the user's, by the beginning of its file's name: torch, this house, what has no file, and the log.
STRANGERS: Final = (
    *(f"{folder}{os.sep}" for folder in (Path(torch.__file__).parent, Path(__file__).parents[1])),
    "<",
    logging.__file__,
)


@contextlib.contextmanager
def size_guards_recorded(places: list[str]) -> Iterator[None]:
    """Collect in ``places`` where a size is bound, as FILE:LINE (FUNCTION), and whether by a remainder."""

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = _CONDITION.search(record.getMessage())
            place = _place_in_user_code() if found else None
            if found and place is not None:
                places.append(place + _BY_REMAINDER * bool(found["remainder"]))

    logger = logging.getLogger(_LOGGER)
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [Recorder(logging.INFO)], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@contextlib.contextmanager
def quiet_capture() -> Iterator[None]:
    """Keep the exporter's talk about its own insides away from the user; errors still raise."""
    names = ("torch.onnx", "torch.export", "onnxscript", "torch._subclasses.fake_tensor")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        # What runs with pretended tensors logs each error that it raises, with its traceback.
        logger.setLevel(logging.CRITICAL if logger.name.endswith("fake_tensor") else logging.ERROR)
    try:
        # The capturer prints the graph that it had so far where it fails.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _place_in_user_code() -> str | None:
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to walk the stack without reading sources
    found: str | None = None
    # Only what lies within these calls is the network; beyond stands whoever asked for the export.
    while frame is not None and frame.f_code.co_qualname not in _CALLS:
        if found is None and not frame.f_code.co_filename.startswith(STRANGERS):
            found = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
        frame = frame.f_back
    return found if frame is not None else None


class FewStepsError(FrozenAxisError):
    """What the capturer assumed fails for few steps only: that there are more, or that a size is not one."""


def frozen_axis_error(message: str, places: list[str], most_steps: int = LONGEST_AXIS) -> FrozenAxisError:
    """Turn the capturer's complaint into one sentence with the axis, the value and the place.

    Args:
        message: the capturer's.
        places: what ``size_guards_recorded`` collected.
        most_steps: T that the capture was asked for at most.
    """
    constant = re.search(r"marked (\w+) as dynamic but your code specialized it to be a constant \((\d+)\)", message)
    bounded = re.search(r"\b(?!_)(\w+) = Dim\('\w+', (?:min=(\d+), )?max=(\d+)\)", message)
    guards = re.findall(r"satisfy the generated guard (.+?)\.?(?:Specializations .*)?$", message, re.MULTILINE)
    found = constant or bounded
    axis = {"B": "the batch", "T": "the time"}.get(found.group(1), found.group(1)) if found else "the batch or the time"
    what = f"freezes {axis}"
    if constant:
        what += f" to {constant.group(2)}, the example's"
    elif bounded and int(bounded.group(3)) < (most_steps if axis == "the time" else LONGEST_AXIS):
        what = f"allows {axis} at most {bounded.group(3)}"
    elif bounded and bounded.group(2):
        what = f"needs {axis} to be at least {bounded.group(2)}"
    elif guards:
        worst = next((guard for guard in guards if not guard.endswith(" != 1")), guards[0])
        what += f": it takes for granted that {_SIZE.sub('the size', worst)}"
    place = f" at {places[0]}" if places else ""
    is_few = bounded and bounded.group(2) and int(bounded.group(3)) >= most_steps and bounded.group(1) == "T"
    is_few = is_few or (not found and guards and all(guard.endswith(" != 1") for guard in guards))
    kind = FewStepsError if is_few and not constant else FrozenAxisError
    return kind(f"something in the network {what}{place}; expected both free. {_remedy(what, place)}")


def _remedy(what: str, place: str) -> str:
    """Return what helps; a slice that ends at a fixed step leaves no place."""
    most = re.fullmatch(r"allows the time at most (\d+)", what)
    if most and not place:
        cut = int(most[1]) + 1
        return f"Where forward cuts sequences, as x[:, -{cut}:] and x[:, :{cut}] do, cut them before they are sent"
    if most:
        last = int(most[1]) - 1
        return (
            "Where it reads a table of positions, read the last one from there on, as "
            f"table[torch.arange(x.size(1)).clamp(max={last})] does; where it is a condition on the number of steps, "
            "take it out, and cut sequences before they are sent"
        )
    if place.endswith(_BY_REMAINDER):
        return (
            "Cut or pad all sequences alike, as x[:, : T // 2 * 2] and F.pad(x, (0, 0, 0, -T % 2)) do, in the place "
            "of a condition on T % 2"
        )
    rows = "Do with all rows at once what a loop over them does, as y[torch.arange(y.size(0)), lengths - 1]"
    if what.startswith("freezes the batch to"):
        return rows
    steps = "call a head on all steps at once, loop over time in a cell inside cellgate.model.LSTMLayer"
    if what.startswith("freezes the time to"):
        return f"C{steps[1:]}, and {SIZE_AS_TENSOR}"
    return f"{rows}, {steps}, and let no Python value depend on a tensor's size"
