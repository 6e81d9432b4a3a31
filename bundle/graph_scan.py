"""From ONNX bytes to facts, without the onnx package: what is in the file, and what of it serving would refuse.

Rules of this file: it reads every ONNX file that is whole, whatever it holds (a foreign domain is a fact and a refusal,
not an error); it touches no weight's content; every refusal of malformed bytes is a GraphError.
"""

from collections import ChainMap, Counter
from typing import cast

from . import onnx_schema as schema
from .errors import GraphError
from .graph_facts import GraphFacts, RecurrentFact, TensorFact, ValueFact
from .recurrent_check import GATES, recurrent_problems
from .wire import Record, Schema, Span, Wire, WireError

MAX_MODEL_BYTES = 2**31 - 1  # protobuf's limit, and with it onnxruntime's for one file
MAX_SUBGRAPH_DEPTH = 16
MAX_RANK = 64
MAX_REFUSALS = 20

_DEFAULT_DOMAINS = ("", "ai.onnx")  # two names of one domain
# onnxruntime takes its own configuration from this property when ORT_LOAD_CONFIG_FROM_MODEL=1.
_RUNTIME_CONFIG_KEY = "ort_config"

_Scope = ChainMap[str, tuple[int, ...]]  # shapes of stored tensors by name; a subgraph sees those around it


def scan_graph(model: bytes) -> GraphFacts:
    """Find out what an ONNX file holds.

    Args:
        model: the bytes of one ModelProto, shorter than 2 GiB.

    Raises:
        GraphError: not ONNX, cut off, malformed, too large, or nested too deep; the message says where.
    """
    if len(model) > MAX_MODEL_BYTES:
        raise GraphError(f"the model has {len(model)} bytes, expected at most {MAX_MODEL_BYTES}")
    try:
        return _Scan(model).run()
    except WireError as err:
        raise GraphError(f"the model is no whole ONNX file: found {err}") from err


