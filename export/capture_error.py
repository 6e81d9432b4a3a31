"""What torch says when a network cannot be captured as a graph, as one sentence with the place in the user's code.

Rules of this file: a complaint in, an error of this house out; nothing is captured here.
"""

from pathlib import Path
from typing import Final

from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from .errors import ExportError
from .size_guards import STRANGERS

_SHOWN: Final = 300


def not_captured(err: BaseException) -> ExportError:
    """Return the error to raise for what the capturer raised."""
    if isinstance(err, GuardOnDataDependentSymNode):
        place = place_of(err)
        return ExportError(
            f"the network could not be captured as a graph: it decides by values of a tensor{place}, expected the same "
            "operations for any values; take torch.where(condition, one, other) in the place of if"
        )
    lines = [line for line in str(err).strip().split("\n") if line.strip()]
    said = f"{type(err).__name__}: {lines[0][:_SHOWN]}" if lines else type(err).__name__
    return ExportError(f"the network could not be captured as a graph: {said}")


def place_of(err: BaseException) -> str:
    """Return " at FILE:LINE (FUNCTION)" of the innermost frame that is neither torch's nor this house's, if any is."""
    found, frame = "", err.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        if not code.co_filename.startswith(STRANGERS):
            found = f" at {Path(code.co_filename).name}:{frame.tb_lineno} ({code.co_name})"
        frame = frame.tb_next
    return found
