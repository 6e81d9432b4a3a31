"""What torch says when a network cannot be captured as a graph, as one sentence with the place in the user's code.

Rules of this file: a complaint in, an error of this house out; nothing is captured here.
"""

import re
from pathlib import Path
from typing import Final

import torch
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from ..error_line import said_by
from ..errors import ExportError
from .size_guards import SIZE_AS_TENSOR, STRANGERS

_NOT_CAPTURED: Final = "the network could not be captured as a graph: "
_NOT_SAID: Final = "the graph could not be said in ONNX: "
_DECIDES: Final = (
    "it decides by values of a tensor{}, expected the same operations for any values; take torch.where(condition, one, "
    "other) in the place of if"
)
_SPLITS: Final = {"split", "split_with_sizes", "chunk", "unsafe_chunk", "tensor_split"}
_SPLIT: Final = (
    "it splits an axis of free size{}, which the exporter cannot follow; take slices, as y[:, B : 2 * B], or a view, "
    "as y.view(T, 4, -1, H)[:, 1], in the place of chunk() and split()"
)
_UNKNOWN: Final = re.compile(r"No ONNX function found for <OpOverload\(op='\w+\.(\w+)'")
_LOOPED: Final = {
    name: f"carry it through a loop over the steps, {step}, from {start}"
    for name, step, start in (
        ("cummax", "m = torch.maximum(m, y[:, t])", "torch.full((B, H), -1e9)"),
        ("cummin", "m = torch.minimum(m, y[:, t])", "torch.full((B, H), 1e9)"),
        ("cumprod", "p = p * y[:, t]", "torch.ones(B, H)"),
    )
}
# As the capturer writes the frames of a step that it could not follow, the innermost last.
_FRAME: Final = re.compile(r'File "([^"\n]+)", line (\d+), in (\S+)')


def not_captured(err: BaseException) -> ExportError:
    """Return the error to raise for what the capturer raised."""
    if isinstance(err, GuardOnDataDependentSymNode):
        return ExportError(_NOT_CAPTURED + _DECIDES.format(place_of(err)))
    if isinstance(err, torch._dynamo.exc.UncapturedHigherOrderOpError):  # noqa: SLF001 - its only name
        return ExportError(_NOT_CAPTURED + _step_not_followed(str(err)))
    if isinstance(err, TypeError) and "divmod()" in str(err):
        return ExportError(_NOT_CAPTURED + f"it divides a size by divmod{place_of(err)}; take T // 4 and T % 4")
    if isinstance(err, TypeError) and "SymInt" in str(err):  # of NumPy, which knows no size that is free
        return ExportError(_NOT_CAPTURED + f"it computes with a size{place_of(err)}; {SIZE_AS_TENSOR}")
    return ExportError(_NOT_CAPTURED + said_by(err))


def _theirs(frames: str) -> str:
    """Return " at FILE:LINE (FUNCTION)" of the innermost frame of the user's in what torch wrote of its frames."""
    theirs = [frame for frame in _FRAME.findall(frames) if not frame[0].startswith(STRANGERS)]
    return f" at {Path(theirs[-1][0]).name}:{theirs[-1][1]} ({theirs[-1][2]})" if theirs else ""


def _step_not_followed(said: str) -> str:
    """Return what is said of a cell in a scan, which the capturer follows in its own way, out of its many lines."""
    place = _theirs(said)
    if "data-dependent branching" in said.lower():
        return _DECIDES.format(place)
    reason = said.partition("Got graph break/error:")[2].strip() or said
    first, _, rest = reason.partition("\n")
    if first.endswith(":") and rest:  # what was found stands in the next line, before how torch writes tensors
        first = f"{first} {rest.splitlines()[0].partition(', where lhs is')[0].strip()}"
    return f"a step of it cannot be followed{place} ({first})"


def not_in_onnx(err: BaseException, program: torch.export.ExportedProgram) -> ExportError:
    """Return the error to raise for what the exporter raised about an operation of the program."""
    chain = [err]
    while chain[-1].__cause__ is not None:  # what stands around the last says what to tell PyTorch's authors
        chain.append(chain[-1].__cause__)
    if any("(::SplitToSequence)" in str(one) for one in chain):
        return ExportError(_NOT_SAID + _SPLIT.format(_place_of_split(program)))
    unknown = _UNKNOWN.search(str(chain[-1]))
    if unknown is None:
        return ExportError(_NOT_SAID + said_by(chain[-1]))
    node = next((node for node in program.graph.nodes if _operator(node).endswith(unknown[1])), None)
    name = unknown[1] if node is None else _operator(node)
    place = _theirs((node.meta.get("stack_trace") if node is not None else None) or "")
    remedy = _LOOPED.get(name, "write it in terms of others, or as a loop over the steps")
    name = name.replace("special_", "special.").replace("linalg_", "linalg.")
    return ExportError(_NOT_SAID + f"it computes torch.{name}{place}, for which ONNX has no operator; {remedy}")


def _place_of_split(program: torch.export.ExportedProgram) -> str:
    """Return the place of the first operation that makes several parts of a size that is free."""
    for node in program.graph.nodes:
        parts = node.meta.get("val")
        if _operator(node) in _SPLITS and any(isinstance(size, torch.SymInt) for part in parts for size in part.shape):
            return _theirs(node.meta.get("stack_trace") or "")
    return ""


def _operator(node: torch.fx.Node) -> str:
    return getattr(node.target, "__name__", "").partition(".")[0]


def names_place(said: str) -> bool:
    """Whether a sentence names a place in the user's code."""
    return re.search(r" at [^ ]+:\d+ \(", said) is not None


def place_of(err: BaseException) -> str:
    """Return " at FILE:LINE (FUNCTION)" of the innermost frame that is neither torch's nor this house's, if any is."""
    found, frame = "", err.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        if not code.co_filename.startswith(STRANGERS):
            found = f" at {Path(code.co_filename).name}:{frame.tb_lineno} ({code.co_name})"
        frame = frame.tb_next
    return found
