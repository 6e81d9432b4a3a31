"""What the engine is going to do with a model, in words."""

import re
from dataclasses import replace

import pytest

from cellgate.serve.engine.plan import POOL_ROWS
from cellgate.serve.settings import Settings

COSTS = re.escape("a run costs 20 us, each step of a sequence 1.1 us, or 5 us alone")
STOPPED = "up to 32 sequences side by side, in runs of at most 4 ms between which they come and go"
WHOLE = "whole sequences, up to 32 of similar length side by side in a run"


@pytest.mark.parametrize(
    ("streamable", "ragged", "expected"),
    [
        (True, True, STOPPED),
        (True, False, f"{STOPPED}, those of a run equally long"),
        (False, True, WHOLE),
        (False, False, f"{WHOLE}, those of a run equally long"),
    ],
)
def test_plan_is_told_in_words(make_model, make_runtime, streamable, ragged, expected):
    model = make_model(make_runtime(ragged=ragged), streamable=streamable)

    line = model.plan_line(Settings(max_lanes=32))

    assert re.fullmatch(f"{expected}; {COSTS}", line)


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.14e-8, "0.031 us"), (9.94e-6, "9.9 us"), (1.049e-5, "10 us"), (1.2346e-3, "1,235 us")]
)
def test_costs_are_told_in_two_digits_and_never_in_powers_of_ten(make_model, make_runtime, seconds, words):
    model = make_model(make_runtime())
    cost = replace(model.cost, run_s=seconds)

    assert f"; a run costs {words}, " in replace(model, cost=cost).plan_line(Settings())


def test_plan_tells_no_more_lanes_than_a_run_can_have(make_model, make_runtime):
    assert make_model(make_runtime()).plan_line(Settings(max_lanes=4096)).startswith(f"up to {POOL_ROWS} sequences ")
