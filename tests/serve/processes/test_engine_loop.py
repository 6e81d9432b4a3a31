"""The loop over an engine that adds: frames in, frames out, and nothing stays behind whoever goes away."""

import os
import threading

import numpy as np
import pytest

from cellgate.serve.errors import EngineError
from cellgate.serve.processes.engine_loop import EngineLoop
from cellgate.serve.processes.engine_socket import engine_listener
from cellgate.serve.processes.frames import PREFIX, Kind, id_of, json_of, pack_bare, pack_json
from cellgate.serve.processes.tensor_frames import join

IDLE = {"inside": 0, "cancelled": 0, "frontends": {"connected": 1, "inside": 0, "unsent_bytes": 0}}


@pytest.fixture
def pack(codec, make_work):
    def pack_one(request_id, **work):
        return join(codec.pack_work(request_id, make_work(**work))[0])

    return pack_one


def statistics(wire):
    return json_of(wire.ask())


def test_a_frontend_is_greeted_and_its_work_answered_in_the_shape_of_the_signature(
    make_engine, run_loop, connect_wire, pack, codec
):
    state = np.ones((1, 2, 3), np.float32)
    with run_loop(make_engine(), {"hello": 1}) as (_, path, _), connect_wire(path) as wire:
        greeting = json_of(wire.receive())
        wire.send(pack(7, rows=2, fill=0.5, outputs=("y", "c_n"), states=(state, None)))
        frame = wire.receive()
        answer = codec.unpack_answer(frame)

        assert greeting == {"hello": 1}
        assert (frame[0], id_of(frame)) == (Kind.ANSWER, 7)
        assert {name: (array.shape, array.flat[0]) for name, array in answer.items()} == {
            "y": ((2, 2, 4), 10),
            "c_n": ((1, 2, 3), 10),
        }
        assert statistics(wire) == IDLE


def test_frames_in_pieces_and_many_in_one_are_alike(make_engine, run_loop, connect_wire, pack):
    with run_loop(make_engine()) as (_, path, _), connect_wire(path) as wire:
        wire.receive()
        stream = b"".join(pack(number, steps=number) for number in range(1, 9))
        for place in range(0, len(stream), 37):
            wire.send(stream[place : place + 37])
        pieces = sorted(id_of(wire.receive()) for _ in range(8))
        wire.send(stream)

        assert pieces == [1, 2, 3, 4, 5, 6, 7, 8]
        assert sorted(id_of(wire.receive()) for _ in range(8)) == pieces


def test_a_refusal_is_sent_as_code_and_sentence(make_engine, run_loop, connect_wire, pack):
    engine = make_engine(max_waiting=1)
    engine.is_held = True
    with run_loop(engine) as (_, path, _), connect_wire(path) as wire:
        wire.receive()
        wire.send(pack(1), pack(2))
        frame = wire.receive()

    assert (frame[0], id_of(frame)) == (Kind.ERROR, 2)
    assert json_of(frame) == [
        "queue_full",
        "queue: expected fewer than 1 waiting requests, found so many now or a moment ago; try again later",
    ]


def test_an_error_of_a_run_and_an_answer_of_the_wrong_shape_are_errors_of_their_requests(
    make_engine, run_loop, connect_wire, pack
):
    engine = make_engine()
    engine.outcome = lambda work: EngineError("broken") if work.steps == 1 else {"y": np.ones(3, np.float32)}
    with run_loop(engine) as (_, path, _), connect_wire(path) as wire:
        wire.receive()
        wire.send(pack(1, steps=1))
        first = json_of(wire.receive())
        wire.send(pack(2, steps=2))

        assert first == ["engine", "broken"]
        assert json_of(wire.receive())[1].startswith("y: expected float32 (1, 2, 4), found float32 (3,)")
        assert statistics(wire) == IDLE


def test_cancelled_work_leaves_the_engine_and_is_not_answered(make_engine, run_loop, connect_wire, pack):
    engine = make_engine()
    engine.is_held = True
    with run_loop(engine) as (_, path, _), connect_wire(path) as wire:
        wire.receive()
        wire.send(pack(1), pack(2), pack_bare(Kind.CANCEL, 1), pack_bare(Kind.CANCEL, 99))
        held = statistics(wire)
        engine.is_held = False
        wire.send(pack(3))

        assert (held["inside"], held["cancelled"], held["frontends"]["inside"]) == (1, 1, 1)
        assert [id_of(wire.receive()) for _ in range(2)] == [2, 3]


