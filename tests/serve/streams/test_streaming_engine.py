"""Streams over the real engine and a real LSTM: chunks give the bits of the whole, whatever is sent twice or late."""

import numpy as np
import pytest

from cellgate.serve.engine.work import StreamAnswer, StreamRef
from cellgate.serve.errors import BadInput, DeadlineExceeded, EngineError, NotReady, QueueFull, UnknownModel
from cellgate.serve.stream_errors import (
    StepConflict,
    StepGap,
    StreamEnded,
    StreamExists,
    StreamExpired,
    StreamsFull,
    UnknownStream,
)
from cellgate.serve.streams.memory_store import MemoryStore

SHORT_RUNS = {"run_limit_s": 0.0001}


def same(actual, expected):
    return (actual.dtype, actual.shape, actual.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_in_random_chunks_has_the_bits_of_the_whole(make_driver, make_work, make_x, cut, whole_of, seed):
    driver, x = make_driver(), make_x(40, rows=1 + seed % 3, seed=seed)
    found = [driver.ask(make_work(chunk, ref, outputs=("y", "c_n", "h_n"))) for chunk, ref in cut(x, 7, seed)]
    whole = whole_of(x)

    assert [answer.step for answer in found] == list(range(len(found)))
    assert same(np.concatenate([answer.outputs["y"] for answer in found], axis=1), whole["y"])
    assert list(found[-1].outputs) == ["y", "c_n", "h_n"]
    for name in ("h_n", "c_n"):
        assert same(found[-1].outputs[name], whole[name])


def test_rows_of_unequal_length_go_on_each_from_its_own_end(make_driver, make_work, make_x, whole_of):
    driver, x = make_driver(), make_x(9, rows=3)
    first = driver.ask(make_work(x[:, :5], StreamRef(id=1, is_start=True), lengths=[5, 2, 4]))
    rest = np.zeros((3, 7, 2), np.float32)
    for row, done in enumerate((5, 2, 4)):
        rest[row, : 9 - done] = x[row, done:]
    second = driver.ask(make_work(rest, StreamRef(id=1), lengths=[4, 7, 5]))

    for row, done in enumerate((5, 2, 4)):
        y = np.concatenate([first.outputs["y"][row, :done], second.outputs["y"][row, : 9 - done]])
        assert same(y, whole_of(x[row : row + 1])["y"][0])


def test_a_network_that_reads_its_last_step_streams_too(make_driver, make_work, make_x, cut, whole_of):
    driver, x = make_driver(), make_x(12)
    for chunk, ref in cut(x, "s", 3, chunks=4):
        answer = driver.ask(make_work(chunk, ref, model="last"))

    assert same(answer.outputs["y"], whole_of(x, "last")["y"])


def test_a_start_may_bring_states(make_driver, make_work, make_x, whole_of):
    driver, x = make_driver(), make_x(8)
    begun = driver.ask(make_work(x[:, :3], StreamRef(id=1, is_start=True), outputs=("h_n", "c_n")))
    states = (begun.outputs["h_n"], begun.outputs["c_n"])

    other = driver.ask(make_work(x[:, 3:6], StreamRef(id=2, is_start=True), states=states))
    last = driver.ask(make_work(x[:, 6:], StreamRef(id=2)))

    assert same(np.concatenate([other.outputs["y"], last.outputs["y"]], axis=1), whole_of(x)["y"][:, 3:])


def test_what_is_sent_twice_is_applied_once(make_driver, make_work, make_x, cut, whole_of):
    driver, x = make_driver(), make_x(30)
    ys = []
    for chunk, ref in cut(x, 7, 5, chunks=6):
        first, second, third = (driver.ask(make_work(chunk, ref)) for _ in range(3))
        assert (first.is_replayed, second.is_replayed, third.is_replayed) == (False, True, True)
        assert same(second.outputs["y"], first.outputs["y"])
        ys.append(first.outputs["y"])

    assert same(np.concatenate(ys, axis=1), whole_of(x)["y"])
    assert driver.engine.statistics()["streams"]["steps"]["replayed"] == 12


def test_a_step_in_flight_is_not_run_twice_and_those_behind_it_wait(make_driver, make_work, make_x, cut, whole_of):
    driver, x = make_driver(), make_x(30)
    works = [make_work(chunk, ref) for chunk, ref in cut(x, 7, 5, chunks=6)]
    tickets = [driver.post(work) for work in works for _ in range(2)]
    outcomes = driver.drain()
    found = [outcomes[ticket] for ticket in tickets]

    assert [answer.is_replayed for answer in found] == [False, True] * 6
    assert same(np.concatenate([answer.outputs["y"] for answer in found[::2]], axis=1), whole_of(x)["y"])


def test_requests_out_of_order_are_refused_and_change_nothing(make_driver, make_work, make_x, cut, whole_of):
    driver, x = make_driver(), make_x(30)
    works = [make_work(chunk, ref) for chunk, ref in cut(x, 7, 5, chunks=5)]
    assert isinstance(driver.ask(works[1]), UnknownStream)
    ys = [driver.ask(works[0]).outputs["y"]]
    for place in range(1, 5):
        for wrong in {*range(place - 1), *range(place + 1, 5)} - {0}:
            refused = driver.ask(works[wrong])
            assert isinstance(refused, StepGap)
            assert refused.facts == {"expected_step": place}
        if place < 4:
            assert isinstance(driver.ask(works[0]), StreamExists if place > 1 else StreamAnswer)
        ys.append(driver.ask(works[place]).outputs["y"])

    assert same(np.concatenate(ys, axis=1), whole_of(x)["y"])


def test_another_payload_for_the_same_step_is_refused(make_driver, make_work, make_x):
    driver, x = make_driver(), make_x(6)
    driver.ask(make_work(x[:, :2], StreamRef(id=7, is_start=True, step=0)))
    driver.ask(make_work(x[:, 2:4], StreamRef(id=7, step=1)))

    assert isinstance(driver.ask(make_work(x[:, 3:5], StreamRef(id=7, step=1))), StepConflict)
    assert isinstance(driver.ask(make_work(x[:, 2:4], StreamRef(id=7, step=1, is_end=True))), StepConflict)
    assert driver.ask(make_work(x[:, 2:4], StreamRef(id=7, step=1))).is_replayed


def test_requests_with_and_without_a_step_may_follow_each_other(make_driver, make_work, make_x, whole_of):
    driver, x = make_driver(), make_x(8)
    refs = [StreamRef(id=7, is_start=True), StreamRef(id=7, step=1), StreamRef(id=7), StreamRef(id=7, step=3)]
    found = [driver.ask(make_work(x[:, 2 * place : 2 * place + 2], ref)) for place, ref in enumerate(refs)]

    assert [answer.step for answer in found] == [0, 1, 2, 3]
    assert same(np.concatenate([answer.outputs["y"] for answer in found], axis=1), whole_of(x)["y"])
    driver.ask(make_work(x[:, :1], StreamRef(id=7)))
    refused = driver.ask(make_work(x[:, :1], StreamRef(id=7, step=4)))
    assert refused.facts == {"expected_step": 5}


def test_a_start_without_a_step_takes_over_as_triton_does(make_driver, make_work, make_x, whole_of):
    driver, x = make_driver(), make_x(8)
    driver.ask(make_work(make_x(5, seed=9), StreamRef(id=7, is_start=True)))
    first = driver.ask(make_work(x[:, :3], StreamRef(id=7, is_start=True)))
    second = driver.ask(make_work(x[:, 3:], StreamRef(id=7, is_end=True)))

    assert same(np.concatenate([first.outputs["y"], second.outputs["y"]], axis=1), whole_of(x)["y"])
    assert driver.engine.statistics()["streams"]["steps"]["ended"] == {
        "end": 1,
        "expired": 0,
        "closed": 0,
        "taken_over": 1,
    }


def test_number_and_text_are_two_streams_and_models_have_their_own(make_driver, make_work, make_x):
    driver, x = make_driver(), make_x(4)
    driver.ask(make_work(x, StreamRef(id=7, is_start=True)))

    assert isinstance(driver.ask(make_work(x, StreamRef(id="7"))), UnknownStream)
    assert isinstance(driver.ask(make_work(x, StreamRef(id=7), model="last")), UnknownStream)
    assert driver.ask(make_work(x, StreamRef(id=7))).step == 1


def test_many_streams_of_unequal_chunks_share_runs(make_driver, make_work, make_x, cut, whole_of):
    driver = make_driver()
    xs = {name: make_x(20 + name, seed=name) for name in range(1, 41)}
    works = {name: [make_work(chunk, ref) for chunk, ref in cut(x, name, name)] for name, x in xs.items()}
    tickets = {name: [driver.post(work) for work in mine] for name, mine in works.items()}
    outcomes = driver.drain()

    for name, x in xs.items():
        ys = [outcomes[ticket].outputs["y"] for ticket in tickets[name]]
        assert same(np.concatenate(ys, axis=1), whole_of(x)["y"])
    assert driver.engine.statistics()["models"]["steps"]["rows_a_run"] > 4


def test_an_idle_stream_expires_and_is_forgotten_later(make_driver, make_work, make_x):
    driver, x = make_driver(idle_s=60.0, tombstone_s=30.0), make_x(4)
    driver.ask(make_work(x, StreamRef(id=7, is_start=True, step=0)))
    driver.clock.now += 59.9
    assert driver.ask(make_work(x, StreamRef(id=7, step=1))).step == 1
    driver.clock.now += 60.0

    assert isinstance(driver.ask(make_work(x, StreamRef(id=7, step=2))), StreamExpired)
    assert isinstance(driver.ask(make_work(x, StreamRef(id=7, step=1))), StreamExpired)
    assert isinstance(driver.ask(make_work(x, StreamRef(id=7, is_start=True, step=0))), StreamExpired)
    driver.turn()
    assert driver.engine.statistics()["streams"]["steps"]["live"] == 0
    assert driver.engine.statistics()["streams"]["steps"]["ended"]["expired"] == 1
    driver.clock.now += 31.0
    driver.turn()
    assert isinstance(driver.ask(make_work(x, StreamRef(id=7))), UnknownStream)
    assert driver.ask(make_work(x, StreamRef(id=7, is_start=True, step=0))).step == 0


def test_an_engine_with_streams_in_it_wakes_up_to_sweep_and_sleeps_when_there_are_none(make_driver, make_work, make_x):
    driver = make_driver(idle_s=60.0, tombstone_s=30.0)
    assert driver.engine.wait_s() is None
    driver.ask(make_work(make_x(4), StreamRef(id=7, is_start=True)))
    assert 0 < driver.engine.wait_s() <= 6.0
    for _ in range(40):
        driver.clock.now += driver.engine.wait_s() or 0.0
        driver.turn()

    assert driver.engine.wait_s() is None


def test_more_streams_than_may_live_are_refused_until_one_ends_or_expires(make_driver, make_work, make_x):
    driver, x = make_driver(max_streams=3, idle_s=100.0), make_x(4)
    tickets = [driver.post(make_work(x, StreamRef(id=name, is_start=True))) for name in range(1, 6)]
    found = [driver.drain()[ticket] for ticket in tickets]
    assert [type(outcome) for outcome in found] == [StreamAnswer] * 3 + [StreamsFull] * 2
    assert driver.ask(make_work(x, StreamRef(id=2, is_start=True))).step == 0  # it takes over its own place
    driver.ask(make_work(x, StreamRef(id=3, is_end=True)))
    assert driver.ask(make_work(x, StreamRef(id=5, is_start=True))).step == 0
    assert isinstance(driver.ask(make_work(x, StreamRef(id=6, is_start=True))), StreamsFull)
    assert driver.ask(make_work(x, StreamRef(id=1))).step == 1  # none that lives was thrown out
    driver.clock.now += 99.0
    driver.ask(make_work(x, StreamRef(id=1)))
    driver.clock.now += 2.0
    driver.ask(make_work(x, StreamRef(id=6, is_start=True)))

    assert driver.ask(make_work(x, StreamRef(id=6, is_start=True))).step == 0


def test_bytes_are_bounded_whatever_the_requests_leave_behind(make_driver, make_work, make_x):
    """A state of this network takes 24 bytes a row, an answer 16 a step."""
    driver = make_driver(max_stream_bytes=24 + 16 * 10)
    assert driver.ask(make_work(make_x(10), StreamRef(id=1, is_start=True, step=0))).step == 0
    assert isinstance(driver.ask(make_work(make_x(1), StreamRef(id=2, is_start=True))), StreamsFull)
    assert isinstance(driver.ask(make_work(make_x(11), StreamRef(id=1, step=1))), StreamsFull)
    assert driver.ask(make_work(make_x(5), StreamRef(id=1, step=1))).step == 1
    assert driver.ask(make_work(make_x(50), StreamRef(id=1))).step == 2  # it keeps no answer
    assert driver.ask(make_work(make_x(1), StreamRef(id=2, is_start=True))).step == 0


def test_what_waits_for_its_turn_counts_as_waiting(make_driver, make_work, make_x):
    driver, x = make_driver(max_waiting=3, engine={"max_waiting": 3}), make_x(4)
    for _ in range(3):
        driver.post(make_work(x, StreamRef(id=1, is_start=True)))

    for work in (make_work(x, StreamRef(id=1)), make_work(x, StreamRef(id=2, is_start=True)), make_work(x)):
        assert isinstance(driver.ask_only(work), QueueFull)
    assert len(driver.drain()) == 3
    assert isinstance(driver.ask(make_work(x)), dict)


def test_bytes_that_wait_are_bounded_too(make_driver, make_work, make_x):
    driver = make_driver(max_waiting_bytes=1000)
    driver.post(make_work(make_x(100), StreamRef(id=1, is_start=True)))  # one alone may be larger

    assert isinstance(driver.ask_only(make_work(make_x(60), StreamRef(id=1))), QueueFull)
    driver.drain()
    assert driver.ask(make_work(make_x(60), StreamRef(id=1))).step == 1


def test_a_deadline_ends_what_waits_for_its_turn(make_driver, make_work, make_x):
    driver, x = make_driver(), make_x(4)
    first = driver.post(make_work(x, StreamRef(id=1, is_start=True)))
    late = driver.post(make_work(x, StreamRef(id=1), deadline_s=driver.clock.now + 0.5))
    later = driver.post(make_work(x, StreamRef(id=1), deadline_s=driver.clock.now + 5.0))
    driver.clock.now += 1.0
    outcomes = driver.drain()

    assert isinstance(outcomes[late], DeadlineExceeded)
    assert (outcomes[first].step, outcomes[later].step) == (0, 1)


def test_a_deadline_in_the_engine_applies_nothing(make_driver, make_work, make_x):
    driver, x = make_driver(engine=SHORT_RUNS), make_x(5000)
    driver.ask(make_work(x[:, :1], StreamRef(id=1, is_start=True)))
    ticket = driver.post(make_work(x, StreamRef(id=1), deadline_s=driver.clock.now + 1.0))
    driver.turn()
    driver.clock.now += 2.0
    assert isinstance(driver.drain()[ticket], DeadlineExceeded)

    assert driver.ask(make_work(x[:, :1], StreamRef(id=1))).step == 1


def test_what_is_cancelled_is_not_applied_wherever_it_is(make_driver, make_work, make_x, whole_of):
    driver, x = make_driver(engine=SHORT_RUNS), make_x(5000)
    driver.ask(make_work(x[:, :1], StreamRef(id=1, is_start=True)))
    running = driver.post(make_work(x[:, 1:], StreamRef(id=1)))
    waiting = driver.post(make_work(x[:, 2:], StreamRef(id=1)))
    kept = driver.post(make_work(x[:, 1:9], StreamRef(id=1)))
    driver.turn()
    driver.engine.cancel(waiting)
    driver.engine.cancel(running)
    driver.engine.cancel(running)
    driver.engine.cancel(10**6)
    outcomes = driver.drain()

    assert running not in outcomes
    assert waiting not in outcomes
    assert same(outcomes[kept].outputs["y"], whole_of(x[:, :9])["y"][:, 1:])
    assert driver.engine.statistics()["streams_waiting"] == 0


def test_a_failed_run_applies_nothing_and_those_behind_it_are_judged(make_driver, make_work, make_x, monkeypatch):
    driver, x = make_driver(), make_x(6)
    driver.ask(make_work(x[:, :2], StreamRef(id=1, is_start=True, step=0)))
    runtime = next(model for model in driver.engine.models if model.served.name == "steps").runtime
    works = [make_work(x[:, 2:4], StreamRef(id=1, step=1)), make_work(x[:, 4:], StreamRef(id=1, step=2))]
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "run", lambda _feeds: 1 / 0, raising=False)
        tickets = [driver.post(work) for work in works]
        outcomes = driver.drain()
    assert isinstance(outcomes[tickets[0]], EngineError)
    assert isinstance(outcomes[tickets[1]], StepGap)

    assert [driver.ask(work).step for work in works] == [1, 2]