class _Scan:
    """One pass over one file. Collects while it descends, so that subgraphs count like the main graph."""

    def __init__(self, model: bytes) -> None:
        self._wire = Wire(model)
        self._refusals: list[str] = []
        self._operators: set[str] = set()
        self._node_counts: Counter[str] = Counter()
        self._initializers: list[TensorFact] = []
        self._recurrent: list[RecurrentFact] = []

    def run(self) -> GraphFacts:
        model = self._message(self._wire.whole(), schema.MODEL, "the model")
        if "graph" not in model:
            raise WireError("no graph in it")
        opsets = self._opsets(model)
        graph = self._message(_span(model, "graph"), schema.GRAPH, "the graph")
        inputs = tuple(self._value(span) for span in _spans(graph, "input"))
        outputs = tuple(self._value(span) for span in _spans(graph, "output"))
        self._model_traits(model)
        self._graph(graph, ChainMap(), 0)
        return GraphFacts(
            ir_version=_number(model, "ir_version"),
            opset=opsets.get("", 0),
            opsets=opsets,
            producer=f"{self._text(model, 'producer_name')} {self._text(model, 'producer_version')}".strip(),
            operators=tuple(sorted(self._operators)),
            node_counts=dict(self._node_counts),
            initializers=tuple(self._initializers),
            inputs=inputs,
            outputs=outputs,
            recurrent=tuple(self._recurrent),
            refusals=tuple(self._refusals),
        )

    def _model_traits(self, model: Record) -> None:
        for span in _spans(model, "functions"):
            function = self._message(span, schema.FUNCTION, "a function")
            self._refuse(f"function {_qualified(self._text(function, 'domain'), self._text(function, 'name'))}")
        if "training_info" in model:
            self._refuse("training information")
        for span in _spans(model, "metadata_props"):
            key = self._text(self._message(span, schema.PROPERTY, "a metadata entry"), "key")
            if key == _RUNTIME_CONFIG_KEY:
                self._refuse(f"options for the runtime in its metadata ({key})")

    def _opsets(self, model: Record) -> dict[str, int]:
        found: dict[str, int] = {}
        for span in _spans(model, "opset_import"):
            opset = self._message(span, schema.OPSET, "an operator set")
            domain = _canonical(self._text(opset, "domain"))
            if domain in found:
                raise WireError(f"the operator set {domain or 'ai.onnx'} imported twice")
            if domain:
                self._refuse(f"foreign domain {domain} among its operator sets")
            found[domain] = _number(opset, "version")
        return found

    def _graph(self, graph: Record, outer: _Scope, depth: int) -> None:
        """Collect from a graph. Initializers come first: nodes refer to them, wherever they stand in the file."""
        if depth > MAX_SUBGRAPH_DEPTH:
            raise WireError(f"subgraphs nested deeper than {MAX_SUBGRAPH_DEPTH}")
        scope = outer.new_child()
        for span in _spans(graph, "initializer"):
            tensor = self._tensor(span, "initializer")
            if tensor.name in scope.maps[0]:
                self._refuse(f"initializer {tensor.name!r} twice")
            scope[tensor.name] = tensor.dims
            self._initializers.append(tensor)
        if "sparse_initializer" in graph:
            self._refuse("sparse initializers")
        for span in _spans(graph, "input"):
            name = self._text(self._message(span, schema.VALUE, "an input"), "name")
            if name in scope.maps[0]:
                self._refuse(f"initializer {name!r} that is an input too, so that a caller could exchange it")
        for span in _spans(graph, "node"):
            self._node(span, scope, depth)

    def _node(self, span: Span, scope: _Scope, depth: int) -> None:
        node = self._message(span, schema.NODE, "a node")
        operator = self._text(node, "op_type")
        domain = _canonical(self._text(node, "domain"))
        if not operator:
            raise WireError(f"a node without operator at byte {span[0]}")
        self._node_counts[_qualified(domain, operator)] += 1
        if domain:
            self._refuse(f"operator {operator} of the foreign domain {domain}")
        else:
            self._operators.add(operator)
        attributes = self._attributes(node, operator, scope, depth)
        if domain:
            return
        if operator == "Constant" and "t" in attributes.get("value", {}):
            tensor = self._message(_span(attributes["value"], "t"), schema.TENSOR, "a constant")
            for name in _spans(node, "output")[:1]:
                scope[self._wire.text(name)] = _signed_numbers(tensor, "dims")
        elif operator in GATES:
            fact = self._recurrent_fact(node, operator, attributes, scope)
            self._recurrent.append(fact)
            for problem in recurrent_problems(fact):
                self._refuse(problem)

    def _attributes(self, node: Record, operator: str, scope: _Scope, depth: int) -> dict[str, Record]:
        """Return the attributes by name, having descended into whatever graphs and tensors they hold."""
        found: dict[str, Record] = {}
        for span in _spans(node, "attribute"):
            attribute = self._message(span, schema.ATTRIBUTE, "an attribute")
            name = self._text(attribute, "name")
            if name in found:
                self._refuse(f"attribute {name!r} twice in one {operator}")
            found[name] = attribute
            if "ref_attr_name" in attribute:
                self._refuse(f"attribute {name!r} of {operator} that refers to a function's")
            if "sparse_tensor" in attribute or "sparse_tensors" in attribute:
                self._refuse(f"a sparse tensor in attribute {name!r} of {operator}")
            for tensor in (*_spans(attribute, "t"), *_spans(attribute, "tensors")):
                self._tensor(tensor, f"attribute {name!r} of {operator}:")
            for graph in (*_spans(attribute, "g"), *_spans(attribute, "graphs")):
                self._graph(self._message(graph, schema.GRAPH, "a subgraph"), scope, depth + 1)
        return found

    def _recurrent_fact(
        self, node: Record, operator: str, attributes: dict[str, Record], scope: _Scope
    ) -> RecurrentFact:
        names = [self._wire.text(span) for span in _spans(node, "input")]
        shapes = [scope.get(name) if name else None for name in names] + [None] * 8
        size = attributes.get("hidden_size")
        return RecurrentFact(
            operator=operator,
            name=self._text(node, "name"),
            hidden_size=None if size is None else _number(size, "i"),
            direction=self._text(attributes.get("direction", {}), "s") or "forward",
            layout=_number(attributes.get("layout", {}), "i"),
            W=shapes[1],
            R=shapes[2],
            B=shapes[3],
            P=shapes[7] if operator == "LSTM" else None,
        )

    def _tensor(self, span: Span, where: str) -> TensorFact:
        tensor = self._message(span, schema.TENSOR, "a tensor")
        name = self._text(tensor, "name")
        dims = _signed_numbers(tensor, "dims")
        if len(dims) > MAX_RANK:
            raise WireError(f"a tensor of rank {len(dims)} at byte {span[0]}")
        number = _number(tensor, "data_type")
        dtype, item_bytes = schema.DTYPES.get(number, (f"type {number}", 0))
        fact = TensorFact(name=name, dtype=dtype, dims=dims)
        if number not in schema.DTYPES:
            self._refuse(f"an unknown element type {number}: {where} {name!r}")
        if "external_data" in tensor or _number(tensor, "data_location"):
            self._refuse(f"external data: {where} {name!r}")
        if "segment" in tensor:
            self._refuse(f"a part of a tensor: {where} {name!r}")
        if any(size < 0 for size in dims):
            self._refuse(f"a negative size: {where} {name!r} {list(dims)}")
        for start, end in _spans(tensor, "raw_data"):
            if item_bytes and end - start != fact.elements * item_bytes:
                expected = f"{dtype} {list(dims)} needs {fact.elements * item_bytes}"
                self._refuse(f"{where} {name!r} with {end - start} bytes, where {expected}")
        return fact

    def _value(self, span: Span) -> ValueFact:
        value = self._message(span, schema.VALUE, "an input or output")
        name = self._text(value, "name")
        if "type" not in value:
            return ValueFact(name=name, dtype="", dims=None)
        kinds = self._message(_span(value, "type"), schema.TYPE, "a type")
        if set(kinds) != {"tensor"}:
            return ValueFact(name=name, dtype=" or ".join(kinds), dims=None)
        tensor = self._message(_span(kinds, "tensor"), schema.TENSOR_TYPE, "a tensor type")
        number = _number(tensor, "elem_type")
        dtype = schema.DTYPES.get(number, (f"type {number}", 0))[0]
        if "shape" not in tensor:
            return ValueFact(name=name, dtype=dtype, dims=None)
        shape = _spans(self._message(_span(tensor, "shape"), schema.SHAPE, "a shape"), "dim")
        if len(shape) > MAX_RANK:
            raise WireError(f"a shape of rank {len(shape)} at byte {span[0]}")
        return ValueFact(name=name, dtype=dtype, dims=tuple(map(self._dimension, shape)))

    def _dimension(self, span: Span) -> int | str | None:
        dimension = self._message(span, schema.DIMENSION, "a dimension")
        if len(dimension) > 1:
            raise WireError(f"a dimension with both size and name at byte {span[0]}")
        if "dim_value" in dimension:
            return _signed_numbers(dimension, "dim_value")[0]
        return self._text(dimension, "dim_param") or None

    def _message(self, span: Span, fields: Schema, what: str) -> Record:
        record, unknown = self._wire.message(span, fields)
        for number in sorted(unknown):
            self._refuse(f"field {number} of {what}, which this version does not know")
        return record

    def _text(self, record: Record, name: str) -> str:
        spans = _spans(record, name)
        return self._wire.text(spans[0]) if spans else ""

    def _refuse(self, trait: str) -> None:
        if len(self._refusals) < MAX_REFUSALS and trait not in self._refusals:
            self._refusals.append(trait)


def _canonical(domain: str) -> str:
    return "" if domain in _DEFAULT_DOMAINS else domain


def _qualified(domain: str, name: str) -> str:
    return f"{domain}::{name}" if domain else name


def _spans(record: Record, name: str) -> list[Span]:
    """Return the strings or messages under a name; the schema says which names hold spans."""
    return cast("list[Span]", record.get(name, []))


def _span(record: Record, name: str) -> Span:
    return _spans(record, name)[0]


def _signed_numbers(record: Record, name: str) -> tuple[int, ...]:
    """Return int64 values; the wire carries a negative one as its two's complement."""
    values = cast("list[int]", record.get(name, []))
    return tuple(value - 2**64 if value >= 2**63 else value for value in values)


def _number(record: Record, name: str) -> int:
    """Return an int64, 0 where the field is not there, as protobuf has it."""
    numbers = _signed_numbers(record, name)
    return numbers[0] if numbers else 0
