"""Keys and records: canonical, equal after the way through bytes, and refused where the bytes are none."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgate.serve.streams.record import EXPIRED, REASONS, StreamKey, StreamRecord, key_of_text
from cellgate.serve.streams.record_bytes import RecordError, pack_record, unpack_record

GOLDEN = (
    "4347535201000003050000000000000004000000000000000000000000408f40010000000100010"
    "0abababababababababababababababababababababababababababababababab0101010101010101"
    "0101010101010101010101010101010101010101010101010002000001000000020000000000803f0000"
    "00400002010001000000010000007900004040edf4045c"
)
DTYPES = ("float32", "float16", "float64", "int32", "int64", "bool")


@given(st.integers(1, 2**64 - 1) | st.text(min_size=1))
def test_a_key_comes_back_from_its_text(name):
    key = StreamKey("demo", name)

    assert key_of_text(key.text()) == key
    assert StreamKey("demo", str(name)).text() != StreamKey("demo", 0).text()


def test_a_number_and_its_digits_are_two_streams():
    assert StreamKey("m", 7).text() != StreamKey("m", "7").text()
    assert StreamKey("m", 7) != StreamKey("m", "7")


@pytest.mark.parametrize("text", ["", "m", "m:n", "m:n:", "m:x:1", ":n:1", "m:n:01", "m:n:x", "m:n: 1", "m:n:\u0661"])
def test_a_text_that_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match=r"stream key|invalid literal|not enough values"):
        key_of_text(text)


def test_an_idle_stream_is_an_expired_one(make_record):
    record = make_record(4, touched_s=100.0)

    assert record.as_of(159.9, 60.0) is record
    found = record.as_of(160.0, 60.0)
    assert (found.ended, found.states, found.answer, found.payload_hash) == (EXPIRED, (), None, None)
    assert (found.revision, found.step, found.rows) == (record.revision, 4, 2)
    ended = make_record(4, ended="end", touched_s=100.0)
    assert ended.as_of(1e9, 60.0) is ended


@st.composite
def arrays(draw):
    shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)))
    values = np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape) * 9
    return values.astype(draw(st.sampled_from(DTYPES)))


@st.composite
def records(draw):
    is_numbered = draw(st.booleans())
    names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)
    return StreamRecord(
        revision=draw(st.integers(0, 2**64 - 1)),
        step=draw(st.integers(0, 2**64 - 1)),
        digest=draw(st.binary(min_size=32, max_size=32)).hex(),
        rows=draw(st.integers(1, 2**32 - 1)),
        states=tuple(draw(st.lists(arrays(), max_size=4))),
        payload_hash=draw(st.binary(min_size=32, max_size=32)) if is_numbered else None,
        answer=draw(st.dictionaries(names, arrays(), min_size=1, max_size=3)) if is_numbered else None,
        ended=draw(st.sampled_from([None, *REASONS])),
        touched_s=draw(st.floats(allow_nan=False, allow_infinity=False)),
    )


@given(records())
def test_a_record_comes_back_from_its_bytes(is_same_record, record):
    data = pack_record(record)
    found = unpack_record(data)

    assert is_same_record(found, record)
    assert pack_record(found) == data
    assert all(state.flags.aligned and state.flags.c_contiguous for state in found.states)


def golden_record():
    return StreamRecord(
        revision=5,
        step=4,
        digest="ab" * 32,
        rows=1,
        states=(np.array([[1, 2]], np.float32),),
        payload_hash=b"\1" * 32,
        answer={"y": np.array([[3]], np.float32)},
        ended=None,
        touched_s=1000.0,
    )


def test_the_layout_is_what_it_was():
    assert pack_record(golden_record()).hex() == GOLDEN


def test_golden_bytes_of_this_layout_are_still_read(is_same_record):
    assert is_same_record(unpack_record(bytes.fromhex(GOLDEN)), golden_record())


def test_every_cut_and_every_flipped_bit_is_refused(make_record):
    data = pack_record(make_record(4))
    for size in range(len(data)):
        with pytest.raises(RecordError):
            unpack_record(data[:size])
    for place in range(len(data) * 8):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(RecordError):
            unpack_record(bytes(changed))
    with pytest.raises(RecordError):
        unpack_record(data + b"\0")


def sealed(data):
    return bytes(data) + struct.pack("<I", zlib.crc32(data))


@given(st.binary(max_size=300), st.integers(0, 119), st.binary(min_size=1, max_size=8))
def test_hostile_bytes_with_a_right_checksum_are_a_record_or_refused(noise, place, patch):
    """Whoever can make the checksum right still gets a record or the one error, and no large array."""
    data = bytearray(bytes.fromhex(GOLDEN)[:-4] + noise)
    data[place : place + len(patch)] = patch
    try:
        found = unpack_record(sealed(data))
    except RecordError:
        return
    assert found.size_bytes <= len(data)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, b"CGSX", "layout"),
        (4, b"\2\0", "layout: expected b'CGSR' 1, found b'CGSR' 2"),
        (6, b"\4", "ended: expected 0 .. 3, found 4"),
        (7, b"\1", "flags"),
        (7, b"\0", "answer: expected outputs where there is one"),
        (24, b"\0\0\0\0\0\0\xf8\x7f", "touched: expected a moment, found nan"),
        (32, b"\0\0\0\0", "rows"),
        (36, b"\x41\0", "arrays: expected at most 64"),
        (36, b"\0\0", "answer: expected a name"),
        (36, b"\2\0", "state: expected no name, found y"),
        (104, b"\x09", "array: expected a dtype below 6"),
        (105, b"\0", "a rank in 1 .. 8"),
        (105, b"\x09", "a rank in 1 .. 8"),
        (106, b"\xff\xff", "bytes of shape and name"),
        (108, b"\xff\xff\xff\xff", "no axis of zero"),
        (108, b"\0\0\0\0", "no axis of zero"),
    ],
)
def test_what_is_wrong_is_named(place, value, words):
    data = bytearray(bytes.fromhex(GOLDEN)[:-4])
    data[place : place + len(value)] = value

    with pytest.raises(RecordError, match=words):
        unpack_record(sealed(data))
