"""The order of what waits, held against a sorted list, and what taking something out leaves."""

import gc
import math
import random
import weakref

import pytest

from cellgate.serve.engine.moment_heap import MomentHeap


def taken_out(heap):
    found = []
    while heap:
        found.append(heap.pop())
    return found


def test_items_come_by_their_moments_and_equal_ones_as_they_were_added():
    heap = MomentHeap()
    for moment_s, item in [(2.0, "c"), (1.0, "a"), (2.0, "d"), (1.0, "b")]:
        heap.add(moment_s, item)

    assert heap.first_s == 1.0
    assert taken_out(heap) == ["a", "b", "c", "d"]
    assert heap.first_s == math.inf


def test_who_is_added_ahead_goes_before_its_equals():
    heap = MomentHeap()
    heap.add(1.0, "b")
    heap.add(1.0, "a", ahead=True)
    heap.add(0.5, "first")

    assert taken_out(heap) == ["first", "a", "b"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_taken_out_the_rest_keeps_its_order(seed):
    dice = random.Random(seed)
    heap, model = MomentHeap(), {}
    for item in range(500):
        moment_s = float(dice.randrange(20))
        model[heap.add(moment_s, item)] = (moment_s, item)
        while model and dice.random() < 0.45:
            number = dice.choice(list(model))
            heap.discard(number)
            del model[number]
        assert heap.first_s == min((moment_s for moment_s, _ in model.values()), default=math.inf)
        assert len(heap) == len(model)
        assert sorted(heap.items) == sorted(item for _, item in model.values())

    assert taken_out(heap) == [item for _, item in sorted(model.values())]


def test_what_is_not_there_is_taken_out_without_a_word():
    heap = MomentHeap()
    number = heap.add(1.0, "a")
    heap.pop()
    heap.discard(number)
    heap.discard(0)

    assert len(heap) == 0


@pytest.mark.usefixtures("collects_what_comes")
def test_nothing_is_kept_of_what_was_taken_out_but_bounded_numbers():
    class Item:
        pass

    heap = MomentHeap()
    heap.add(0.0, Item())  # stays in front of all others
    items = [Item() for _ in range(1000)]
    watched = [weakref.ref(item) for item in items]
    numbers = [heap.add(1.0, item) for item in items]
    items.clear()
    for number in numbers:
        heap.discard(number)
    gc.collect()

    assert all(ref() is None for ref in watched)
    assert len(heap._heap) <= 2 + 64
