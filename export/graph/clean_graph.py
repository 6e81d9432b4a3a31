"""Drop from an ONNX model what tells of the machine that made it, and what the runtime would warn about.

Post-condition: no stack trace, path or time in any field; no initializer that nothing reads; names of values stay.
"""

import onnx

from .graph_view import drop_unread


def clean(model: onnx.ModelProto) -> None:
    """Clean a model in place."""
    model.producer_name, model.producer_version, model.doc_string = "cellgate", "", ""
    del model.metadata_props[:]
    model.graph.name = "network"
    _clean_graph(model.graph)
    drop_unread(model.graph)


def _clean_graph(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]
    for part in (graph, *graph.input, *graph.output, *graph.initializer, *graph.node):
        del part.metadata_props[:]
        part.doc_string = ""
    for node in graph.node:
        for attribute in node.attribute:
            attribute.doc_string = ""
            if attribute.type == onnx.AttributeProto.GRAPH:
                _clean_graph(attribute.g)
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.doc_string = ""
