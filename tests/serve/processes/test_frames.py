"""The stream of frames: any cut gives the same frames, and what is none is refused."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgate.serve.processes.frames import (
    HEAD_BYTES,
    PREFIX,
    FrameDecoder,
    FrameError,
    Kind,
    id_of,
    json_of,
    pack_bare,
    pack_json,
    pack_times,
    times_of,
)

IDS = st.integers(0, 2**64 - 1)


def cut(data, places):
    edges = [0, *sorted(places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_any_split_of_a_stream_gives_the_same_frames(frames, data):
    stream = b"".join(PREFIX.pack(len(frame)) + frame for frame in frames)
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    decoder = FrameDecoder(64)

    found = [bytes(frame) for chunk in cut(stream, places) for frame in decoder.feed(chunk)]

    assert found == frames
    assert decoder.held_bytes == 0


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_whatever_comes_is_a_frame_or_a_frame_error_and_holds_no_more_than_the_limit(noise, places):
    decoder = FrameDecoder(64)

    try:
        for chunk in cut(noise, [place for place in places if place <= len(noise)]):
            for frame in decoder.feed(chunk):
                assert 0 < len(frame) <= 64
            assert decoder.held_bytes <= 64
    except FrameError:
        pass


def test_a_byte_at_a_time_gives_a_frame_with_its_last_byte():
    stream = pack_json(Kind.HELLO, 7, {"a": [1, "ü"]})
    decoder = FrameDecoder(1024)

    found = [decoder.feed(stream[place : place + 1]) for place in range(len(stream))]

    assert not any(found[:-1])
    assert json_of(found[-1][0]) == {"a": [1, "ü"]}


def test_a_frame_does_not_hold_the_chunk_it_came_in():
    (frame, _) = FrameDecoder(1024).feed(pack_bare(Kind.CANCEL, 1) + pack_bare(Kind.CANCEL, 2))

    assert type(frame) is bytes
    assert len(frame) == HEAD_BYTES


@pytest.mark.parametrize("length", [0, 65, 2**64 - 1])
def test_a_length_outside_its_range_is_refused_before_anything_is_set_aside(length):
    decoder = FrameDecoder(64)

    with pytest.raises(FrameError, match=rf"frame: length: expected 1 \.\. 64 bytes, found {length}"):
        decoder.feed(PREFIX.pack(length))
    assert decoder.held_bytes == 0


@given(st.sampled_from(list(Kind)), IDS)
def test_a_head_survives_the_way(kind, request_id):
    (frame,) = FrameDecoder(64).feed(pack_bare(kind, request_id))

    assert (frame[0], id_of(frame)) == (kind, request_id)


@given(IDS, st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_json_survives_the_way(request_id, value):
    (frame,) = FrameDecoder(2**20).feed(pack_json(Kind.ERROR, request_id, value))

    assert (id_of(frame), json_of(frame)) == (request_id, value)


def test_a_frame_without_a_head_and_text_that_is_no_json_are_refused():
    with pytest.raises(FrameError, match="frame: head: expected 16 bytes, found 15"):
        id_of(bytes(15))
    with pytest.raises(FrameError, match="frame: text: expected JSON, found "):
        json_of(bytes(HEAD_BYTES) + b"{")
    with pytest.raises(FrameError, match="JSON"):
        json_of(bytes(HEAD_BYTES) + b"\xff")


def test_the_bytes_of_a_frame_are_those_of_the_page():
    frame = pack_json(Kind.STATISTICS, 0x0102, [1])

    assert frame == bytes([19, *[0] * 7, 7, *[0] * 7, 2, 1, *[0] * 6]) + json.dumps([1]).encode()


def test_what_json_has_no_word_for_is_not_sent():
    with pytest.raises(ValueError, match="JSON"):
        pack_json(Kind.STATISTICS, 0, float("nan"))


def test_times_come_back_as_they_went():
    (frame,) = FrameDecoder(1024).feed(pack_times(7, 1.5, 2.25, 1e9 + 1 / 3, 2**40))

    assert (frame[0], id_of(frame)) == (Kind.TIMES, 7)
    assert times_of(frame) == (1.5, 2.25, 1e9 + 1 / 3, 2**40)


@pytest.mark.parametrize("size", [HEAD_BYTES, HEAD_BYTES + 31, HEAD_BYTES + 33])
def test_times_of_another_size_are_none(size):
    with pytest.raises(FrameError, match="size"):
        times_of(bytes(size))
