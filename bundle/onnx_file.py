"""The messages of an ONNX file, one decoded at a time: strings, stored tensors, inputs and outputs.

Rules of this file: it says what a message holds, and notes what of it serving would refuse; how messages hang together
is in graph_scan. No weight's content is touched. Every refusal of malformed bytes is a WireError.
"""

from typing import cast

from . import onnx_schema as schema
from .graph_facts import TensorFact, ValueFact
from .wire import Record, Schema, Span, Wire, WireError

MAX_RANK = 64
MAX_REFUSALS = 20


class OnnxFile:
    """One file.

    Args:
        model: the bytes of a ModelProto.

    Attributes:
        refusals: why serving would refuse the file, in the order in which it was seen.
    """

    def __init__(self, model: bytes) -> None:
        self._wire = Wire(model)
        self.refusals: list[str] = []

    def whole(self) -> Span:
        """Return the span of the whole file."""
        return self._wire.whole()

    def message(self, span: Span, fields: Schema, what: str) -> Record:
        """Decode one message; a field that is not in the schema is a refusal.

        Args:
            span: of the message.
            fields: its schema.
            what: it is, for the refusal.

        Raises:
            WireError: it is malformed.
        """
        record, unknown = self._wire.message(span, fields)
        for number in sorted(unknown):
            self.refuse(f"field {number} of {what}, which this version does not know")
        return record

    def text(self, record: Record, name: str) -> str:
        """Return a string of a message, "" where the field is not there."""
        spans = spans_of(record, name)
        return self._wire.text(spans[0]) if spans else ""

    def name(self, span: Span) -> str:
        """Return the string that a span holds."""
        return self._wire.text(span)

    def tensor(self, span: Span, where: str) -> TensorFact:
        """Return what a stored tensor says of itself; its content is not read.

        Args:
            span: of the tensor.
            where: it stands, for refusals.

        Raises:
            WireError: it is malformed, or of a rank that nothing has.
        """
        tensor = self.message(span, schema.TENSOR, "a tensor")
        name = self.text(tensor, "name")
        dims = numbers_of(tensor, "dims")
        if len(dims) > MAX_RANK:
            raise WireError(f"a tensor of rank {len(dims)} at byte {span[0]}")
        number = number_of(tensor, "data_type")
        dtype, item_bytes = schema.DTYPES.get(number, (f"type {number}", 0))
        fact = TensorFact(name=name, dtype=dtype, dims=dims)
        if number not in schema.DTYPES:
            self.refuse(f"an unknown element type {number}: {where} {name!r}")
        if "external_data" in tensor or number_of(tensor, "data_location"):
            self.refuse(f"external data: {where} {name!r}")
        if "segment" in tensor:
            self.refuse(f"a part of a tensor: {where} {name!r}")
        if any(size < 0 for size in dims):
            self.refuse(f"a negative size: {where} {name!r} {list(dims)}")
        for start, end in spans_of(tensor, "raw_data"):
            if item_bytes and end - start != fact.elements * item_bytes:
                expected = f"{dtype} {list(dims)} needs {fact.elements * item_bytes}"
                self.refuse(f"{where} {name!r} with {end - start} bytes, where {expected}")
        return fact

    def value(self, span: Span) -> ValueFact:
        """Return what an input or output of the graph says of itself.

        Raises:
            WireError: it is malformed, or of a rank that nothing has.
        """
        value = self.message(span, schema.VALUE, "an input or output")
        name = self.text(value, "name")
        if "type" not in value:
            return ValueFact(name=name, dtype="", dims=None)
        kinds = self.message(span_of(value, "type"), schema.TYPE, "a type")
        if set(kinds) != {"tensor"}:
            return ValueFact(name=name, dtype=" or ".join(kinds), dims=None)
        tensor = self.message(span_of(kinds, "tensor"), schema.TENSOR_TYPE, "a tensor type")
        number = number_of(tensor, "elem_type")
        dtype = schema.DTYPES.get(number, (f"type {number}", 0))[0]
        if "shape" not in tensor:
            return ValueFact(name=name, dtype=dtype, dims=None)
        shape = spans_of(self.message(span_of(tensor, "shape"), schema.SHAPE, "a shape"), "dim")
        if len(shape) > MAX_RANK:
            raise WireError(f"a shape of rank {len(shape)} at byte {span[0]}")
        return ValueFact(name=name, dtype=dtype, dims=tuple(map(self._dimension, shape)))

    def _dimension(self, span: Span) -> int | str | None:
        dimension = self.message(span, schema.DIMENSION, "a dimension")
        if len(dimension) > 1:
            raise WireError(f"a dimension with both size and name at byte {span[0]}")
        if "dim_value" in dimension:
            return numbers_of(dimension, "dim_value")[0]
        return self.text(dimension, "dim_param") or None

    def refuse(self, trait: str) -> None:
        """Note why serving would refuse the file, once and up to a limit."""
        if len(self.refusals) < MAX_REFUSALS and trait not in self.refusals:
            self.refusals.append(trait)


def spans_of(record: Record, name: str) -> list[Span]:
    """Return the strings or messages under a name; the schema says which names hold spans."""
    return cast("list[Span]", record.get(name, []))


def span_of(record: Record, name: str) -> Span:
    """Return the string or message under a name that is there."""
    return spans_of(record, name)[0]


def numbers_of(record: Record, name: str) -> tuple[int, ...]:
    """Return int64 values; the wire carries a negative one as its two's complement."""
    values = cast("list[int]", record.get(name, []))
    return tuple(value - 2**64 if value >= 2**63 else value for value in values)


def number_of(record: Record, name: str) -> int:
    """Return an int64, 0 where the field is not there, as protobuf has it."""
    numbers = numbers_of(record, name)
    return numbers[0] if numbers else 0
