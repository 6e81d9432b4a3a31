"""`cellgate bench BUNDLE`: what a network can reach on this machine without HTTP, and how near the engine comes.

Rules of this file: the bundle is opened as the server opens it; the engine measured is the one that serves.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..client.lengths import check_steps, fit, parse_lengths
from ..serve.engine.counting_runtime import CountingRuntime
from ..serve.engine.engine import Engine
from ..serve.engine.engine_limits import EngineLimits
from ..serve.engine.limit import LimitRow, choose_count, make_sequences, make_works, measure_limit
from ..serve.engine.limit_ways import OUTSTANDING, LanesWay
from ..serve.engine.models import EngineModel, open_engine_models
from ..serve.environment import settings_from_env
from ..serve.models.served_model import BundlePlace
from .bench_limit_plot import plot_limit
from .bundle_remedy import telling_how_to_make
from .errors import DONE
from .terminal import Terminal

_TURNS: Final = 5
_SECONDS: Final = 10.0
_TRIED: Final = 4096
_COLUMNS: Final = ("of the floor", "how", "sequences/s", "us a row and step", "padding")
_WORDS: Final = {
    "alone": "one at a time",
    "padded": "padded in arrival order, batches of {}",
    "sorted": "sorted by length, the whole set known, batches of {}",
    "lanes": f"lanes: this engine, {OUTSTANDING} outstanding",
    "floor": "floor: full batches of {}, nothing to pack",
}
_READING: Final = (
    "The floor's batches are ready made. Lanes take, decide, pack and answer each sequence by itself: of short ones in "
    "a small network, that is half of the time and more."
)


def run(arguments: argparse.Namespace) -> int:
    """Measure a bundle.

    Raises:
        LengthsError: no such lengths.
        BundleError, ServeError: the bundle is damaged or cannot run here.
    """
    terminal = Terminal(json=arguments.json)
    lengths = parse_lengths(arguments.lengths)
    settings = settings_from_env(arguments.environ, device=arguments.device, threads=arguments.threads)
    path = Path(arguments.target)
    with telling_how_to_make([path]):
        opened = open_engine_models([BundlePlace(path)], settings)[0]
    plan = opened.plan_line(settings)
    signature = opened.runtime.signature
    steps = (signature.least_steps, signature.most_steps)
    lengths, described = fit(arguments.lengths, lengths, *steps)
    counting = CountingRuntime(opened.runtime)
    limits = EngineLimits.of(settings)
    limits = replace(limits, max_waiting=max(limits.max_waiting, OUTSTANDING))
    engine = Engine([replace(opened, runtime=counting)], limits)
    try:
        drawn = lengths.draw(_TRIED, arguments.seed)
        check_steps(arguments.lengths, drawn, *steps)
        count = arguments.requests or choose_count(opened.runtime, drawn, arguments.seconds or _SECONDS, _TURNS)
        chosen = lengths.draw(count, arguments.seed)
        check_steps(arguments.lengths, chosen, *steps)
        sequences = make_sequences(signature, chosen, arguments.seed)
        terminal.note(f"{count} sequences in {_TURNS} turns of every way")
        lanes = LanesWay(engine, counting, make_works(opened.served.name, signature, sequences))
        rows = measure_limit(opened.runtime, sequences, lanes, turns=_TURNS)
    finally:
        engine.close()
    facts = _facts(opened, plan, chosen, described, arguments.seed)
    _print(facts, rows, terminal)
    if arguments.plot is not None:
        text = plot_limit(rows, [_name(row) for row in rows], _title(facts), html=arguments.plot.endswith(".html"))
        Path(arguments.plot).write_text(text, encoding="utf-8")
        terminal.note(f"written to {arguments.plot}")
    terminal.answer({**facts, "ways": [asdict(row) for row in rows]})
    return DONE


def _facts(opened: EngineModel, plan: str, chosen: NDArray[np.int64], lengths: str, seed: int) -> dict[str, Any]:
    facts = opened.runtime.facts
    return {
        "kind": "limit",
        "model": opened.served.name,
        "digest": opened.served.digest,
        "lengths": lengths,
        "seed": seed,
        "sequences": len(chosen),
        "mean_steps": float(chosen.mean()),
        "turns": _TURNS,
        "device": facts.device,
        "provider": facts.provider,
        "precision": facts.precision,
        "threads": facts.threads,
        "plan": plan,
    }


def _title(facts: dict[str, Any]) -> str:
    threads = facts["threads"]
    where = f"{facts['device']}, {threads} thread{'s'[: threads > 1]}"
    return f"{facts['model']} without HTTP, {where}: lengths {facts['lengths']}"


def _print(facts: dict[str, Any], rows: Sequence[LimitRow], terminal: Terminal) -> None:
    terminal.say(_title(facts))
    terminal.say()
    shown = f"{facts['sequences']:,}, of {facts['mean_steps']:.1f} steps on average; medians of {facts['turns']} turns"
    terminal.pairs([("sequences", shown), ("plan", facts["plan"])])
    terminal.say()
    terminal.table(_COLUMNS, [_line(row) for row in rows])
    terminal.say()
    terminal.say(_READING)
    if not any(row.way == "padded" for row in rows):
        terminal.say()
        terminal.say("The network takes no lengths: sequences of unequal length cannot share a batch by padding.")


def _line(row: LimitRow) -> tuple[object, ...]:
    share, rate = f"{row.floor_share:.0%}".rjust(4), f"{row.sequences_per_s:,.0f}".rjust(9)
    return share, _name(row), rate, row.step_s * 1e6, f"{max(0.0, row.padding_share):.0%}".rjust(4)


def _name(row: LimitRow) -> str:
    return _WORDS[row.way].format(row.batch)
