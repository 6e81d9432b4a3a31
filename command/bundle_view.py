"""What `inspect` says of a bundle: its manifest, the facts of its graph, and where it was verified.

Rules of this file: every digest is checked first, as a server does it; nothing is run.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ..bundle.axes import fewer_steps
from ..bundle.graph_facts import GraphFacts
from ..bundle.graph_scan import scan_graph
from ..bundle.manifest import GraphSignature, Manifest, TensorSpec
from ..bundle.reader import Bundle, read_bundle
from ..bundle.verification import read_verifications
from .graph_view import layer_rows, operator_words
from .terminal import Terminal

_REPORT: Final = "equivalence.json"
_ORIGIN: Final = ("source", "weights")
"""What a network was made of, where its description says it."""


def show_bundle(path: Path, terminal: Terminal) -> None:
    """Print a bundle's summary.

    Raises:
        BundleError: damaged, or no bundle.
    """
    bundle = read_bundle(path)
    facts = scan_graph(bundle.model)
    verified = read_verifications(bundle)
    report = _read_report(bundle)
    manifest = bundle.manifest
    terminal.say(f"bundle {manifest.name}, version {manifest.version}")
    terminal.say()
    terminal.pairs(_rows(manifest, facts, report, verified))
    terminal.say()
    terminal.say(f"digest     {bundle.digest}")
    terminal.say()
    terminal.table(("tensor", "dtype", "shape", "part"), _signature_rows(manifest))
    terminal.say()
    layers = layer_rows(facts)
    if layers:
        terminal.table(("layer", "operator", "direction", "I", "H"), layers)
        terminal.say()
    terminal.table(("file", "bytes", "sha-256"), [(n, f.size_bytes, f.sha256) for n, f in manifest.files.items()])
    terminal.answer(_answer(bundle, facts, report, verified))


def _rows(
    manifest: Manifest, facts: GraphFacts, report: Mapping[str, Any], verified: Mapping[str, Any]
) -> list[tuple[str, str]]:
    rows = [
        ("network", _network_words(manifest.network)),
        *([("columns", f"x holds {manifest.network['columns']}")] if "columns" in manifest.network else []),
        *((name, str(manifest.network[name])) for name in _ORIGIN if name in manifest.network),
        ("parameters", f"{facts.parameters:,} numbers stored in the graph, {manifest.precision}"),
        ("states", ", ".join(pair.input for pair in manifest.graph.state) or "none: nothing is carried between chunks"),
        ("operators", f"{operator_words(facts)} (opset {facts.opset})"),
        ("time", _time_words(manifest.graph.least_steps, manifest.graph.most_steps)),
        ("lengths", lengths_words(takes_lengths=manifest.graph.lengths is not None)),
        *([("answers", answers)] if (answers := answers_for(manifest.graph)) else []),
        ("streamable", _yes(manifest.streamable)),
        ("same bits", f"in any batch: {_yes(manifest.bitwise_rows)}; in chunks: {_yes(manifest.bitwise_chunks)}"),
        ("verdict", f"{report.get('verdict', 'unknown')}, over {len(report.get('cases', []))} cases"),
        ("worst", _worst_words(report.get("worst"))),
        ("tolerances", ", ".join(f"{name} {value:.3g}" for name, value in manifest.tolerances.items())),
        (
            "verified on",
            ", ".join(f"{d} ({_passed(r)})" for d, r in verified.items()) or "no device but the exporter's",
        ),
        ("made with", ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items()))),
    ]
    if manifest.labels is not None:
        rows.append(("labels", ", ".join(manifest.labels)))
    if manifest.normalisation is not None:
        rows.append(
            ("normalisation", "x must be normalised by the caller: (x - mean) / std; the numbers are in --json")
        )
    return rows


def _time_words(least_steps: int, most_steps: int | None) -> str:
    if most_steps is not None:
        return f"free: the signature's axis B takes any size, T any from {least_steps} to {most_steps}"
    if least_steps == 1:
        return "free: the signature's axes B and T take any size"
    return f"free: the signature's axis B takes any size, T any from {least_steps} on"


def lengths_words(*, takes_lengths: bool) -> str:
    """Say whether sequences of one request may differ in length."""
    if takes_lengths:
        return "taken: the sequences of one request may be of unequal length"
    return "none: the network would read padding, so the sequences of one request must be of equal length"


def answers_for(graph: GraphSignature) -> str | None:
    """Say for how many steps a network answers, where those are fewer than it is given."""
    steps = fewer_steps(graph.outputs[0].shape)
    return None if steps is None else f"for {steps} of T steps, rounded down"


def _network_words(network: Mapping[str, Any]) -> str:
    """Return the exporter's description as it stands; nothing depends on it."""
    kind = str(network.get("kind", "unknown"))
    told = {"kind", "columns", *_ORIGIN}
    shown = {name: value for name, value in network.items() if name not in told and value not in (None, {}, 0.0, False)}
    return f"{kind} ({', '.join(f'{name} {value}' for name, value in sorted(shown.items()))})"


def _signature_rows(manifest: Manifest) -> list[tuple[str, str, str, str]]:
    graph = manifest.graph
    parts = {graph.sequence: "sequence"} | {pair.input: "state in" for pair in graph.state}
    parts |= {pair.output: "state out" for pair in graph.state}
    if graph.lengths is not None:
        parts[graph.lengths] = "lengths (optional: all T)"
    return [(s.name, s.dtype, _shape(s), parts.get(s.name, "answer")) for s in (*graph.inputs, *graph.outputs)]


def _shape(spec: TensorSpec) -> str:
    return f"[{', '.join(map(str, spec.shape))}]"


def _read_report(bundle: Bundle) -> dict[str, Any]:
    """Return the report whose digest was checked a moment ago; what is no report says nothing."""
    try:
        found = json.loads((bundle.path / _REPORT).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _answer(
    bundle: Bundle, facts: GraphFacts, report: Mapping[str, Any], verified: Mapping[str, Any]
) -> dict[str, Any]:
    manifest = asdict(bundle.manifest)
    return {
        "kind": "bundle",
        "path": str(bundle.path),
        "digest": bundle.digest,
        "manifest": manifest,
        "parameters": facts.parameters,
        "node_counts": dict(facts.node_counts),
        "recurrent": [asdict(layer) for layer in facts.recurrent],
        "time_is_free": True,
        "verdict": report.get("verdict"),
        "worst": report.get("worst"),
        "verified": verified,
        "golden_cases": [case.id for case in bundle.golden],
    }


def _worst_words(worst: Any) -> str:
    """Return the worst comparison of a report; reports of other versions may say it otherwise."""
    try:
        share = worst["max_abs"] / worst["tolerance"]
        return (
            f"{worst['output']} of {worst['leg']} off by {worst['max_abs']:.3g}, {share:.0%} of the "
            f"{worst['tolerance']:.3g} allowed, in case {worst['case']}"
        )
    except (TypeError, KeyError, ValueError, ZeroDivisionError):
        return "not said"


def _passed(record: Any) -> str:
    return "passed" if isinstance(record, Mapping) and record.get("passed") is True else "FAILED"


def _yes(flag: object) -> str:
    return "yes, proved" if flag else "no"
