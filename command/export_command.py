"""`cellgate export`: a source in, a verified bundle out, or one case of the comparison run alone.

Rules of this file: what can be refused is refused before the verification, which takes its time. Whatever the user's
code prints goes to stderr, for stdout is the answer's.
"""

import argparse
import os
import sys
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from ..bundle.writer import check_target
from ..export.onnx_source import export_onnx_file, load_onnx, verify_onnx
from ..export.options import ExportOptions
from ..export.pipeline import build, export_bundle, verify_artefacts
from ..export.proof.verify import VerifyOptions
from ..export.source import Source, load_source
from .case_run import check_case, print_case
from .errors import DONE, UsageError
from .export_result import ExportResult, print_result, result_of_file, result_of_network
from .output_place import refuse_inside_bundle
from .report_text import naming
from .source_options import bundle_name, check_widths, columns, labels, normalisation, rerunner, roles, take_threads
from .terminal import Terminal

_NOT_OF_A_FILE = ("weights", "gate_order", "argument", "input_dim", "columns", "answer", "float64_gates")


def run(arguments: argparse.Namespace) -> int:
    """Export, or run one case.

    Raises:
        UsageError, SourceError, ExportError, BundleError: see the modules; NotEquivalentError where the check failed.
    """
    terminal = Terminal(json=arguments.json)
    out = _target(arguments)
    options = _options(arguments, out)
    with redirect_stdout(sys.stderr):
        if arguments.source.endswith(".onnx"):
            done = _from_file(arguments, out, options, terminal)
        else:
            done = _from_network(arguments, out, options, terminal)
    if isinstance(done, ExportResult):
        print_result(done, time.perf_counter() - arguments.started_s, terminal)
        return DONE
    return done


def _target(arguments: argparse.Namespace) -> Path | None:
    """Return where to write, checked now rather than after the verification; None where nothing is written."""
    if arguments.case is not None:
        return None
    if arguments.out is None:
        raise UsageError("--out is missing, expected the folder to write; for example --out bundles/mine")
    out = Path(arguments.out)
    if os.path.lexists(out) and not arguments.overwrite:
        raise UsageError(
            f"{out}: expected nothing there, found something; give another --out, or --overwrite where it is a bundle"
        )
    refuse_inside_bundle("--out", out)
    place = Path(os.path.abspath(out))  # noqa: PTH100 - as write_bundle takes it
    check_target(place, overwrite=arguments.overwrite)
    nearest = next(folder for folder in place.parents if os.path.lexists(folder))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        found = f"that {nearest} {'may not be written' if nearest.is_dir() else 'is no folder'}"
        raise UsageError(f"{out}: expected a place to write a folder, found {found}; give another --out")
    return out


def _options(arguments: argparse.Namespace, out: Path | None) -> ExportOptions:
    return ExportOptions(
        name=bundle_name(arguments.name, out or Path("case")),
        version=arguments.model_version,
        labels=labels(arguments.labels),
        normalisation=normalisation(arguments.normalisation),
        told=roles(arguments.argument),
        input_dim=arguments.input_dim,
        answer=arguments.answer,
        columns=columns(arguments.columns),
        float64_gates=arguments.float64_gates,
        overwrite=arguments.overwrite,
        verify=VerifyOptions(
            drift_steps=arguments.drift_steps, only_case=arguments.case, threads=take_threads(arguments.threads)
        ),
    )


def _from_network(
    arguments: argparse.Namespace, out: Path | None, options: ExportOptions, terminal: Terminal
) -> ExportResult | int:
    source = load_source(
        arguments.source,
        arguments.weights,
        with_labels=options.labels is None,
        gate_order=arguments.gate_order,
    )
    options = _completed(options, source)
    terminal.note(f"weights: {source.weights}")
    with terminal.progress() as progress:
        if out is not None:
            exported = export_bundle(source.network, out, options, naming(progress), rerunner(arguments))
            return result_of_network(exported, out, source.weights)
        artefacts = build(source.network, options, progress)
        check_case(options.verify, artefacts.exportable.signature, artefacts.exportable.uncaptured)
        report = verify_artefacts(artefacts, options)
    return print_case(arguments.case, report, terminal)


def _completed(options: ExportOptions, source: Source) -> ExportOptions:
    """Take the labels that came with the source, unless others were given, and check what can be checked already."""
    completed = replace(options, labels=options.labels or source.labels, origin=source.origin)
    check_widths(source.network, completed.labels, completed.normalisation)
    return completed


def _from_file(
    arguments: argparse.Namespace, out: Path | None, options: ExportOptions, terminal: Terminal
) -> ExportResult | int:
    path = Path(arguments.source)
    for name in _NOT_OF_A_FILE:
        if getattr(arguments, name):
            raise UsageError(f"--{name.replace('_', '-')}: an ONNX file has its own, expected none; leave it out")
    with terminal.progress() as progress:
        if out is not None:
            manifest, report, source = export_onnx_file(path, out, options, naming(progress), rerunner(arguments))
            return result_of_file(manifest, report, source.facts, out)
        source = load_onnx(path)
        check_case(options.verify, source.signature)
        report, _ = verify_onnx(path, source, options.verify)
    return print_case(arguments.case, report, terminal)