def test_a_frontend_that_goes_away_takes_its_work_along(make_engine, run_loop, connect_wire, pack):
    engine = make_engine()
    engine.is_held = True
    with run_loop(engine) as (_, path, _), connect_wire(path) as stays:
        stays.receive()
        with connect_wire(path) as goes:
            goes.receive()
            goes.send(pack(1), pack(2))
            goes.ask()
            before = statistics(stays)
        while (after := statistics(stays))["frontends"]["connected"] == 2:
            pass

    assert (before["inside"], before["frontends"]["connected"]) == (2, 2)
    assert after == {**IDLE, "cancelled": 2}


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(PREFIX.pack(2**40), id="too-long"),
        pytest.param(pack_json(Kind.HELLO, 0, {}), id="not-for-an-engine"),
        pytest.param(PREFIX.pack(3) + bytes([Kind.CANCEL, 0, 0]), id="no-head"),
        pytest.param(PREFIX.pack(20) + bytes([Kind.WORK]) + bytes(19), id="no-work"),
        pytest.param(PREFIX.pack(48) + bytes([Kind.WORK, 0, 9]) + bytes(45), id="no-such-model"),
        pytest.param(None, id="id-in-use"),
    ],
)
def test_who_breaks_the_protocol_is_cut_off_and_nobody_else(make_engine, run_loop, connect_wire, pack, noise, caplog):
    engine = make_engine()
    engine.is_held = True
    with run_loop(engine) as (_, path, _), connect_wire(path) as good, connect_wire(path) as bad:
        good.receive()
        bad.receive()
        good.send(pack(1))
        bad.send(pack(1))
        bad.ask()
        bad.send(pack(1) if noise is None else noise)
        end = bad.receive()
        engine.is_held = False
        good.send(pack(2))

        assert end is None
        assert [id_of(good.receive()) for _ in range(2)] == [1, 2]
        assert statistics(good) == {**IDLE, "cancelled": 1}
    assert "a frontend broke the protocol and is cut off: frame: " in caplog.text


def test_a_frontend_that_takes_no_answers_is_not_read_from_and_loses_none(make_engine, run_loop, connect_wire, pack):
    engine = make_engine()
    with (
        run_loop(engine, max_unsent_bytes=1000) as (_, path, _),
        connect_wire(path) as lazy,
        connect_wire(path) as wire,
    ):
        lazy.receive()
        wire.receive()
        lazy.socket.setblocking(False)
        sent, rest = 0, b""
        stream = [pack(number, steps=2000) for number in range(200)]
        while sent < len(stream):
            rest = rest or stream[sent]
            try:
                rest = rest[lazy.socket.send(rest) :]
            except BlockingIOError:
                if statistics(wire)["frontends"]["unsent_bytes"] > 1000:
                    break
            sent += not rest
        stuck = statistics(wire)
        lazy.socket.settimeout(30)
        answers = [lazy.receive() for _ in range(sent)]
        lazy.send(rest)
        answers += [lazy.receive()] if rest else []

        assert sent < len(stream)
        assert 1000 < stuck["frontends"]["unsent_bytes"] < 2**25
        assert [id_of(frame) for frame in answers] == list(range(len(answers)))
        assert statistics(wire)["frontends"] == {"connected": 2, "inside": 0, "unsent_bytes": 0}


def test_a_stop_lets_accepted_work_end_and_refuses_more(make_engine, run_loop, connect_wire, pack):
    engine = make_engine()
    engine.is_held = True
    with run_loop(engine) as (loop, path, thread), connect_wire(path) as wire:
        wire.receive()
        wire.send(pack(1))
        wire.ask()
        loop.stop()
        loop.stop()
        wire.ask()  # answered in a turn that has seen the stop
        wire.send(pack(2))
        frame = wire.receive()
        refused = id_of(frame), json_of(frame)[0]
        engine.is_held = False
        wire.send(pack_bare(Kind.CANCEL, 77))  # wakes the loop
        answered = id_of(wire.receive())
        end = wire.receive()
        thread.join(30)

    assert (refused, answered, end) == ((2, "not_ready"), 1, None)
    assert engine.is_closed


def test_work_that_does_not_end_in_time_is_answered_with_an_error(make_engine, run_loop, connect_wire, pack):
    engine = make_engine()
    engine.is_held = True
    with run_loop(engine, grace_s=0.01) as (loop, path, _), connect_wire(path) as wire:
        wire.receive()
        wire.send(pack(1))
        wire.ask()
        loop.stop()
        frame = wire.receive()

        assert (id_of(frame), json_of(frame)[0]) == (1, "not_ready")
        assert wire.receive() is None


def test_the_end_of_the_lifeline_is_the_end_at_once(make_engine, run_loop):
    engine = make_engine()
    engine.is_held = True
    read, write = os.pipe()
    with run_loop(engine, lifeline=read) as (loop, _, thread):
        os.close(write)
        thread.join(30)
        loop.stop()  # too late, and harmless

        assert not thread.is_alive()
        assert engine.is_closed
    os.close(read)


def test_who_connects_while_no_engine_runs_is_served_by_the_next(make_engine, codec, connect_wire, pack, still_desk):
    with engine_listener() as (listener, path), connect_wire(path) as wire:
        wire.send(pack(1))
        loop = EngineLoop(make_engine(), still_desk({0: codec}, 5), listener, max_frame_bytes=999, grace_s=1)
        thread = threading.Thread(target=loop.run)
        thread.start()
        frames = [wire.receive(), wire.receive()]
        loop.stop()
        thread.join(30)

    assert [(frame[0], id_of(frame)) for frame in frames] == [(Kind.HELLO, 0), (Kind.ANSWER, 1)]
