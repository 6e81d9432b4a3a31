"""A bundle from an ONNX file that somebody has already: its contract read off its names, verified without PyTorch.

Rules of this file: nothing is guessed and nothing is changed; a file whose inputs and outputs do not keep the design's
names and free axes is refused with the tensor, expected and found. The file's bytes become model.onnx as they are.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx

from ..bundle.axes import AXIS_PATTERN, Axis, StepAxis, step_axis
from ..bundle.errors import BundleError, ManifestError
from ..bundle.graph_check import check_graph
from ..bundle.graph_facts import GraphFacts, ValueFact
from ..bundle.graph_scan import MAX_MODEL_BYTES, scan_graph
from ..bundle.manifest import DType, GraphSignature, Manifest, SessionOptions, StatePair, TensorSpec
from ..bundle.signature import check_signature
from ..bundle.writer import write_bundle
from .bundle_contents import make_contents, make_manifest
from .error_line import said_by
from .errors import FrozenAxisError, NotEquivalentError, SignatureError, SourceError
from .options import ExportOptions
from .pipeline import refusal
from .proof.graph_legs import ReferenceLeg, RuntimeLeg
from .proof.graph_oracle import GraphOracle
from .proof.report import Report
from .proof.verify import Contest, Progress, VerifyOptions, compare_all

_CONTRACT: Final = "x [B, T, I] float32 or tokens [B, T] int64, lengths [B] int32, h0, c0, ... -> y, h_n, c_n, ..."
_DTYPES: Final[dict[str, DType]] = {"float32": "float32", "int32": "int32", "int64": "int64"}
_STATE: Final = re.compile(r"([A-Za-z][A-Za-z0-9._-]*?)0(_\d+)?")  # the shortest name: h0_10 is the h of stack 10


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxSource:
    """A file that can become a bundle: its bytes, what is in it, and its contract."""

    model: bytes
    facts: GraphFacts
    signature: GraphSignature


def load_onnx(path: Path) -> OnnxSource:
    """Read an ONNX file and its contract.

    Raises:
        SourceError: no such file, no ONNX, of another precision, or of what serving refuses.
        SignatureError: names, dtypes or shapes that are not the design's.
        FrozenAxisError: batch or time is a number.
    """
    if not path.is_file():
        raise SourceError(f"{path} {'is no file' if path.exists() else 'does not exist'}, expected an ONNX file")
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise SourceError(f"{path} has {path.stat().st_size} bytes, expected at most {MAX_MODEL_BYTES}")
    model = path.read_bytes()
    try:
        facts = check_graph(model, scan_graph(model).operators)
    except BundleError as err:
        remedy = "export it again, or inspect it"
        if "external data" in str(err):
            remedy = f'make one file of both with onnx.save(onnx.load("{path.name}"), "one.onnx"), and export that'
        raise SourceError(f"{path}: {err}; {remedy}") from err
    narrow = sorted({t.dtype for t in facts.initializers if t.dtype in {"float16", "bfloat16", "float64"}})
    if narrow:
        raise SourceError(f"{path} holds {', '.join(narrow)} weights, expected float32; convert it")
    signature = _signature(path, model, facts)
    try:
        check_signature(signature)
    except ManifestError as err:
        found = str(err).removeprefix("manifest.json: graph.")
        remedy = "; put a Cast to int32 before them" if found.startswith("inputs.lengths") else ""
        raise SignatureError(f"{path}: {found}; a bundle's graph is {_CONTRACT}{remedy}") from err
    return OnnxSource(model=model, facts=facts, signature=signature)


def verify_onnx(
    path: Path, source: OnnxSource, options: VerifyOptions, progress: Progress = lambda *_: None
) -> tuple[Report, GraphOracle]:
    """Compare onnxruntime and the onnx evaluator with the graph in float64, and check the laws.

    Raises:
        SourceError: the runtime or the evaluator cannot run the graph, or not for any number of rows and steps, so that
            nothing can be verified.
        ValueError: ``options.only_case`` names no case.
    """
    signature = source.signature
    try:
        served = RuntimeLeg(source.model, signature, SessionOptions(), options.threads)
        reference = ReferenceLeg(source.model, signature)
        oracle = GraphOracle(source.model, signature)
    except Exception as err:  # either package raises what it likes for a graph that it does not know
        raise SourceError(f"{path} cannot be opened to verify it: {said_by(err)}") from err
    if reference.complaint:
        found = reference.complaint.removeprefix("not applicable: ")
        raise SourceError(f"{path} cannot be verified without its network: {found}; export it from PyTorch")
    contest = Contest(
        signature=signature,
        description=_describe(source.facts),
        oracle=oracle,
        legs=(served, reference),
        served=served,
        grown=(served,),
        no_control="not applicable: an ONNX file has no PyTorch network beside it",
    )
    try:
        return compare_all(contest, options, progress), oracle
    except SourceError as err:
        raise SourceError(f"{path}: {err}") from err


def export_onnx_file(
    path: Path,
    out: Path,
    options: ExportOptions,
    progress: Progress = lambda *_: None,
    rerun: Callable[[str], str] = lambda case: f"--case {case}",
) -> tuple[Manifest, Report, OnnxSource]:
    """Read, verify and write; see ``pipeline.export_bundle``.

    Raises:
        ExportError: the file cannot become a bundle; NotEquivalentError where the check failed.
        BundleError: the bundle cannot be written there.
    """
    source = load_onnx(path)
    report, oracle = verify_onnx(path, source, options.verify, progress)
    if report.verdict == "not equivalent":
        raise NotEquivalentError(refusal(report.worst(), len(report.failures()), rerun))
    fields = make_manifest(source.model, source.signature, SessionOptions(), oracle, report, options)
    contents = make_contents(source.model, source.signature, oracle.golden, report)
    return write_bundle(out, fields, contents, overwrite=options.overwrite), report, source


def _signature(path: Path, model: bytes, facts: GraphFacts) -> GraphSignature:
    if not facts.inputs or facts.inputs[0].name not in {"x", "tokens"}:
        names = ", ".join(value.name for value in facts.inputs) or "none"
        dims = facts.inputs[0].dims if facts.inputs else None
        frozen = ", and leave batch and time free" if any(isinstance(dim, int) for dim in (dims or ())[:2]) else ""
        raise SignatureError(
            f"{path} has the inputs {names}, expected x or tokens first: {_CONTRACT}; rename them{frozen}"
        )
    sequence = facts.inputs[0].name
    lengths = next((value.name for value in facts.inputs[1:2] if value.name == "lengths"), None)
    states = [value.name for value in facts.inputs[2 if lengths else 1 :]]
    pairs = tuple(StatePair(input=name, output=_returned(path, name)) for name in states)
    frees: dict[str, tuple[str, ...]] = {sequence: ("B", "T"), "lengths": ("B",)}
    frees |= dict.fromkeys((name for pair in pairs for name in (pair.input, pair.output)), ("", "B"))
    answered = _answered(facts)
    frees["y"] = ("B", str(answered))
    inputs = tuple(_spec(path, "input", value, frees[value.name]) for value in facts.inputs)
    outputs = tuple(_spec(path, "output", value, frees.get(value.name, ("B", "T"))) for value in facts.outputs)
    return GraphSignature(
        inputs=inputs,
        outputs=outputs,
        sequence=sequence,
        lengths=lengths,
        state=pairs,
        vocabulary_size=_vocabulary(path, model) if sequence == "tokens" else None,
        least_steps=max(answered.divide - answered.add, 1),  # of which one is left
    )


def _answered(facts: GraphFacts) -> StepAxis:
    """Return the axis of an answer for fewer steps, where the file names it as a bundle's manifest does; else T."""
    dims = next((value.dims for value in facts.outputs if value.name == "y"), None) or ()
    name = dims[1] if len(dims) > 1 else None
    axis = step_axis(name) if isinstance(name, str) and re.fullmatch(AXIS_PATTERN, name) else None
    return axis or StepAxis()


def _returned(path: Path, name: str) -> str:
    match = _STATE.fullmatch(name)
    if match is None:
        raise SignatureError(f"{path}: input {name} is no sequence, lengths or state; expected {_CONTRACT}; rename it")
    return f"{match[1]}_n{match[2] or ''}"


def _spec(path: Path, part: str, value: ValueFact, frees: tuple[str, ...]) -> TensorSpec:
    """Take a declared tensor; ``frees`` says which of the first axes are B and T, "" where one is fixed."""
    if value.dtype not in _DTYPES:
        raise SignatureError(f"{path}: {part} {value.name} is {value.dtype or 'untyped'}, expected {_CONTRACT}")
    if value.dims is None:
        raise SignatureError(f"{path}: {part} {value.name} does not say its shape, expected {_CONTRACT}; declare it")
    # One answer for a sequence is [B, O]: the second axis is fixed there. It may be a table, such as [B, K, O].
    if part == "output" and frees[:1] == ("B",) and (value.dims[2:] == () or isinstance(value.dims[1], int)):
        frees = ("B",)
    shape: list[Axis] = []
    for place, dim in enumerate(value.dims):
        free = frees[place] if place < len(frees) else ""
        if free and isinstance(dim, int) and part == "input":
            axis = "time" if free == "T" else "batch"
            raise FrozenAxisError(
                f"{path}: input {value.name} has {axis} frozen to {dim}, expected it free; export it with dynamic axes"
            )
        if not free and not isinstance(dim, int):
            raise SignatureError(
                f"{path}: {part} {value.name} has axis {place} free ({dim or 'unnamed'}), expected a fixed size; "
                "declare it"
            )
        if isinstance(dim, int) and dim < 1:
            raise SignatureError(f"{path}: {part} {value.name} has axis {place} of size {dim}, expected at least 1")
        shape.append(free or dim)  # type: ignore[arg-type] # an int by the line above
    return TensorSpec(name=value.name, dtype=_DTYPES[value.dtype], shape=tuple(shape))


def _vocabulary(path: Path, model: bytes) -> int:
    """Return how many tokens there are: the rows of the smallest table that they index, directly or through casts."""
    graph = onnx.load_from_string(model).graph
    tokens = {"tokens"}
    tables = {tensor.name: tensor.dims for tensor in graph.initializer}
    counts = []
    for node in graph.node:  # in topological order, as ONNX demands
        if node.op_type in {"Cast", "Identity", "Transpose"} and node.input[0] in tokens:
            tokens.add(node.output[0])
        if node.op_type == "Gather" and node.input[1] in tokens and node.input[0] in tables:
            counts.append(int(tables[node.input[0]][0]))
    if counts:
        return min(counts)
    raise SignatureError(
        f"{path}: tokens index no table of the file, expected an embedding (Gather), by which their number is known"
    )


def _describe(facts: GraphFacts) -> dict[str, Any]:
    return {
        "kind": "ONNX file",
        "parameters": facts.parameters,
        "producer": facts.producer,
        "layers": [layer.operator for layer in facts.recurrent],
    }
