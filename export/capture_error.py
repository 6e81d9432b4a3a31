"""What torch says when a network cannot be captured as a graph, as one sentence with the place in the user's code.

Rules of this file: a complaint in, an error of this house out; nothing is captured here.
"""

from pathlib import Path

from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from .error_line import said_by
from .errors import ExportError
from .size_guards import STRANGERS


def not_captured(err: BaseException) -> ExportError:
    """Return the error to raise for what the capturer raised."""
    if isinstance(err, GuardOnDataDependentSymNode):
        place = place_of(err)
        return ExportError(
            f"the network could not be captured as a graph: it decides by values of a tensor{place}, expected the same "
            "operations for any values; take torch.where(condition, one, other) in the place of if"
        )
    return ExportError(f"the network could not be captured as a graph: {said_by(err)}")


def place_of(err: BaseException) -> str:
    """Return " at FILE:LINE (FUNCTION)" of the innermost frame that is neither torch's nor this house's, if any is."""
    found, frame = "", err.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        if not code.co_filename.startswith(STRANGERS):
            found = f" at {Path(code.co_filename).name}:{frame.tb_lineno} ({code.co_name})"
        frame = frame.tb_next
    return found
