"""From ONNX bytes to facts, without the onnx package: what is in the file, and what of it serving would refuse.

Rules of this file: it reads every ONNX file that is whole, whatever it holds (a foreign domain is a fact and a refusal,
not an error); it touches no weight's content; every refusal of malformed bytes is a GraphError.
"""

from collections import ChainMap, Counter

from . import onnx_schema as schema
from .errors import GraphError
from .graph_facts import GraphFacts, RecurrentFact, TensorFact
from .onnx_file import OnnxFile, number_of, numbers_of, span_of, spans_of
from .recurrent_check import GATES, recurrent_problems
from .wire import Record, Span, WireError

MAX_MODEL_BYTES = 2**31 - 1  # protobuf's limit, and with it onnxruntime's for one file
MAX_SUBGRAPH_DEPTH = 16

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
        self._file = OnnxFile(model)
        self._operators: set[str] = set()
        self._node_counts: Counter[str] = Counter()
        self._initializers: list[TensorFact] = []
        self._recurrent: list[RecurrentFact] = []

    def run(self) -> GraphFacts:
        model = self._file.message(self._file.whole(), schema.MODEL, "the model")
        if "graph" not in model:
            raise WireError("no graph in it")
        opsets = self._opsets(model)
        graph = self._file.message(span_of(model, "graph"), schema.GRAPH, "the graph")
        inputs = tuple(self._file.value(span) for span in spans_of(graph, "input"))
        outputs = tuple(self._file.value(span) for span in spans_of(graph, "output"))
        self._model_traits(model)
        self._graph(graph, ChainMap(), 0)
        return GraphFacts(
            ir_version=number_of(model, "ir_version"),
            opset=opsets.get("", 0),
            opsets=opsets,
            producer=f"{self._file.text(model, 'producer_name')} {self._file.text(model, 'producer_version')}".strip(),
            operators=tuple(sorted(self._operators)),
            node_counts=dict(self._node_counts),
            initializers=tuple(self._initializers),
            inputs=inputs,
            outputs=outputs,
            recurrent=tuple(self._recurrent),
            refusals=tuple(self._file.refusals),
        )

    def _model_traits(self, model: Record) -> None:
        for span in spans_of(model, "functions"):
            function = self._file.message(span, schema.FUNCTION, "a function")
            domain, name = self._file.text(function, "domain"), self._file.text(function, "name")
            self._file.refuse(f"function {_qualified(domain, name)}")
        if "training_info" in model:
            self._file.refuse("training information")
        for span in spans_of(model, "metadata_props"):
            key = self._file.text(self._file.message(span, schema.PROPERTY, "a metadata entry"), "key")
            if key == _RUNTIME_CONFIG_KEY:
                self._file.refuse(f"options for the runtime in its metadata ({key})")

    def _opsets(self, model: Record) -> dict[str, int]:
        found: dict[str, int] = {}
        for span in spans_of(model, "opset_import"):
            opset = self._file.message(span, schema.OPSET, "an operator set")
            domain = _canonical(self._file.text(opset, "domain"))
            if domain in found:
                raise WireError(f"the operator set {domain or 'ai.onnx'} imported twice")
            if domain:
                self._file.refuse(f"foreign domain {domain} among its operator sets")
            found[domain] = number_of(opset, "version")
        return found

    def _graph(self, graph: Record, outer: _Scope, depth: int) -> None:
        """Collect from a graph. Initializers come first: nodes refer to them, wherever they stand in the file."""
        if depth > MAX_SUBGRAPH_DEPTH:
            raise WireError(f"subgraphs nested deeper than {MAX_SUBGRAPH_DEPTH}")
        scope = outer.new_child()
        for span in spans_of(graph, "initializer"):
            tensor = self._file.tensor(span, "initializer")
            if tensor.name in scope.maps[0]:
                self._file.refuse(f"initializer {tensor.name!r} twice")
            scope[tensor.name] = tensor.dims
            self._initializers.append(tensor)
        if "sparse_initializer" in graph:
            self._file.refuse("sparse initializers")
        for span in spans_of(graph, "input"):
            name = self._file.text(self._file.message(span, schema.VALUE, "an input"), "name")
            if name in scope.maps[0]:
                self._file.refuse(f"initializer {name!r} that is an input too, so that a caller could exchange it")
        for span in spans_of(graph, "node"):
            self._node(span, scope, depth)

    def _node(self, span: Span, scope: _Scope, depth: int) -> None:
        node = self._file.message(span, schema.NODE, "a node")
        operator = self._file.text(node, "op_type")
        domain = _canonical(self._file.text(node, "domain"))
        if not operator:
            raise WireError(f"a node without operator at byte {span[0]}")
        self._node_counts[_qualified(domain, operator)] += 1
        if domain:
            self._file.refuse(f"operator {operator} of the foreign domain {domain}")
        else:
            self._operators.add(operator)
        attributes = self._attributes(node, operator, scope, depth)
        if domain:
            return
        if operator == "Constant" and "t" in attributes.get("value", {}):
            tensor = self._file.message(span_of(attributes["value"], "t"), schema.TENSOR, "a constant")
            for name in spans_of(node, "output")[:1]:
                scope[self._file.name(name)] = numbers_of(tensor, "dims")
        elif operator in GATES:
            fact = self._recurrent_fact(node, operator, attributes, scope)
            self._recurrent.append(fact)
            for problem in recurrent_problems(fact):
                self._file.refuse(problem)

    def _attributes(self, node: Record, operator: str, scope: _Scope, depth: int) -> dict[str, Record]:
        """Return the attributes by name, having descended into whatever graphs and tensors they hold."""
        found: dict[str, Record] = {}
        for span in spans_of(node, "attribute"):
            attribute = self._file.message(span, schema.ATTRIBUTE, "an attribute")
            name = self._file.text(attribute, "name")
            if name in found:
                self._file.refuse(f"attribute {name!r} twice in one {operator}")
            found[name] = attribute
            if "ref_attr_name" in attribute:
                self._file.refuse(f"attribute {name!r} of {operator} that refers to a function's")
            if "sparse_tensor" in attribute or "sparse_tensors" in attribute:
                self._file.refuse(f"a sparse tensor in attribute {name!r} of {operator}")
            for tensor in (*spans_of(attribute, "t"), *spans_of(attribute, "tensors")):
                self._file.tensor(tensor, f"attribute {name!r} of {operator}:")
            for graph in (*spans_of(attribute, "g"), *spans_of(attribute, "graphs")):
                self._graph(self._file.message(graph, schema.GRAPH, "a subgraph"), scope, depth + 1)
        return found

    def _recurrent_fact(
        self, node: Record, operator: str, attributes: dict[str, Record], scope: _Scope
    ) -> RecurrentFact:
        names = [self._file.name(span) for span in spans_of(node, "input")]
        shapes = [scope.get(name) if name else None for name in names] + [None] * 8
        size = attributes.get("hidden_size")
        return RecurrentFact(
            operator=operator,
            name=self._file.text(node, "name"),
            hidden_size=None if size is None else number_of(size, "i"),
            direction=self._file.text(attributes.get("direction", {}), "s") or "forward",
            layout=number_of(attributes.get("layout", {}), "i"),
            W=shapes[1],
            R=shapes[2],
            B=shapes[3],
            P=shapes[7] if operator == "LSTM" else None,
        )


def _canonical(domain: str) -> str:
    return "" if domain in _DEFAULT_DOMAINS else domain


def _qualified(domain: str, name: str) -> str:
    return f"{domain}::{name}" if domain else name
