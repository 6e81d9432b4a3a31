"""Counters as Prometheus reads them: text format, or OpenMetrics where the scraper asks for it.

Rules of this file: pure; who gathers the numbers is `observation`. The format is `prometheus_client`'s, whose registry
and counters are not used. docs/metrics.md says what each family means; a test holds the two together.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from ..models.served_model import ServedModel
from .counter_layout import (
    CODES,
    ENGINE_RESTARTS,
    FRONTEND_RESTARTS,
    MAX_RUN_ROWS,
    NO_MODEL,
    PROTOCOLS,
    QUEUE_S,
    REQUEST_S,
    REQUESTS,
    ROWS,
    RUN_S,
    RUN_S_OF_ROWS,
    SECONDS,
    STEP_KINDS,
    STEPS,
)
from .counter_page import CounterReading
from .process_facts import ProcessFacts

_OPENMETRICS: Final = "application/openmetrics-text"
_TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS_TYPE: Final = f"{_OPENMETRICS}; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerView:
    """Everything that a scrape shows.

    Attributes:
        models: that are served.
        reading: of all counters.
        engine: what the engine says of itself (`EnginePort.statistics`); None: it does not answer now.
        is_ready: whether requests are taken.
        processes: facts of the living processes, by name.
    """

    models: Sequence[ServedModel]
    reading: CounterReading
    engine: Mapping[str, Any] | None
    is_ready: bool
    processes: Mapping[str, ProcessFacts]


def render_metrics(view: ServerView, accept: str) -> tuple[bytes, str]:
    """Return the text, and its media type.

    Args:
        view: to be shown.
        accept: the request's header; anything but OpenMetrics, by name, means the text format.
    """
    families = _Families(view)
    # Not the library's own choice: that repeats a part of the header in the answer's.
    if any(part.split(";")[0].strip().lower() == _OPENMETRICS for part in accept.split(",")):
        return openmetrics.generate_latest(families), _OPENMETRICS_TYPE  # type: ignore[no-untyped-call]
    return exposition.generate_latest(families), _TEXT_TYPE


class _Families(Collector):
    """What the library asks for its families."""

    def __init__(self, view: ServerView) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        view = self._view
        yield from _requests(view.reading)
        yield from _runs(view.reading)
        yield from _engine(view.engine)
        yield from _server(view)
        yield from _processes(view.processes)


def _requests(reading: CounterReading) -> Iterator[Metric]:
    labels = ("model", "protocol", "code")
    requests = CounterMetricFamily("cellgate_requests", "Requests that ended.", labels=labels)
    seconds = HistogramMetricFamily("cellgate_request_seconds", "From a request's head to its end.", labels=labels[:2])
    for model, name in _models(reading, first=NO_MODEL):
        for number, protocol in enumerate(PROTOCOLS):
            counts = [reading.value(REQUESTS, model, number, code) for code in range(len(CODES))]
            if protocol != PROTOCOLS[0] and not any(counts):  # nobody spoke it yet
                continue
            for code, count in zip(CODES, counts, strict=True):
                requests.add_metric((name, protocol, code), count)
            _add_histogram(seconds, (name, protocol), SECONDS, *reading.histogram(REQUEST_S, model, number))
    yield requests
    yield seconds


def _runs(reading: CounterReading) -> Iterator[Metric]:
    one = ("model",)
    queue = HistogramMetricFamily("cellgate_queue_seconds", "From a request's arrival to its first run.", labels=one)
    run = HistogramMetricFamily("cellgate_run_seconds", "One run, with planning and packing.", labels=one)
    rows = HistogramMetricFamily("cellgate_run_rows", "Sequences side by side in a run.", labels=one)
    steps = CounterMetricFamily("cellgate_steps", "Rows times steps that runs computed.", labels=("model", "kind"))
    for model, name in _models(reading):
        _add_histogram(queue, (name,), SECONDS, *reading.histogram(QUEUE_S, model))
        _add_histogram(run, (name,), SECONDS, *reading.histogram(RUN_S, model))
        _add_histogram(rows, (name,), ROWS, *_rows_histogram(reading, model))
        for kind, word in enumerate(STEP_KINDS):
            steps.add_metric((name, word), reading.value(STEPS, model, kind))
    yield from (queue, run, rows, steps)


def _engine(engine: Mapping[str, Any] | None) -> Iterator[Metric]:
    """What is inside at this moment; left out while the engine does not answer, for zero would be a lie."""
    if engine is None:
        return
    requests = engine.get("requests", {})
    yield GaugeMetricFamily("cellgate_waiting_requests", "Requests in the engine.", requests.get("inside", 0))
    yield GaugeMetricFamily("cellgate_waiting_bytes", "Bytes of their tensors.", requests.get("inside_bytes", 0))
    lanes = GaugeMetricFamily("cellgate_lanes", "Sequences on their way now.", labels=("model",))
    counts: Counter[str] = Counter()
    for key, found in engine.get("models", {}).items():
        counts[key.partition("/")[0]] += found["lanes"]  # of all versions of a name together
    for name, count in counts.items():
        lanes.add_metric((name,), count)
    yield lanes
    if "streams" in engine:
        yield from _streams(engine["streams"])


def _streams(streams: Mapping[str, Any]) -> Iterator[Metric]:
    live = GaugeMetricFamily("cellgate_streams", "Open streams.", labels=("model",))
    state = GaugeMetricFamily("cellgate_stream_state_bytes", "Bytes of the states they hold.", labels=("model",))
    ended = CounterMetricFamily("cellgate_streams_ended", "Streams that ended.", labels=("model", "reason"))
    for name, found in streams.items():
        live.add_metric((name,), found["live"])
        state.add_metric((name,), found["state_bytes"])
        for reason, count in found["ended"].items():
            ended.add_metric((name, reason), count)
    yield from (live, state, ended)


def _server(view: ServerView) -> Iterator[Metric]:
    restarts = (("engine", ENGINE_RESTARTS), ("frontend", FRONTEND_RESTARTS))
    for word, family in restarts:
        text = f"Times that the {word}'s process ended and was started again."
        yield CounterMetricFamily(f"cellgate_{word}_restarts", text, view.reading.value(family))
    yield GaugeMetricFamily("cellgate_ready", "1 while requests are taken.", int(view.is_ready))
    labels = ("model", "version", "device", "provider", "precision")
    info = GaugeMetricFamily("cellgate_model_info", "1 for each served model.", labels=labels)
    for model in view.models:
        facts = model.facts
        info.add_metric((model.name, model.version, facts.device, facts.provider, facts.precision), 1)
    yield info


def _processes(processes: Mapping[str, ProcessFacts]) -> Iterator[Metric]:
    label = ("process",)
    cpu = CounterMetricFamily("cellgate_process_cpu_seconds", "Processor time used.", labels=label)
    rss = GaugeMetricFamily("cellgate_process_resident_memory_bytes", "Memory held.", labels=label)
    files = GaugeMetricFamily("cellgate_process_open_fds", "Files, sockets and pipes in use.", labels=label)
    for name, facts in processes.items():
        cpu.add_metric((name,), facts.cpu_s)
        rss.add_metric((name,), facts.rss_bytes)
        files.add_metric((name,), facts.open_files)
    yield from (cpu, rss, files)


def _models(reading: CounterReading, first: int = NO_MODEL + 1) -> list[tuple[int, str]]:
    return list(enumerate(("", *reading.layout.models)))[first:]


def _rows_histogram(reading: CounterReading, model: int) -> tuple[list[float], float]:
    """Runs by their rows, gathered under the bounds; the sum is that of the rows."""
    counts, total, low = [], 0.0, 0
    for high in (*ROWS, MAX_RUN_ROWS + 1):
        runs = [_runs_of(reading, model, rows) for rows in range(low + 1, min(high, MAX_RUN_ROWS) + 1)]
        counts.append(sum(runs))
        total += sum(rows * count for rows, count in enumerate(runs, low + 1))
        low = high
    return counts, total


def _runs_of(reading: CounterReading, model: int, rows: int) -> float:
    (count,), _ = reading.histogram(RUN_S_OF_ROWS, model, rows - 1)
    return count


def _add_histogram(
    family: HistogramMetricFamily,
    labels: Sequence[str],
    bounds: Sequence[float],
    counts: Sequence[float],
    total: float,
) -> None:
    names = (*(str(float(bound)) for bound in bounds), "+Inf")
    family.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), total)
