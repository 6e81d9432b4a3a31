"""How much a frontend sends to an engine that others fill too, in moments made by hand."""

from cellgate.serve.processes.shared_room import SharedRoom


def test_nobody_who_was_not_refused_is_held_back():
    room = SharedRoom(3)

    assert [room.has_room(inside, 100.0) for inside in range(5)] == [True, True, True, False, False]


def test_who_was_refused_sends_no_more_than_it_has_inside_for_a_moment():
    room = SharedRoom(8)
    room.refused(3, 100.0)

    assert [room.has_room(inside, 100.01) for inside in (2, 3, 7)] == [True, False, False]
    assert [room.has_room(inside, 101.0) for inside in (2, 3, 7, 8)] == [True, True, True, False]


def test_of_several_refusals_the_last_one_holds():
    room = SharedRoom(8)
    for inside in (5, 4, 3):
        room.refused(inside, 100.0)
    found = [room.has_room(3, 100.0)]
    room.refused(6, 100.0)  # one of ours has its place now

    assert [*found, room.has_room(5, 100.0)] == [False, True]


def test_who_has_nothing_inside_may_still_try_one():
    room = SharedRoom(8)
    room.refused(0, 100.0)

    assert [room.has_room(inside, 100.0) for inside in (0, 1)] == [True, False]


def test_a_queue_that_was_full_stays_short_for_two_seconds_and_may_then_fill_again():
    room = SharedRoom(512)

    assert [room.has_room(inside, 100.0) for inside in (511, 512, 511, 128, 127)] == [True, False, False, False, True]
    assert [room.has_room(inside, 101.9) for inside in (128, 127)] == [False, True]
    assert [room.has_room(inside, 102.0) for inside in (128, 511, 512, 128)] == [True, True, False, False]


def test_who_is_refused_by_the_short_queue_does_not_make_it_stay():
    room = SharedRoom(512)
    room.has_room(512, 100.0)
    refused = [room.has_room(200, 100.0 + 0.1 * tenth) for tenth in range(1, 20)]

    assert not any(refused)
    assert room.has_room(200, 102.0)


def test_a_queue_of_few_is_never_shorter_than_the_lanes_need():
    room = SharedRoom(64)

    assert [room.has_room(inside, 100.0) for inside in (64, 63)] == [False, True]


def test_the_engine_that_refused_is_given_a_short_queue_by_each_who_fills_it():
    room = SharedRoom(512)
    room.refused(300, 100.0)

    assert [room.has_room(inside, 101.0) for inside in (74, 75, 299)] == [True, False, False]
    assert room.has_room(299, 102.0)
