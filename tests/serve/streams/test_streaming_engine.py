"""Streams over the real engine and a real LSTM: chunks give the bits of the whole, whatever is sent twice or late."""

import numpy as np
import pytest

from cellgate.serve.engine.work import StreamAnswer, StreamRef
from cellgate.serve.errors import BadInput, DeadlineExceeded, EngineError, NotReady, UnknownModel
from cellgate.serve.stream_errors import StepConflict, StepGap, StreamEnded, StreamExists, UnknownStream

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
