"""What the check found, as records that are written to JSON, a verdict, and the tables for docs/performance.md.

Rules of this file: pure; it decides what follows from the steps' answers and what a number looks like.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from child import Ended
from floors import Peaks, Size, floor_s

_NONE = "–"  # noqa: RUF001 - a dash that stands for no number
_NUMBER_BYTES = {"float32": 4, "float16": 2}
_NOT_ASKED = {"how": "not asked", "answer": None, "last_words": ""}
_AGREE = {"float32": 1e-3, "float16": 3e-2}  # of |y| <= 1: far above rounding, far below another network


def failures(found: Mapping[str, Any]) -> list[str]:
    """Return what did not hold, one line each; figures never fail, what computes does."""
    lines = []
    tests = found["tests"]
    if tests is not None and (tests["how"] != "done" or tests["failed"] or tests["skipped"] or not tests["passed"]):
        counts = ", ".join(f"{tests[name]} {name}" for name in ("passed", "failed", "skipped"))
        lines.append(f"tests marked gpu: {tests['how']}, {counts}")
    for row in found["grid"]:
        if row["how"] != "done" or row["answer"]["verdict"] not in ("equivalent", "sensitive"):
            verdict = row["answer"]["verdict"] if row["answer"] else row["last_words"]
            lines.append(f"grid of {row['network']}, {row['runs']}: {row['how']}, {verdict}")
    ordinary = next((row for row in found["probes"] if row["probe"] == "ordinary"), _NOT_ASKED)
    if ordinary["how"] != "done" or (ordinary["answer"] or {}).get("error"):
        lines.append(f"probe with ordinary inputs: {ordinary['how']}, {ordinary['answer'] or ordinary['last_words']}")
    lines += [f"figures of {name}: {step['how']}" for name, step in found["engines"].items() if step["how"] != "done"]
    lines += [
        f"workload {row['workload']}, {row['runs']}: {row['how']}" for row in found["ragged"] if row["how"] != "done"
    ]
    over_http = found["over_http"]
    if over_http["how"] != "done" or any(row["errors"] for row in over_http["answer"]):
        lines.append(f"workload {over_http['workload']} over HTTP: {over_http['how']}, {over_http['last_words']}")
    return lines + [f"engines differ at {row['place']}" for row in disagreements(found["engines"])]


def step_record(ended: Ended, **names: str) -> dict[str, Any]:
    """Return a step's end as JSON."""
    return {**names, "how": ended.how, "answer": ended.answer, "last_words": "" if ended.is_done else ended.last_words}


