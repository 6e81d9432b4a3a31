"""The whole way from a network to a bundle: prepare, TorchScript, ONNX, verify, write; or a refusal that says why.

Rules of this file: each step's promise is checked before the next; a bundle that is not equivalent is not written.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from torch import nn

from ..bundle.graph_check import check_graph, scan_graph
from ..bundle.manifest import Manifest, SessionOptions
from ..bundle.writer import write_bundle
from .bundle_contents import make_contents, make_manifest, make_variants
from .errors import NotEquivalentError, SourceError
from .exportable import Exportable, for_cuda, prepare
from .foreign.columns import NARROWER
from .graph.onnx_graph import export_onnx
from .options import ExportOptions
from .proof.findings import Worst
from .proof.oracle import Oracle
from .proof.report import Report
from .proof.torch_legs import EagerLeg
from .proof.verify import Progress, verify
from .torchscript import Scripted, export_torchscript

SCAN_FILE = "model.scan.onnx"
_MOST_ULPS: Final = 1e6  # beyond, their order alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What came out: the manifest as written, the report, and what each layer became."""

    manifest: Manifest
    report: Report
    exportable: Exportable


@dataclass(frozen=True, kw_only=True, slots=True)
class Artefacts:
    """The network in all its forms, before anything is verified or written."""

    exportable: Exportable
    scripted: Scripted
    model: bytes
    session: SessionOptions
    variants: Mapping[str, bytes] = field(default_factory=dict)


def build(source: nn.Module, options: ExportOptions, progress: Progress = lambda *_: None) -> Artefacts:
    """Make TorchScript and ONNX of a network.

    Raises:
        ExportError: one of its classes.
    """
    progress("recurrent layers", 0, 3)
    exportable = prepare(
        source,
        options.told,
        options.input_dim,
        answer=options.answer,
        columns=options.columns,
        float64_gates=options.float64_gates,
    )
    exportable = replace(exportable, description={**exportable.description, **options.origin})
    _check_widths(exportable, options)
    progress("TorchScript", 1, 3)
    scripted = export_torchscript(exportable)
    progress("ONNX", 2, 3)
    model = export_onnx(exportable)
    other = for_cuda(exportable)
    variants = {} if other is None else {SCAN_FILE: export_onnx(other)}
    # The reader's own rules, so that nothing is written which it would refuse.
    for graph in (model, *variants.values()):
        check_graph(graph, scan_graph(graph).operators)
    progress("ONNX", 3, 3)
    return Artefacts(exportable=exportable, scripted=scripted, model=model, session=SessionOptions(), variants=variants)


def _check_widths(exportable: Exportable, options: ExportOptions) -> None:
    """Raise SourceError where labels or normalisation do not fit, before the long work and not after it."""
    outputs, inputs = exportable.signature.outputs[0].shape[-1], exportable.signature.inputs[0].shape[-1]
    if options.labels is not None and len(options.labels) != outputs:
        raise SourceError(
            f"labels: expected {outputs} names, one for each output of the network, found {len(options.labels)}"
        )
    if options.normalisation is not None and exportable.signature.vocabulary_size is not None:
        raise SourceError("normalisation: expected none for a network that reads tokens, found one; leave it out")
    for name, values in (options.normalisation or {}).items():
        if len(values) != inputs:
            raise SourceError(
                f"normalisation {name}: expected {inputs} numbers, one for each input, found {len(values)}"
            )


def verify_artefacts(artefacts: Artefacts, options: ExportOptions, progress: Progress = lambda *_: None) -> Report:
    """Verify what ``build`` made."""
    return verify(
        artefacts.exportable,
        artefacts.model,
        artefacts.scripted,
        artefacts.session,
        options.verify,
        progress,
        artefacts.variants,
    )


def export_bundle(
    source: nn.Module,
    out: Path,
    options: ExportOptions,
    progress: Progress = lambda *_: None,
    rerun: Callable[[str], str] = lambda case: f"--case {case}",
) -> Exported:
    """Export, verify and write.

    Args:
        source: the network; not changed.
        out: folder of the bundle.
        options: see ExportOptions.
        progress: called with what is being done.
        rerun: gives the words that run a case again, for the message of a refusal.

    Raises:
        ExportError: the network cannot be exported.
        NotEquivalentError: the implementations disagree; nothing was written.
        BundleError: the bundle cannot be written there.
    """
    artefacts = build(source, options, progress)
    report = verify_artefacts(artefacts, options, progress)
    if report.verdict == "not equivalent":
        raise NotEquivalentError(refusal(report.worst(), len(report.failures()), rerun, _remedy(report, artefacts)))
    signature, oracle = artefacts.exportable.signature, Oracle(artefacts.exportable)
    contents = make_contents(artefacts.model, signature, EagerLeg(artefacts.exportable).run, report)
    if artefacts.scripted.content:
        contents["model.ts"] = artefacts.scripted.content
    contents |= artefacts.variants
    fields = make_manifest(artefacts.model, signature, artefacts.session, oracle, report, options)
    fields = replace(fields, variants=make_variants(artefacts.variants, report))
    manifest = write_bundle(out, fields, contents, overwrite=options.overwrite)
    return Exported(manifest=manifest, report=report, exportable=artefacts.exportable)


def _remedy(report: Report, artefacts: Artefacts) -> str:
    """Return what helps where columns are narrower than what is drawn, or onnxruntime's gates are off; else nothing."""
    failed = {worst.leg for worst in report.failures()}
    if EagerLeg.name in failed and "columns" in artefacts.exportable.description:
        return f"; {NARROWER}"
    if artefacts.exportable.float64_gates or failed != {"onnxruntime"}:
        return ""
    return "; where a gate near zero meets a large state, --float64-gates computes both as exactly as PyTorch does"


def refusal(worst: Worst, failures: int, rerun: Callable[[str], str], remedy: str = "") -> str:
    """Say in one sentence what failed worst, what helps against a number that is off, and how to run it again."""
    place = ", ".join(str(k) for k in worst.index)
    if worst.complaint:
        found = f"{worst.leg}: {worst.complaint}"
    elif worst.leg == EagerLeg.name and math.isinf(worst.max_abs):
        found = (
            f"{worst.output}[{place}] is not finite where PyTorch runs the network itself, expected a number; look for "
            "an overflow, a logarithm of zero and a division by it: f / (f + i) of two shut gates is "
            f"torch.sigmoid(F.logsigmoid(a) - F.logsigmoid(b)) of what goes into them{remedy}"
        )
    else:
        found = (
            f"{worst.output}[{place}] of {worst.leg} is off by {worst.max_abs:.3g} ({_short(worst.ulps)} ULP), "
            f"expected at most {worst.tolerance:.3g}{remedy}"
        )
    return (
        f"not equivalent, so no bundle was written: in case {worst.case} {found} ({failures} comparisons failed); "
        f"run it again with {rerun(worst.case)}"
    )


def _short(ulps: float) -> str:
    """Return the number as far as anybody reads it: beside an expected zero there may be 45 digits of it."""
    return f"{ulps:.0f}" if ulps < _MOST_ULPS else f"{ulps:.0e}"
