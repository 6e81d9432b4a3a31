"""What an export prints: what became of the layers, the verdict, the cost, and what to type next.

Rules of this file: it says what was found; it exports nothing.
"""

import hashlib
import re
import resource
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..bundle.graph_facts import GraphFacts
from ..bundle.manifest import Manifest
from ..bundle.manifest_json import manifest_to_json
from ..export.pipeline import Exported
from ..export.proof.report import Report
from ..model.weight_file import list_some
from .bundle_view import answers_for
from .report_text import Row, summary_fields, summary_rows
from .terminal import Terminal

# A layer of this house in the place of one of a foreign module's own.
_IN_MODULE: Final = re.compile(r"module\.(.+)\.stack\.(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportResult:
    """A bundle that was just written.

    Attributes:
        out: its folder.
        manifest: as written.
        report: of the verification.
        layers: where each layer is, what it was, and the operator that runs it.
        weights: where they are from, in words; None: in the file that was exported.
        exchanges: further rows, on layers of a stranger's module.
        left_out: names of the tensors that a stranger's module returns and the bundle does not give.
        whole_numbers: which of these could be no answer.
        said_to_fewer: what a stranger's module says to fewer steps than it takes.
        said_to_more: what it says to more steps than it takes.
    """

    out: Path
    manifest: Manifest
    report: Report
    layers: tuple[tuple[str, str, str], ...]
    weights: str | None = None
    exchanges: tuple[Row, ...] = ()
    left_out: tuple[str, ...] = ()
    whole_numbers: frozenset[str] = frozenset()
    said_to_fewer: str = ""
    said_to_more: str = ""


def result_of_network(exported: Exported, out: Path, weights: str) -> ExportResult:
    """Return the result of an export from PyTorch, with the words for where its weights are from."""
    exportable = exported.exportable
    around = "module.net." if exportable.signature.columns else "module."
    return ExportResult(
        out=out,
        manifest=exported.manifest,
        report=exported.report,
        layers=tuple(
            (layer.path.replace(around, "module.", 1), layer.cell, layer.operator) for layer in exportable.layers
        ),
        weights=weights,
        exchanges=tuple(
            ("exchanged", f"{exchange.path or 'the network'}, {exchange.was}: {exchange.proof}")
            for exchange in exportable.exchanges
        ),
        left_out=tuple(getattr(exportable.network, "left_out", ())),
        whole_numbers=frozenset(getattr(exportable.network, "whole_numbers", ())),
        said_to_fewer=str(getattr(exportable.network, "said_to_fewer", "")),
        said_to_more=str(getattr(exportable.network, "said_to_more", "")),
    )


def result_of_file(manifest: Manifest, report: Report, facts: GraphFacts, out: Path) -> ExportResult:
    """Return the result of an export from an ONNX file, which tells of its fused layers alone."""
    layers = tuple(
        (layer.name or f"number {number}", "of the file", layer.operator)
        for number, layer in enumerate(facts.recurrent)
    )
    return ExportResult(out=out, manifest=manifest, report=report, layers=layers)


def print_result(result: ExportResult, elapsed_s: float, terminal: Terminal) -> None:
    """Print the result for people, or for machines."""
    report, manifest, out = result.report, result.manifest, result.out
    memory_mib = peak_memory_mib()
    terminal.say(f"bundle {out} ({manifest.name}, version {manifest.version})")
    terminal.say()
    rows = [] if result.weights is None else [("weights", result.weights)]
    rows += [
        (f"layer {number}", f"{cell} -> {operator} ({_manner(operator)}), {_where(path)}")
        for number, (path, cell, operator) in enumerate(result.layers)
    ]
    rows += [*_found(result), *result.exchanges, *summary_rows(report)]
    rows.append(("took", f"{elapsed_s:.1f} s, {memory_mib:.0f} MiB of memory at the most"))
    terminal.pairs(rows)
    terminal.say()
    terminal.say(f"report   {out / 'equivalence.html'}")
    terminal.say(f"next     cellgate serve {shlex.quote(str(out))}")
    if result.left_out:
        terminal.note(_left_out_words(result))
    if report.verdict == "sensitive":
        terminal.warn(
            f"the network is chaotic in {sum(bool(case.sensitive) for case in report.cases)} cases: rounding alone "
            "moves its outputs beyond use there, and float32 means little whoever computes it; the bundle was written"
        )
    terminal.answer(_answer(result, elapsed_s, memory_mib))


def _found(result: ExportResult) -> list[Row]:
    """Return what was found of a stranger's module that people may want to hold against what they meant."""
    network, graph = result.manifest.network, result.manifest.graph
    rows: list[Row] = []
    if "gates" in network:
        rows.append(("gates", f"in {network['gates']}, products and what is kept of a state in float32"))
    if "columns" in network:
        rows.append(("columns", f"x holds {network['columns']}"))
    if "mask" in network:
        rows.append(("mask", str(network["mask"])))
    if graph.least_steps > 1:
        said = f"for {graph.least_steps - 1} {result.said_to_fewer}"
        rows.append(("steps", f"at least {graph.least_steps}, so no state is carried; {said}"))
    if graph.most_steps is not None:
        said = f"for {graph.most_steps + 1} {result.said_to_more}"
        rows.append(("steps", f"at most {graph.most_steps}, so no state is carried; {said}"))
    if (answers := answers_for(graph)) is not None:
        rows.append(("answers", answers))
    if "answer" in network:
        rows.append(("answer", f"side by side: {network['answer']}"))
    return rows


def _left_out_words(result: ExportResult) -> str:
    count, offered = len(result.left_out), [name for name in result.left_out if name not in result.whole_numbers]
    more = f"{'it is' if count == 1 else 'they are'} of whole numbers, which are no answer"
    if offered:
        one = "it" if count == 1 else "one"
        more = f"--answer {list_some(offered, ' or ')} would give {one} as y, names joined by commas them side by side"
    return (
        f"{result.manifest.network['kind']}.forward returns {count} tensor{'s'[: count > 1]} more, beside y and the "
        f"states that it carries; the bundle leaves {'it' if count == 1 else 'them'} out, and {more}"
    )


def _answer(result: ExportResult, elapsed_s: float, memory_mib: float) -> dict[str, Any]:
    manifest = result.manifest
    return {
        "bundle": str(result.out),
        "name": manifest.name,
        "version": manifest.version,
        "digest": hashlib.sha256(manifest_to_json(manifest)).hexdigest(),
        "weights": result.weights,
        "labels": manifest.labels,
        "least_steps": manifest.graph.least_steps,
        "most_steps": manifest.graph.most_steps,
        "columns": manifest.network.get("columns"),
        "answer_shape": manifest.graph.outputs[0].shape,
        "operators": manifest.operators,
        "layers": [{"path": path, "cell": cell, "operator": operator} for path, cell, operator in result.layers],
        **summary_fields(result.report),
        "elapsed_s": round(elapsed_s, 3),
        "peak_memory_mib": round(memory_mib),
    }


def _manner(operator: str) -> str:
    return "a loop over the cell, time free" if operator == "Scan" else "fused, time free"


def _where(path: str) -> str:
    """Return where a layer is, in the words of whoever wrote the module around it."""
    inside = _IN_MODULE.fullmatch(path)
    return f"at {path}" if inside is None else f"layer {inside[2]} of {inside[1]}"


def peak_memory_mib() -> float:
    """Return the most memory that this process had so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere
