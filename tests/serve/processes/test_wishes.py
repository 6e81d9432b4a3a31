"""A wish wakes a loop that waits, from any thread; too many of them and late ones harm nobody."""

import threading
from contextlib import closing
from selectors import EVENT_READ, DefaultSelector

from cellgate.serve.processes.wishes import Wishes

PATIENCE_S = 30


def test_a_wish_of_another_thread_wakes_whoever_waits_and_all_are_taken_together():
    with closing(Wishes()) as wishes, DefaultSelector() as selector:
        selector.register(wishes, EVENT_READ)
        wishes.make(b"a")
        thread = threading.Thread(target=wishes.make, args=(b"b",))
        thread.start()
        thread.join(PATIENCE_S)
        ready = selector.select(PATIENCE_S)
        found = wishes.take()

        assert [key.fileobj for key, _ in ready] == [wishes]
        assert (found, selector.select(0)) == (b"ab", [])


def test_too_many_wishes_and_those_after_the_end_are_nobody_s_fault():
    wishes = Wishes()
    for _ in range(20):
        wishes.make(b"x" * 4096)
    found = wishes.take()
    wishes.close()
    wishes.make(b"x")

    assert found == b"x" * 4096
