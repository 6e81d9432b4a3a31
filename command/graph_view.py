"""What `inspect` says of an ONNX file, whoever wrote it: inputs, outputs, whether time is free, operators, refusals.

Rules of this file: the file is scanned, never opened by a runtime; hostile files are shown like any other.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..bundle.errors import GraphError
from ..bundle.graph_check import check_graph
from ..bundle.graph_facts import GraphFacts, ValueFact
from ..bundle.graph_scan import MAX_MODEL_BYTES, scan_graph
from .errors import UsageError
from .terminal import Terminal


def show_graph(path: Path, terminal: Terminal) -> None:
    """Print what an ONNX file holds.

    Raises:
        UsageError: too large.
        GraphError: no whole ONNX file.
    """
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise UsageError(f"{path}: expected at most {MAX_MODEL_BYTES} bytes, found {path.stat().st_size}")
    model = path.read_bytes()
    try:
        facts = scan_graph(model)
    except GraphError as err:
        raise GraphError(f"{path}: {err}") from err
    refusal = _refusal(model, facts)
    terminal.say(f"ONNX file {path}")
    terminal.say()
    terminal.pairs(_rows(facts, refusal))
    terminal.say()
    values = [("input", value) for value in facts.inputs] + [("output", value) for value in facts.outputs]
    terminal.table(
        ("tensor", "name", "dtype", "shape"),
        [(part, v.name, v.dtype or "not said", shape_words(v)) for part, v in values],
    )
    layers = layer_rows(facts)
    if layers:
        terminal.say()
        terminal.table(("layer", "operator", "direction", "I", "H"), layers)
    terminal.answer(_answer(path, facts, refusal))


def time_words(facts: GraphFacts) -> str:
    """Say whether batch and time are free, from the first input: [B, T, ...] in this house, [T, B, ...] elsewhere."""
    dims = facts.inputs[0].dims if facts.inputs else None
    if dims is None or len(dims) < 2:  # noqa: PLR2004 - batch and time
        return "cannot be told: the first input does not say two axes"
    name = facts.inputs[0].name
    frozen = [f"axis {axis} frozen to {dim}" for axis, dim in enumerate(dims[:2]) if isinstance(dim, int)]
    if not frozen:
        return f"free, and batch too: the first two axes of {name} take any size"
    return f"the input {name} has {' and '.join(frozen)}, expected the axes of batch and time free"


def is_time_free(facts: GraphFacts) -> bool | None:
    """Whether the first two axes of the first input are free; None where the file does not say."""
    dims = facts.inputs[0].dims if facts.inputs else None
    if dims is None or len(dims) < 2:  # noqa: PLR2004 - batch and time
        return None
    return not any(isinstance(dim, int) for dim in dims[:2])


def layer_rows(facts: GraphFacts) -> list[tuple[str, str, str, object, object]]:
    """Return (name, operator, direction, I, H) of every LSTM, GRU and RNN node."""
    return [
        (
            layer.name or f"number {number}",
            layer.operator,
            layer.direction,
            (layer.W or ("?",))[-1],
            layer.hidden_size or "?",
        )
        for number, layer in enumerate(facts.recurrent)
    ]


def operator_words(facts: GraphFacts) -> str:
    """Return the operators with their counts, the most frequent first."""
    counts = sorted(facts.node_counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in counts) or "none"


def shape_words(value: ValueFact) -> str:
    """Return the declared shape; "?" where an axis is neither a size nor a name."""
    if value.dims is None:
        return "not said"
    return f"[{', '.join('?' if dim is None else str(dim) for dim in value.dims)}]"


def _refusal(model: bytes, facts: GraphFacts) -> str | None:
    try:
        check_graph(model, facts.operators)
    except GraphError as err:
        return str(err)
    return None


def _rows(facts: GraphFacts, refusal: str | None) -> list[tuple[str, str]]:
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in sorted(facts.opsets.items()))
    rows = [
        ("opset", f"{opsets or 'not said'} (IR version {facts.ir_version})"),
        ("written by", facts.producer or "not said"),
        ("parameters", f"{facts.parameters:,} in {len(facts.initializers)} stored tensors"),
        ("operators", f"{operator_words(facts)} ({facts.nodes} nodes)"),
        ("time", time_words(facts)),
    ]
    if not facts.recurrent and not {"Scan", "Loop"} & set(facts.operators):
        rows.append(("recurrence", "no LSTM, GRU, RNN, Scan or Loop: no layer of it runs over time, or it is unrolled"))
    rows.append(("serving", f"refused: {refusal}" if refusal else _standing(facts)))
    rows += [("", f"also: {reason}") for reason in facts.refusals[1:]]
    return rows


def _standing(facts: GraphFacts) -> str:
    """Say whether export would take the file as it stands, as far as its names and first axes tell."""
    first = facts.inputs[0].name if facts.inputs else "none"
    wrong = [] if first in {"x", "tokens"} else [f"the first input must be called x or tokens, found {first}"]
    wrong += ["batch and time must be free"] if is_time_free(facts) is False else []
    wrong += [
        f"lengths must be int32, found {value.dtype}"
        for value in facts.inputs[1:2]
        if value.name == "lengths" and value.dtype != "int32"
    ]
    if wrong:
        return f"not as it stands: {', and '.join(wrong)} (docs/bundle.md)"
    return "nothing in it that serving would refuse"


def _answer(path: Path, facts: GraphFacts, refusal: str | None) -> dict[str, Any]:
    plain = asdict(facts)
    plain["opsets"] = dict(facts.opsets)
    plain["node_counts"] = dict(facts.node_counts)
    return {
        "kind": "onnx",
        "path": str(path),
        "parameters": facts.parameters,
        "time_is_free": is_time_free(facts),
        "refusal": refusal,
        **plain,
    }