def test_a_state_that_is_not_finite_is_never_kept(make_driver, make_work, make_x, monkeypatch):
    driver, x = make_driver(), make_x(6)
    driver.ask(make_work(x[:, :2], StreamRef(id=1, is_start=True, step=0)))
    runtime = next(model for model in driver.engine.models if model.served.name == "steps").runtime
    run = runtime.run
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "run", lambda feeds: {**run(feeds), "c_n": run(feeds)["c_n"] * np.inf}, raising=False)
        assert "c_n: expected finite" in str(driver.ask(make_work(x[:, 2:4], StreamRef(id=1, step=1))))

    assert driver.ask(make_work(x[:, 2:4], StreamRef(id=1, step=1))).is_replayed is False


def test_what_no_stream_takes_is_refused_at_once(make_driver, make_work, make_x):
    driver, x = make_driver(), make_x(4)
    states = (np.zeros((1, 1, 3), np.float32), None)

    assert isinstance(driver.ask_only(make_work(x, StreamRef(id=1), states=states)), BadInput)
    assert isinstance(driver.ask_only(make_work(x, StreamRef(id=1), model="none")), UnknownModel)


def test_other_rows_than_the_streams_are_refused(make_driver, make_work, make_x):
    driver = make_driver()
    driver.ask(make_work(make_x(4, rows=2), StreamRef(id=1, is_start=True)))

    assert isinstance(driver.ask(make_work(make_x(4, rows=3), StreamRef(id=1))), BadInput)


