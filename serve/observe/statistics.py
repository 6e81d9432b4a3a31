"""What was served so far, as the protocol's statistics extension says it.

Rules of this file: pure; plain dicts, ready for JSON and for gRPC's messages, whose fields have the same names.
Source: the statistics extension of the protocol, as Triton documents it. Durations are whole nanoseconds there, and
nowhere else here. What the extension calls an inference is a row, what it calls an execution is a run. The three parts
of computing have one count, as there, the answered requests: clients divide by it, and refuse to where they differ.
"""

from collections.abc import Sequence
from typing import Any, Final

from ..models.served_model import ServedModel
from .counter_layout import (
    ANSWERED_ROWS,
    FAILED_S,
    LAST_RUN,
    MAX_RUN_ROWS,
    PROTOCOLS,
    QUEUE_S,
    READ_S,
    RENDER_S,
    REQUEST_S,
    REQUESTS,
    RUN_S,
    RUN_S_OF_ROWS,
    STATUSES,
)
from .counter_page import CounterReading

_NS: Final = 1_000_000_000
_OK: Final = STATUSES.index(200)


def statistics_answer(models: Sequence[ServedModel], reading: CounterReading, now_s: float, wall_s: float) -> Any:
    """Return the statistics of some models.

    Args:
        models: served.
        reading: of all counters.
        now_s: moment of the monotonic clock.
        wall_s: the same moment as seconds since 1970.
    """
    return {"model_stats": [model_statistics(model, reading, now_s, wall_s) for model in models]}


def model_statistics(model: ServedModel, reading: CounterReading, now_s: float, wall_s: float) -> dict[str, Any]:
    """Return the statistics of one model, one entry of `model_stats`; for the arguments see `statistics_answer`."""
    number = reading.layout.model(model.name)
    runs, run_s = reading.histogram(RUN_S, number)
    last_run = reading.value(LAST_RUN, number)
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": round(1000 * (wall_s - now_s + last_run)) if last_run else 0,
        "inference_count": int(reading.value(ANSWERED_ROWS, number)),
        "execution_count": int(sum(runs)),
        "inference_stats": {
            **_of_requests(reading, number, run_s),
            "queue": _duration(*reading.histogram(QUEUE_S, number)),
            "cache_hit": _duration([], 0.0),
            "cache_miss": _duration([], 0.0),
        },
        "response_stats": {},
        "batch_stats": _batches(reading, number),
        "memory_usage": [],
    }


def _of_requests(reading: CounterReading, number: int, run_s: float) -> dict[str, Any]:
    """Requests that were answered, and those that were not, by whatever protocol; what the answered ones cost.

    Args:
        reading: of all counters.
        number: of the model.
        run_s: of all runs. A run is shared by several requests, and a request by several runs.
    """
    all_count = good_count = all_s = 0.0
    for protocol in range(len(PROTOCOLS)):
        counts, seconds = reading.histogram(REQUEST_S, number, protocol)
        all_count += sum(counts)
        all_s += seconds
        good_count += reading.value(REQUESTS, number, protocol, _OK)
    failed_s = reading.value(FAILED_S, number)
    return {
        "success": _duration([good_count], max(0.0, all_s - failed_s)),
        "fail": _duration([all_count - good_count], failed_s),
        "compute_input": _duration([good_count], reading.value(READ_S, number)),
        "compute_infer": _duration([good_count], run_s),
        "compute_output": _duration([good_count], reading.value(RENDER_S, number)),
    }


def _batches(reading: CounterReading, number: int) -> list[dict[str, Any]]:
    """Runs by their rows. Reading and rendering belong to requests, not to runs, and stand above."""
    found = []
    for rows in range(1, MAX_RUN_ROWS + 1):
        counts, seconds = reading.histogram(RUN_S_OF_ROWS, number, rows - 1)
        if any(counts):
            none = _duration([], 0.0)
            entry = {"compute_input": none, "compute_infer": _duration(counts, seconds), "compute_output": none}
            found.append({"batch_size": rows, **entry})
    return found


def _duration(counts: Sequence[float], seconds: float) -> dict[str, int]:
    return {"count": int(sum(counts)), "ns": round(seconds * _NS)}
