"""`cellgate export`: a source in, a verified bundle out, or one case of the comparison run alone.

Rules of this file: what can be refused is refused before the verification, which takes its time. Whatever the user's
code prints goes to stderr, for stdout is the answer's.
"""

import argparse
import hashlib
import os
import resource
import shlex
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ..bundle.manifest_json import manifest_to_json
from ..export.pipeline import Exported, ExportOptions, build, export_bundle
from ..export.source import Source, load_source
from ..export.verify import VerifyOptions
from .case_run import print_case, run_case
from .errors import CHECK_FAILED, DONE, UsageError
from .report_text import naming, summary_fields, summary_rows
from .source_options import bundle_name, check_widths, labels, normalisation, rerunner, roles
from .terminal import Terminal


def run(arguments: argparse.Namespace) -> int:
    """Export, or run one case.

    Raises:
        UsageError, SourceError, ExportError, BundleError: see the modules; NotEquivalentError where the check failed.
    """
    terminal = Terminal(json=arguments.json)
    out = _target(arguments)
    with redirect_stdout(sys.stderr):
        source, options = _prepare(arguments, out)
        terminal.note(f"weights: {source.weights}")
        if arguments.case is not None:
            return _run_case(arguments.case, source, options, terminal)
        assert out is not None
        with terminal.progress() as progress:
            exported = export_bundle(source.network, out, options, naming(progress), rerunner(arguments))
    _print(exported, out, time.perf_counter() - arguments.started_s, terminal)
    return DONE


def _target(arguments: argparse.Namespace) -> Path | None:
    """Return where to write, checked now rather than after the verification; None where nothing is written."""
    if arguments.case is not None:
        return None
    if arguments.out is None:
        raise UsageError("--out is missing, expected the folder to write; for example --out bundles/mine")
    out = Path(arguments.out)
    if os.path.lexists(out) and not arguments.overwrite:
        raise UsageError(f"{out}: expected nothing there, found something; give another --out, or --overwrite")
    return out


def _prepare(arguments: argparse.Namespace, out: Path | None) -> tuple[Source, ExportOptions]:
    name = bundle_name(arguments.name, out or Path("case"))
    given_labels, moments = labels(arguments.labels), normalisation(arguments.normalisation)
    source = load_source(arguments.source, arguments.weights)
    names = given_labels or source.labels
    check_widths(source.network, names, moments)
    return source, ExportOptions(
        name=name,
        version=arguments.model_version,
        labels=names,
        normalisation=moments,
        told=roles(arguments.argument),
        input_dim=arguments.input_dim,
        overwrite=arguments.overwrite,
        verify=VerifyOptions(
            drift_steps=arguments.drift_steps, only_case=arguments.case, threads=arguments.threads or 0
        ),
    )


def _run_case(case: str, source: Source, options: ExportOptions, terminal: Terminal) -> int:
    with terminal.progress() as progress:
        artefacts = build(source.network, options, progress)
        outcome = run_case(
            case, artefacts.exportable, artefacts.model, artefacts.scripted, artefacts.session, options.verify
        )
    print_case(case, outcome, terminal)
    return DONE if outcome.passed else CHECK_FAILED


def _print(exported: Exported, out: Path, elapsed_s: float, terminal: Terminal) -> None:
    report, manifest = exported.report, exported.manifest
    memory_mib = peak_memory_mib()
    terminal.say(f"bundle {out} ({manifest.name}, version {manifest.version})")
    terminal.say()
    rows = [
        (f"layer {number}", f"{layer.cell} -> {layer.operator} ({_manner(layer.operator)}), at {layer.path}")
        for number, layer in enumerate(exported.exportable.layers)
    ]
    rows += [
        ("exchanged", f"{exchange.path or 'the network'}, a {exchange.was}: {exchange.proof}")
        for exchange in exported.exportable.exchanges
    ]
    rows += summary_rows(report)
    rows.append(("took", f"{elapsed_s:.1f} s, {memory_mib:.0f} MiB of memory at the most"))
    terminal.pairs(rows)
    terminal.say()
    terminal.say(f"report   {out / 'equivalence.html'}")
    terminal.say(f"next     cellgate serve {shlex.quote(str(out))}")
    if report.verdict == "sensitive":
        terminal.warn(
            f"the network is chaotic in {sum(bool(case.sensitive) for case in report.cases)} cases: rounding alone "
            "moves its outputs beyond use there, and float32 means little whoever computes it; the bundle was written"
        )
    terminal.answer(_answer(exported, out, elapsed_s, memory_mib))


def _answer(exported: Exported, out: Path, elapsed_s: float, memory_mib: float) -> dict[str, Any]:
    manifest = exported.manifest
    return {
        "bundle": str(out),
        "name": manifest.name,
        "version": manifest.version,
        "digest": hashlib.sha256(manifest_to_json(manifest)).hexdigest(),
        "labels": manifest.labels,
        "operators": manifest.operators,
        "layers": [
            {"path": layer.path, "cell": layer.cell, "operator": layer.operator} for layer in exported.exportable.layers
        ],
        **summary_fields(exported.report),
        "elapsed_s": round(elapsed_s, 3),
        "peak_memory_mib": round(memory_mib),
    }


def _manner(operator: str) -> str:
    return "a loop over the cell, time free" if operator == "Scan" else "fused, time free"


def peak_memory_mib() -> float:
    """Return the most memory that this process had so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere
