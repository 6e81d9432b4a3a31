"""A reader of the protobuf wire format that takes nothing on trust.

It decodes one message at a time, by a table of the fields that somebody wants; nested messages stay spans of the input
until they are asked for, so a weight of a gigabyte costs a look at its length. Source: Protocol Buffers, "Encoding".

Rules of this file: it knows tags, varints and lengths, and nothing of ONNX. Every refusal is a WireError with the
offset. It is stricter than protobuf: honest writers never write a singular field twice, and a reader that merges the
two where another keeps the last would see another model.
"""

from collections.abc import Mapping
from enum import Enum

Span = tuple[int, int]  # first byte, byte after the last
Record = dict[str, list[int] | list[Span]]

MAX_FIELDS = 5_000_000  # in the whole input: about 5 s and less than a GB of records in the worst case
MAX_REPEATS = 500_000  # of one field in one message
MAX_NAME_BYTES = 4096

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are not what a protobuf writer makes."""


class Kind(Enum):
    """What a field holds and how often it may stand in one message. The value says which wire types carry it."""

    NUMBER = ("one", _VARINT)
    NUMBERS = ("any", _VARINT, _LENGTH)  # one by one, or packed
    SPAN = ("one", _LENGTH)  # one string, bytes or message
    SPANS = ("any", _LENGTH)
    SKIP = ()  # known and of no interest


Schema = Mapping[int, tuple[str, Kind]]


class Wire:
    """The input, and how much of it may still be looked at."""

    __slots__ = ("_data", "_fields_left")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fields_left = MAX_FIELDS

    def whole(self) -> Span:
        """Return the span of the whole input."""
        return 0, len(self._data)

    def message(self, span: Span, schema: Schema) -> tuple[Record, set[int]]:
        """Decode one message.

        Returns:
            (record, unknown): the wanted fields that are there, by name; the numbers of fields not in the schema.

        Raises:
            WireError: cut off, overlong, a wire type that does not fit, a singular field twice, or too many fields.
        """
        record: Record = {}
        unknown: set[int] = set()
        at, end = span
        while at < end:
            start = at
            self._spend(start)
            tag, at = self._varint(at, end)
            number, wire_type = tag >> 3, tag & 7
            if not 0 < number < 2**29:
                raise WireError(f"field number {number} at byte {start}")
            value, at = self._value(wire_type, at, end)
            name, kind = schema.get(number, ("", None))
            if kind is None:
                unknown.add(number)
            elif kind is not Kind.SKIP:
                if wire_type not in kind.value:
                    raise WireError(f"wire type {wire_type} for the field {name} at byte {start}")
                self._store(record, name, kind, value)
        return record, unknown

    def text(self, span: Span) -> str:
        """Decode UTF-8.

        Raises:
            WireError: it is not UTF-8, or longer than MAX_NAME_BYTES.
        """
        start, end = span
        if end - start > MAX_NAME_BYTES:
            raise WireError(f"a name of {end - start} bytes at byte {start}")
        try:
            return bytes(self._data[start:end]).decode()
        except UnicodeDecodeError as err:
            raise WireError(f"a name that is not UTF-8 at byte {start}") from err

    def _value(self, wire_type: int, at: int, end: int) -> tuple[int | Span, int]:
        """Return a varint or the span of anything else, and where the next field begins."""
        if wire_type == _VARINT:
            return self._varint(at, end)
        if wire_type == _LENGTH:
            length, at = self._varint(at, end)
        elif wire_type == _FIXED32:
            length = 4
        elif wire_type == _FIXED64:
            length = 8
        else:
            raise WireError(f"wire type {wire_type} at byte {at}")
        if length > end - at:
            raise WireError(f"a length of {length} bytes at byte {at}, where {end - at} are left")
        return (at, at + length), at + length

    def _store(self, record: Record, name: str, kind: Kind, value: int | Span) -> None:
        values: list[int | Span] = record.setdefault(name, [])  # type: ignore[assignment]  # one kind a name, by schema
        if kind is Kind.NUMBERS and isinstance(value, tuple):
            self._unpack(values, value)  # type: ignore[arg-type]  # numbers only, by the line above
        else:
            values.append(value)
        if len(values) > (1 if kind in (Kind.NUMBER, Kind.SPAN) else MAX_REPEATS):
            raise WireError(f"the field {name} stands {len(values)} times in one message")

    def _unpack(self, values: list[int], span: Span) -> None:
        at, end = span
        while at < end:
            self._spend(at)
            value, at = self._varint(at, end)
            values.append(value)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """Seven bits a byte, the lowest first; the top bit says that more follow."""
        value, start = 0, at
        for shift in range(0, min(10, end - start) * 7, 7):
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte == byte & 0x7F:
                if value >> 64:
                    break
                return value, at
        raise WireError(f"a number that is cut off or longer than 64 bits at byte {start}")

    def _spend(self, at: int) -> None:
        self._fields_left -= 1
        if self._fields_left < 0:
            raise WireError(f"more than {MAX_FIELDS} fields, at byte {at}")