def test_a_stream_of_one_request_begins_and_ends_with_it(make_driver, make_work, make_x, whole_of):
    driver, x = make_driver(), make_x(4)
    ref = StreamRef(id=1, is_start=True, is_end=True, step=0)
    first, again = driver.ask(make_work(x, ref)), driver.ask(make_work(x, ref))

    assert (first.is_replayed, again.is_replayed) == (False, True)
    assert same(again.outputs["y"], whole_of(x)["y"])
    assert isinstance(driver.ask(make_work(x, StreamRef(id=1))), StreamEnded)
    assert driver.engine.statistics()["streams"]["steps"] == {
        "live": 0,
        "state_bytes": 0,
        "ended": {"end": 1, "expired": 0, "closed": 0, "taken_over": 0},
        "replayed": 1,
    }


def test_closing_answers_everybody_once(make_driver, make_work, make_x):
    driver, x = make_driver(engine=SHORT_RUNS), make_x(5000)
    tickets = [driver.post(make_work(x, StreamRef(id=1, is_start=True))) for _ in range(3)]
    tickets.append(driver.post(make_work(x)))
    driver.turn()
    found = dict(driver.engine.close())

    assert found.keys() == set(tickets)
    assert all(isinstance(outcome, NotReady) for outcome in found.values())
    assert driver.engine.close() == []


def test_a_restart_of_the_memory_store_says_that_it_knows_nothing(make_driver, make_work, make_x):
    driver, x = make_driver(MemoryStore(9)), make_x(4)
    driver.ask(make_work(x, StreamRef(id=1, is_start=True, step=0)))
    other = make_driver(MemoryStore(9))

    assert isinstance(other.ask(make_work(x, StreamRef(id=1, step=1))), UnknownStream)


def test_records_keep_nothing_of_the_run_that_they_came_from(make_driver, make_work, make_x):
    """What a run returns is one array for all that ran beside: a stream that kept a view would keep all of it."""
    store = MemoryStore(100)
    driver = make_driver(store)
    for name in range(1, 9):
        driver.post(make_work(make_x(8, seed=name), StreamRef(id=name, is_start=True, step=0)))
    driver.drain()

    for record in store._records.values():
        for array in (*record.states, *record.answer.values()):
            assert array.base is None
