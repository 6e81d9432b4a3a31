"""Loops that grow a tensor step after step, or add their steps up, are exported for any number of steps."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from .grown_loops import CountedList, GrownBackwards, GrownFromEmpty, GrownFromNothing, GrownTimeFirst, SummedList

pytestmark = [pytest.mark.long, pytest.mark.no_cover]


@pytest.mark.parametrize("make", [GrownFromNothing, GrownFromEmpty, GrownTimeFirst, GrownBackwards])
def test_a_tensor_that_grows_is_the_output_of_a_layer(exported: Any, make: Callable[[], nn.Module]) -> None:
    graph = exported(make())

    assert graph.inputs == ["x", "lengths", "h0"]
    assert graph.operators["GRU"] == 1
    assert graph.operators["Concat"] == 0
    assert graph.largest_difference() < 2e-6


@pytest.mark.parametrize("make", [SummedList, CountedList])
def test_a_sum_of_a_list_is_a_state_that_adds_up(exported: Any, make: Callable[[], nn.Module]) -> None:
    graph = exported(make())

    assert graph.inputs == ["x", "lengths", "h0", "h0_1"]
    assert graph.largest_difference() < 5e-6
