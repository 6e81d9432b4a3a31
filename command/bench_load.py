"""`cellgate bench URL`: what a server does under load.

Rules of this file: it turns options into a plan and the result into text and JSON; there is no progress bar, for its
drawing would be measured with the load.
"""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ..client.address import Address
from ..client.infer_request import Body
from ..client.jobs import JobPlan, StreamState, make_jobs
from ..client.latency import Percentiles, Summary
from ..client.lengths import fit, parse_lengths
from ..client.load_plan import LoadPlan
from ..client.load_plot import plot_load
from ..client.load_run import LoadResult, run_load
from ..client.model_facts import ModelFacts, read_model
from ..client.open_files import allow_connections
from ..client.probe import probe
from .errors import DONE, CheckFailedError, UsageError
from .own_server import address_to_ask
from .terminal import Terminal

_OPEN_CONNECTIONS: Final = 512
_COLUMNS: Final = ("sequences", "steps", "answers", "p50 ms", "p90 ms", "p99 ms", "longest ms")
_QUARTERS: Final = ("shortest quarter", "second quarter", "third quarter", "longest quarter")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What is asked of which server, and how."""

    address: Address
    facts: ModelFacts
    lengths: str
    jobs: JobPlan
    load: LoadPlan


def run(arguments: argparse.Namespace) -> int:
    """Measure a server.

    Raises:
        UsageError: the server answered no request at all.
        ClientError: as of `read_model`, `make_jobs`, `probe` and `run_load`.
    """
    terminal = Terminal(json=arguments.json)
    asked = _ask(arguments, terminal)
    jobs = make_jobs(asked.address, asked.facts, asked.jobs)
    probe(asked.address, jobs[0], _remedy(asked.jobs), asked.load.timeout_s)
    terminal.note(f"{asked.load.warm_up_s:g} s of warm-up, then {asked.load.seconds:g} s of measuring at most")
    result = run_load(asked.address, jobs, asked.load)
    if not result.summary.latency.count:
        probe(asked.address, jobs[0], _remedy(asked.jobs), asked.load.timeout_s)  # a server busy before may now say why
        found = _error_words(result.summary) or "none that began after the warm-up"
        raise UsageError(
            f"{asked.address.url}: expected answers to measure, found {found}; measure longer, or look at its log"
        )
    _print(asked, result, terminal)
    if arguments.plot is not None:
        Path(arguments.plot).write_text(
            plot_load(result.summary, _title(asked), html=arguments.plot.endswith(".html")), encoding="utf-8"
        )
        terminal.note(f"written to {arguments.plot}")
    terminal.answer(_answer(asked, result))
    return DONE


def _ask(arguments: argparse.Namespace, terminal: Terminal) -> Asked:
    """Ask the server what it serves, and fill in what was not given."""
    try:
        address = address_to_ask(arguments.environ, arguments.target)
    except CheckFailedError as err:  # nothing was checked yet
        raise UsageError(str(err)) from err
    lengths = parse_lengths(arguments.lengths)
    facts = read_model(address, arguments.model)
    lengths, described = fit(arguments.lengths, lengths, facts.least_steps, facts.most_steps)
    body: Body = arguments.body or ("binary" if "binary_tensor_data" in facts.extensions else "json")
    if arguments.body is None and body == "json":
        terminal.note("the server does not say that it takes binary tensors: JSON is sent")
    keeper: StreamState = arguments.stream_state or ("server" if "sequence" in facts.extensions else "client")
    job_plan = JobPlan(
        lengths=lengths,
        rows=arguments.rows or 1,
        body=body,
        stream_steps=arguments.stream_steps,
        stream_state=keeper,
        seed=arguments.seed,
    )
    return Asked(address=address, facts=facts, lengths=described, jobs=job_plan, load=_load_plan(arguments))


def _load_plan(arguments: argparse.Namespace) -> LoadPlan:
    usual = LoadPlan()
    wanted = arguments.connections or (usual.connections if arguments.rate is None else _OPEN_CONNECTIONS)
    connections = allow_connections(wanted)
    if arguments.connections is not None and connections < wanted:
        raise UsageError(
            f"--connections {wanted}: expected the system to allow so many open files, found {connections} left; "
            "raise the limit (ulimit -n) or ask for fewer"
        )
    return LoadPlan(
        connections=connections,
        rate=arguments.rate,
        warm_up_s=usual.warm_up_s if arguments.warm_up is None else arguments.warm_up,
        seconds=arguments.seconds or usual.seconds,
        count=arguments.requests or usual.count,
        timeout_s=arguments.timeout or usual.timeout_s,
        seed=arguments.seed,
    )


def _remedy(plan: JobPlan) -> str:
    if plan.stream_steps is not None and plan.stream_state == "server":
        return "a server without streams refuses sequence_id: use --stream-state client"
    if plan.body == "binary":
        return "a server without binary tensors takes --body json"
    return "look at --lengths and --rows, and at the server's log"


def _title(asked: Asked) -> str:
    rate, connections = asked.load.rate, asked.load.connections
    loop = f"closed loop, {connections} connections" if rate is None else f"open loop, {rate:g} a second"
    parts = "" if asked.jobs.stream_steps is None else f", parts of {asked.jobs.stream_steps} steps"
    return f"{asked.facts.name} at {asked.address.url}: {loop}, lengths {asked.lengths}{parts}"


def _print(asked: Asked, result: LoadResult, terminal: Terminal) -> None:
    summary, plan = result.summary, asked.jobs
    terminal.say(_title(asked))
    terminal.say()
    state = "" if plan.stream_steps is None else f", the state kept by the {plan.stream_state}"
    terminal.pairs(
        [
            ("answers", f"{summary.requests_per_s:,.1f} a second, over {summary.measured_s:.1f} s"),
            ("steps", f"{summary.row_steps_per_s:,.0f} a second, of all rows"),
            ("sent", f"{plan.rows} row{'s'[: plan.rows > 1]} a request, {plan.body}{state}"),
            ("failed", _error_words(summary) or "none"),
        ]
    )
    terminal.say()
    few = len(summary.quartiles) < len(_QUARTERS)
    names = [f"part {place + 1}" if few else name for place, name in enumerate(_QUARTERS)]
    rows = [
        _line(name, f"{q.shortest} .. {q.longest}", q.latency)
        for name, q in zip(names, summary.quartiles, strict=False)
    ]
    steps = f"{summary.quartiles[0].shortest} .. {summary.quartiles[-1].longest}"
    terminal.table(_COLUMNS, [_line("all", steps, summary.latency), *(rows if len(rows) > 1 else [])])
    for complaint in result.complaints:
        terminal.warn(complaint)


def _line(name: str, steps: str, found: Percentiles) -> tuple[object, ...]:
    times = (found.p50_s, found.p90_s, found.p99_s, found.max_s)
    return name, steps, found.count, *(time_s * 1e3 for time_s in times)


def _error_words(summary: Summary) -> str:
    words = [f"{reason} ({count:,})" for reason, count in summary.errors.items()]
    again = "; 503 may be tried again" if summary.busy else ""
    return f"{', '.join(words)}{again}"


def _answer(asked: Asked, result: LoadResult) -> dict[str, Any]:
    plan, load, summary = asked.jobs, asked.load, asdict(result.summary)
    lateness = summary.pop("lateness")
    return {
        "kind": "load",
        "url": asked.address.url,
        "model": asked.facts.name,
        "loop": "closed" if load.rate is None else "open",
        "connections": load.connections,
        "rate": load.rate,
        "lengths": asked.lengths,
        "rows": plan.rows,
        "body": plan.body,
        "stream_steps": plan.stream_steps,
        "stream_state": None if plan.stream_steps is None else plan.stream_state,
        "seed": plan.seed,
        "warm_up_s": load.warm_up_s,
        **summary,
        "generator": {
            "cpu_share": result.cpu_share,
            "lateness": lateness,
            "held_back": result.held_back,
            "complaints": list(result.complaints),
        },
    }