def fused_rows(engines: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Join the engines' rows by size and precision, with floors where the device's peaks are known."""
    answers = {name: step["answer"] for name, step in engines.items() if step["answer"]}
    peaks = (answers.get("torch") or {}).get("peaks") or {}
    joined: dict[tuple[str, int, int], dict[str, Any]] = {}
    for name, answer in answers.items():
        for row in answer["rows"]:
            key = (row["precision"], row["B"], row["H"])
            joined.setdefault(key, {axis: row[axis] for axis in ("precision", "B", "T", "I", "H")})[name] = row
    for row in joined.values():
        size = Size(B=row["B"], T=row["T"], I=row["I"], H=row["H"], number_bytes=_NUMBER_BYTES[row["precision"]])
        rate = peaks.get(row["precision"])
        row["floor_s"] = floor_s(size, Peaks(operations_per_s=rate, bytes_per_s=peaks["bytes_per_s"])) if rate else None
    return list(joined.values())


def disagreements(engines: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sizes at which the engines computed something else: then their times compare nothing."""
    found = []
    for row in fused_rows(engines):
        samples = [row[name]["y_sample"] for name in engines if name in row and not row[name]["complaint"]]
        if len(samples) > 1:
            bound = _AGREE[row["precision"]]
            pairs = [pair for other in samples[1:] for pair in zip(samples[0], other, strict=True)]
            if not all(abs(one - other) <= bound for one, other in pairs):
                found.append({"place": f"{row['precision']} B={row['B']} H={row['H']}"})
    return found


def page(found: Mapping[str, Any]) -> str:
    """Return the tables as Markdown."""
    title = f"{found['device_name']}, driver {found['driver'] or 'unknown'}, onnxruntime {found['onnxruntime']}"
    parts = [f"### {title}", _fused_table(found["engines"]), _ragged_table(found["ragged"]), _http_table(found)]
    parts += [_grid_table(found["grid"]), _probe_table(found["probes"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _fused_table(engines: Mapping[str, Mapping[str, Any]]) -> str:
    """What serves a size is the project's kernel where it takes it, else onnxruntime."""
    heads = ["precision", "B", "H", "served by", "takes", "onnxruntime alone", "torch", "torch ÷ ours"]
    heads += ["with copies", "torch", "torch ÷ ours", "of the floor"]
    rows = []
    for row in fused_rows(engines):
        own = row.get("cellgate")
        served = "onnxruntime" if own is None or own["complaint"] else "cellgate"
        cells = [row["precision"], row["B"], row["H"], served]
        for kind in ("without_copies_s", "with_copies_s"):
            ours, other, theirs = (_seconds(row.get(name), kind) for name in (served, "onnxruntime", "torch"))
            cells += [_ms(ours), *([_ms(other)] if kind == "without_copies_s" else []), _ms(theirs)]
            cells.append(f"{theirs / ours:.2f}" if ours and theirs else _NONE)
        ours = _seconds(row.get(served), "without_copies_s")
        cells.append(f"{row['floor_s'] / ours:.0%}" if ours and row["floor_s"] else _NONE)
        rows.append(cells)
    return _table(heads, rows)


def _ragged_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        if not row["answer"]:
            lines.append([row["workload"], row["runs"], row["how"], *[_NONE] * 5])
            continue
        ways = row["answer"]["ways"]
        best = {
            name: max((w["sequences_per_s"] for w in ways if w["way"] == name), default=None)
            for name in ("alone", "sorted", "lanes")
        }
        shares = {
            name: max((w["floor_share"] for w in ways if w["way"] == name), default=None)
            for name in ("sorted", "lanes")
        }
        ratio = f"{best['lanes'] / best['sorted']:.2f}" if best["lanes"] and best["sorted"] else _NONE
        names = ("alone", "sorted", "lanes")
        numbers = [_NONE if best[name] is None else f"{best[name]:,.0f}" for name in names]
        share = _NONE if shares["lanes"] is None else f"{shares['lanes']:.0%}"
        lines.append([row["workload"], row["runs"], row["answer"]["provider"], *numbers, ratio, share])
    heads = ["workload", "run by", "provider", "one by one, sequences/s", "sorted by length", "lanes"]
    return _table([*heads, "lanes ÷ sorted", "of the floor"], lines)


def _http_table(found: Mapping[str, Any]) -> str:
    """Rates of the servers, as a share of what the lanes do without HTTP, and against the best server on the CPU."""
    over_http = found["over_http"]
    rows = over_http["answer"] or []
    lanes = _lanes_per_s(found["ragged"], over_http["workload"])
    on_cpu = max((row["sequences_per_s"] for row in rows if row["device"] == "cpu"), default=None)
    lines = []
    for row in rows:
        rate = row["sequences_per_s"]
        share = f"{rate / lanes:.0%}" if lanes and row["device"] != "cpu" else _NONE
        times = f"{rate / on_cpu:.1f}" if on_cpu else _NONE
        cells = [over_http["workload"], row["device"], row["workers"], row["server_cpus"], row["connections"]]
        lines.append([*cells, f"{rate:,.0f}", share, times, _ms(row["p50_s"]), _ms(row["p99_s"])])
    heads = ["workload", "device", "frontends", "cores of the server", "connections", "sequences/s over HTTP"]
    return _table([*heads, "of the lanes", "times the CPU", "p50", "p99"], lines)


def _lanes_per_s(ragged: Sequence[Mapping[str, Any]], workload: str) -> float | None:
    rates = [
        way["sequences_per_s"]
        for row in ragged
        if row["workload"] == workload and row["answer"]
        for way in row["answer"]["ways"]
        if way["way"] == "lanes"
    ]
    return max(rates, default=None)


def _grid_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        answer = row["answer"] or {}
        worst = answer.get("worst")
        share = f"{worst['max_abs'] / worst['tolerance']:.2f} of the tolerance" if _is_share(worst) else _NONE
        bits = [_yes(answer.get(name)) for name in ("bitwise_rows", "bitwise_chunks")]
        lines.append([row["network"], row["runs"], answer.get("verdict", row["how"]), share, *bits])
    return _table(("network", "run by", "verdict", "worst", "rows keep their bits", "chunks"), lines)


def _probe_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        answer = row["answer"]
        if answer is None:
            words = row["how"]
        elif answer["error"]:
            words = "refused"
        else:
            words = f"answered, {'finite' if answer['finite'] else 'not finite'}"
            words += ", the given state unchanged" if answer["state_kept"] else ""
        lines.append([row["probe"], words])
    return _table(("what must not be sent", "what the provider does"), lines)


def _is_share(worst: Any) -> bool:
    numbers = (int, float)
    return (
        bool(worst)
        and isinstance(worst["max_abs"], numbers)
        and isinstance(worst["tolerance"], numbers)
        and worst["tolerance"] > 0
    )


def _yes(flag: bool | None) -> str:
    return _NONE if flag is None else "yes" if flag else "no"


def _seconds(row: Mapping[str, Any] | None, kind: str) -> float | None:
    return None if row is None or row["complaint"] else row[kind]


def _ms(seconds: float | None) -> str:
    return _NONE if seconds is None else f"{seconds * 1e3:.3g} ms"


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
