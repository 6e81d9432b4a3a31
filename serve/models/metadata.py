"""What the server says about itself and its models, as the protocol's metadata objects.

Rules of this file: pure; objects are plain dicts, ready for JSON. What the protocol has no field for (labels, which
inputs may be left out) stands under `properties`, whose values are strings; lists in them are JSON.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ... import __version__
from ...bundle.axes import fewer_steps
from ...bundle.manifest import TensorSpec
from ..datatypes import datatype_of, wire_shape
from .served_model import ServedModel

PLATFORM = "onnx_onnxv1"
EXTENSIONS = (
    "binary_tensor_data",
    "schedule_policy",
    "sequence",
    "sequence(string_id)",
    "statistics",
    "model_configuration",
)


def server_metadata() -> dict[str, Any]:
    """Return name, version and the protocol's extensions that are spoken here."""
    return {"name": "cellgate", "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(
    model: ServedModel, stream_store: str = "memory", versions: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return a model's metadata; a free dimension is -1.

    Args:
        model: served.
        stream_store: the setting.
        versions: that can be asked for; None: this one.
    """
    return {
        "name": model.name,
        "versions": [model.version] if versions is None else list(versions),
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in model.manifest.graph.inputs],
        "outputs": [_tensor(spec) for spec in model.manifest.graph.outputs],
        "properties": _properties(model, stream_store),
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": wire_shape(spec)}


def _properties(model: ServedModel, stream_store: str) -> dict[str, str]:
    graph, manifest = model.manifest.graph, model.manifest
    properties = {
        "bundle_digest": model.digest,
        "device": model.facts.device,
        "provider": model.facts.provider,
        "precision": model.facts.precision,
        "graph": model.facts.graph,
        "nodes_by_provider": json.dumps(dict(model.facts.placement.counts)),
        "nodes_elsewhere": json.dumps(list(model.facts.placement.elsewhere)),
        "verified": json.dumps(model.verification.holds),
        "verification": model.verification.statement,
        "optional_inputs": json.dumps([spec.name for spec in graph.inputs if spec.name != graph.sequence]),
        "outputs_on_request": json.dumps([pair.output for pair in graph.state]),
        "streamable": json.dumps(manifest.streamable),
    }
    if manifest.streamable and graph.state:
        properties["stream_store"] = stream_store.partition(":")[0]  # the rest may be a path, or hold a password
        properties["streams_durable"] = json.dumps(stream_store != "memory")
    if graph.least_steps > 1:
        properties["least_steps"] = str(graph.least_steps)
    if graph.most_steps is not None:
        properties["most_steps"] = str(graph.most_steps)
    steps = fewer_steps(graph.outputs[0].shape)
    if steps is not None:
        properties["answer_steps"] = json.dumps({"add": steps.add, "divide": steps.divide})
    if graph.columns:
        properties["columns"] = json.dumps([asdict(column) for column in graph.columns])
    if graph.vocabulary_size is not None:
        properties["vocabulary_size"] = str(graph.vocabulary_size)
    if manifest.labels is not None:
        properties["labels"] = json.dumps(list(manifest.labels), ensure_ascii=False)
    if manifest.normalisation is not None:
        properties["normalisation"] = json.dumps({key: list(row) for key, row in manifest.normalisation.items()})
    return properties
