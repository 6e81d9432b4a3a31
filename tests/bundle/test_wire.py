"""The wire format, byte by byte. Source of the examples: Protocol Buffers documentation, "Encoding"."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgate.bundle import wire
from cellgate.bundle.wire import Kind, Wire, WireError

_SCHEMA = {
    1: ("number", Kind.NUMBER),
    2: ("text", Kind.SPAN),
    3: ("many", Kind.SPANS),
    4: ("numbers", Kind.NUMBERS),
    5: ("", Kind.SKIP),
}


def _decode(data):
    reader = Wire(data)
    return reader.message(reader.whole(), _SCHEMA)


def _varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", {}),
        ("08 96 01", {"number": [150]}),
        ("12 07 74 65 73 74 69 6e 67", {"text": [(2, 9)]}),
        ("1a 00 1a 01 78", {"many": [(2, 2), (4, 5)]}),
        ("22 06 03 8e 02 9e a7 05", {"numbers": [3, 270, 86942]}),
        ("20 03 20 8e 02 22 01 07", {"numbers": [3, 270, 7]}),
        ("22 00", {"numbers": []}),
        ("08 ff ff ff ff ff ff ff ff ff 01", {"number": [2**64 - 1]}),
        ("08 80 80 80 80 80 80 80 80 80 00", {"number": [0]}),
        ("2d 00 00 00 00 29 00 00 00 00 00 00 00 00 28 01 2a 01 00", {}),
    ],
)
def test_lawful_bytes_are_decoded(data, expected):
    assert _decode(bytes.fromhex(data)) == (expected, set())


def test_unknown_fields_are_named():
    assert _decode(bytes.fromhex("30 01 3a 01 00 30 02")) == ({}, {6, 7})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("08", "cut off"),
        ("08 80", "cut off"),
        ("80", "cut off"),
        ("08 ff ff ff ff ff ff ff ff ff 02", "longer than 64 bits"),
        ("08 ff ff ff ff ff ff ff ff ff ff 01", "longer than 64 bits"),
        ("12 02 41", "a length of 2 bytes at byte 2, where 1 are left"),
        ("12 ff ff ff ff ff ff ff ff ff 01 00", "a length of 18446744073709551615 bytes"),
        ("22 02 80 80", "cut off"),
        ("2d 00 00 00", "a length of 4 bytes"),
        ("29 00 00 00 00 00 00 00", "a length of 8 bytes"),
        ("0b", "wire type 3"),
        ("0c", "wire type 4"),
        ("0e", "wire type 6"),
        ("0f", "wire type 7"),
        ("00 00", "field number 0"),
        ("f8 ff ff ff ff 01 00", "field number"),
        ("0a 01 00", "wire type 2 for the field number"),
        ("10 01", "wire type 0 for the field text"),
        ("1d 00 00 00 00", "wire type 5 for the field many"),
        ("21 00 00 00 00 00 00 00 00", "wire type 1 for the field numbers"),
        ("08 01 08 01", "number stands 2 times"),
        ("12 00 12 00", "text stands 2 times"),
    ],
)
def test_unlawful_bytes_are_refused(data, expected):
    with pytest.raises(WireError, match=expected):
        _decode(bytes.fromhex(data))


def test_length_beyond_the_message_is_refused_even_where_the_input_goes_on():
    """The inner message ends at byte 4; what follows belongs to the outer one."""
    reader = Wire(bytes.fromhex("1a 02 12 03 41 42 43"))

    with pytest.raises(WireError, match="a length of 3 bytes at byte 4, where 0 are left"):
        reader.message((2, 4), _SCHEMA)


@given(st.integers(0, 2**64 - 1))
def test_every_64_bit_number_is_read(value):
    assert _decode(b"\x08" + _varint(value)) == ({"number": [value]}, set())


@given(st.binary(max_size=64))
def test_any_bytes_are_decoded_or_refused(data):
    try:
        record, _ = _decode(data)
    except WireError:
        return
    for name in {"text", "many"} & record.keys():
        assert all(0 < start <= end <= len(data) for start, end in record[name])


def test_names_are_bounded_utf8():
    data = "é".encode() * 3000
    reader = Wire(data)

    assert reader.text((0, 4)) == "éé"
    with pytest.raises(WireError, match="a name of 6000 bytes"):
        reader.text(reader.whole())
    with pytest.raises(WireError, match="not UTF-8 at byte 1"):
        reader.text((1, 3))


def test_number_of_fields_is_bounded_over_all_messages(monkeypatch):
    monkeypatch.setattr(wire, "MAX_FIELDS", 10)
    reader = Wire(b"\x28\x00" * 6)
    reader.message(reader.whole(), _SCHEMA)

    with pytest.raises(WireError, match="more than 10 fields, at byte 8"):
        reader.message(reader.whole(), _SCHEMA)


def test_packed_numbers_count_like_fields(monkeypatch):
    monkeypatch.setattr(wire, "MAX_FIELDS", 10)

    with pytest.raises(WireError, match="more than 10 fields"):
        _decode(b"\x22\x14" + b"\0" * 20)


def test_repeats_of_one_field_are_bounded(monkeypatch):
    monkeypatch.setattr(wire, "MAX_REPEATS", 10)

    with pytest.raises(WireError, match="many stands 11 times"):
        _decode(b"\x1a\x00" * 11)
