"""Protobuf's wire format, against the protobuf package."""

import onnx
import pytest

from cellgate.serve.kernel.wire import WireError, field, fields, integer, signed, text, varints


def test_what_is_written_is_what_protobuf_reads():
    made = text(2, "grün") + field(3, b"doc") + integer(1, 300)
    # OperatorSetIdProto has a domain in 1 and a version in 2; StringStringEntryProto a key in 1 and a value in 2.
    entry = onnx.StringStringEntryProto.FromString(text(1, "k") + text(2, "grün"))

    assert (entry.key, entry.value) == ("k", "grün")
    assert list(fields(made)) == [(2, "grün".encode()), (3, b"doc"), (1, 300)]


@pytest.mark.parametrize("number", [0, 1, 127, 128, 2**31, 2**63 - 1])
def test_integers_come_back(number):
    assert onnx.OperatorSetIdProto.FromString(integer(2, number)).version == number
    assert list(fields(integer(2, number))) == [(2, number)]


def test_negative_integers_are_read_as_protobuf_writes_them():
    tensor = onnx.TensorProto(dims=[-1, 5], int64_data=[-7, 3])
    found = list(fields(tensor.SerializeToString()))

    assert [signed(value) for number, value in found if number == 1 and isinstance(value, int)] in ([-1, 5], [])
    (packed,) = [value for number, value in found if number == 7]
    assert list(varints(packed)) == [-7, 3]


def test_fixed_widths_are_passed_on_as_bytes():
    attribute = onnx.AttributeProto(name="alpha", f=1.5)

    assert (2, b"\x00\x00\xc0?") in list(fields(attribute.SerializeToString()))


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (b"\x12\x05ab", "expected 5 bytes of field 2, found 2"),
        (b"\x80", "expected the rest of a number, found the end"),
        (b"\x08\xff", "expected the rest of a number"),
        (b"\x0b", "expected a field of kind 0, 1, 2 or 5, found 3"),
        (b"\x0d\x01", "expected 4 bytes of field 1, found 1"),
    ],
)
def test_what_is_no_message_is_told_from_one(message, found):
    with pytest.raises(WireError, match=found):
        list(fields(message))
