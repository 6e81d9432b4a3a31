"""`cellgate verify BUNDLE --source SOURCE`: the whole grid again, this bundle's graph against the network.

Rules of this file: the graph is the bundle's own bytes, opened with the bundle's own options; nothing is exported.
"""

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from ..bundle.manifest import GraphSignature, TensorSpec
from ..bundle.reader import Bundle, read_bundle
from ..export.exportable import Exportable, prepare
from ..export.proof.report import Report
from ..export.proof.verify import VerifyOptions, verify
from ..export.report_page.page import render_page
from ..export.source import load_source
from ..export.torchscript import export_torchscript
from .case_run import check_case, print_case
from .errors import CHECK_FAILED, DONE, UsageError
from .report_text import naming, summary_fields, summary_rows, worst_words
from .source_options import columns, rerunner, roles, take_threads
from .terminal import Terminal


def run(arguments: argparse.Namespace) -> int:
    """Compare; 1 where the graph and the network are not equivalent.

    Raises:
        UsageError: the network has other inputs or outputs than the bundle.
        BundleError, SourceError, ExportError: bundle or source cannot be used.
    """
    terminal = Terminal(json=arguments.json)
    bundle = read_bundle(Path(arguments.bundle))
    options = VerifyOptions(
        drift_steps=arguments.drift_steps, only_case=arguments.case, threads=take_threads(arguments.threads)
    )
    with redirect_stdout(sys.stderr):
        exportable = _prepare(bundle, arguments)
        check_case(options, exportable.signature, exportable.uncaptured)
        terminal.note("TorchScript")
        scripted = export_torchscript(exportable)
        with terminal.progress() as progress:
            report = verify(
                exportable, bundle.model, scripted, bundle.manifest.session, options, naming(progress), bundle.variants
            )
    if arguments.case is not None:
        return print_case(arguments.case, report, terminal)
    written = None if arguments.report is None else _write_report(report, Path(arguments.report))
    _print(bundle, report, written, terminal)
    if report.verdict == "not equivalent":
        terminal.note(
            f"{arguments.bundle}: expected it equivalent to {arguments.source}, found {worst_words(report.worst())}; "
            f"run it again with {rerunner(arguments)(report.worst().case)}"
        )
        return CHECK_FAILED
    return DONE


def _prepare(bundle: Bundle, arguments: argparse.Namespace) -> Exportable:
    source = load_source(arguments.source, arguments.weights, with_labels=False, gate_order=arguments.gate_order)
    exportable = prepare(
        source.network,
        roles(arguments.argument),
        arguments.input_dim,
        answer=arguments.answer,
        columns=columns(arguments.columns),
        float64_gates="gates" in bundle.manifest.network,  # of the bundle's graph; for the report
    )
    expected, found = bundle.manifest.graph, exportable.signature
    if expected != found:
        raise UsageError(
            f"{arguments.source}: expected {_words(expected)} as in the bundle, found {_words(found)}; "
            "give the source from which the bundle was made, with the same --argument, --input-dim, --columns and "
            "--answer"
        )
    return exportable


def _write_report(report: Report, folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "equivalence.json").write_bytes(report.to_json())
    (folder / "equivalence.html").write_bytes(render_page(report))
    return str(folder / "equivalence.html")


def _print(bundle: Bundle, report: Report, written: str | None, terminal: Terminal) -> None:
    terminal.say(f"{bundle.manifest.name} version {bundle.manifest.version}")
    terminal.say()
    rows = summary_rows(report)
    if written is not None:
        rows.append(("report", written))
    terminal.pairs(rows)
    terminal.answer({"bundle": str(bundle.path), "digest": bundle.digest, **summary_fields(report), "report": written})


def _words(signature: GraphSignature) -> str:
    least = f", at least {signature.least_steps} steps" if signature.least_steps > 1 else ""
    most = "" if signature.most_steps is None else f", at most {signature.most_steps} steps"
    columns = ", ".join(f"{column.name} {column.width} ({column.expected(0)})" for column in signature.columns)
    held = f", columns {columns}" if columns else ""
    return f"{_specs(signature.inputs)} -> {_specs(signature.outputs)}{least}{most}{held}"


def _specs(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} [{', '.join(map(str, spec.shape))}]" for spec in specs)
