"""What a bundle holds beside its graphs: the manifest, what it says of variants, golden cases, the report as files.

Rules of this file: nothing is run but what the golden cases ask for; what is said of a graph comes from its bytes or
from the report.
"""

from collections.abc import Callable, Mapping

from ..bundle.golden import GoldenCase, pack_golden
from ..bundle.graph_check import scan_graph
from ..bundle.manifest import GraphSignature, Manifest, SessionOptions, Variant
from .options import ExportOptions
from .proof.cases import golden_cases, grid, make_inputs
from .proof.compare import Array
from .proof.findings import VariantResult
from .proof.oracle import Judge
from .proof.report import Report
from .proof.verify import tool_versions
from .report_page.page import render_page


def make_variants(graphs: Mapping[str, bytes], report: Report) -> tuple[Variant, ...]:
    """Return what the manifest says of the variants, which are all for CUDA; no bits where their laws were not run."""
    found = {file: VariantResult(file=file, leg="", laws=()) for file in graphs}
    found |= {result.file: result for result in report.variants}
    return tuple(
        Variant(
            file=file,
            device="cuda",
            operators=tuple(sorted(scan_graph(graph).operators)),
            bitwise_rows=found[file].is_bitwise("alone", "padding", "order"),
            bitwise_chunks=report.streamable and found[file].is_bitwise("chunks"),
        )
        for file, graph in graphs.items()
    )


def make_manifest(
    model: bytes,
    signature: GraphSignature,
    session: SessionOptions,
    oracle: Judge,
    report: Report,
    options: ExportOptions,
) -> Manifest:
    """Return everything that the bundle says about itself but its files; tolerances are those of the golden cases."""
    facts = scan_graph(model)
    tolerances: dict[str, float] = dict.fromkeys((spec.name for spec in signature.outputs), 0.0)
    for case in golden_cases(grid(signature)):
        for name, tolerance in oracle.truth(make_inputs(case, signature)).tolerances.items():
            # Two legs may err in opposite directions, so golden outputs of one are held to twice the bound of each.
            tolerances[name] = max(tolerances[name], 2.0 * tolerance)
    return Manifest(
        name=options.name,
        version=options.version,
        network=report.network,
        graph=signature,
        opset=facts.opset,
        operators=tuple(sorted(facts.operators)),
        streamable=report.streamable,
        bitwise_rows=report.is_bitwise("alone", "padding", "order"),
        bitwise_chunks=report.streamable and report.is_bitwise("chunks"),
        precision="float32",
        tolerances=tolerances,
        session=session,
        tools=tool_versions(),
        files={},
        labels=options.labels,
        normalisation=options.normalisation,
    )


def make_contents(
    model: bytes,
    signature: GraphSignature,
    run: Callable[[dict[str, Array]], dict[str, Array]],
    report: Report,
) -> dict[str, bytes]:
    """Return the files that every bundle holds; ``run`` gives the golden outputs, in the graph's dtypes."""
    cases = []
    for case in golden_cases(grid(signature)):
        inputs = make_inputs(case, signature)
        cases.append(GoldenCase(id=case.id, inputs=inputs, outputs=run(inputs)))
    return {
        "model.onnx": model,
        "golden.safetensors": pack_golden(cases),
        "equivalence.json": report.to_json(),
        "equivalence.html": render_page(report),
    }
