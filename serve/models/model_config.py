"""A model's configuration, in the form that Triton's clients ask for before they send anything.

Rules of this file: pure; a plain dict that is also a `ModelConfig` message by its JSON names, which a test parses.
`max_batch_size` is 0, which in that form says that shapes are whole: a state [L*D, B, H] does not have its rows in
front, so no tensor may leave them out. How many rows a request may have stands under `parameters`.
Source: the model configuration extension, as Triton documents it.
"""

from typing import Any, Final

from ...bundle.manifest import TensorSpec
from ..datatypes import datatype_of, wire_shape
from ..settings import Settings
from .metadata import PLATFORM
from .served_model import ServedModel

_BACKEND: Final = "onnxruntime"
_KINDS: Final = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}


def model_config(model: ServedModel, settings: Settings) -> dict[str, Any]:
    """Return the configuration of a model.

    Args:
        model: served.
        settings: of this server.
    """
    graph, facts = model.manifest.graph, model.facts
    config: dict[str, Any] = {
        "name": model.name,
        "platform": PLATFORM,
        "backend": _BACKEND,
        "version_policy": {"specific": {"versions": [int(model.version)]}},
        "max_batch_size": 0,
        "input": [_input(spec, optional=spec.name != graph.sequence) for spec in graph.inputs],
        "output": [_tensor(spec) for spec in graph.outputs],
        "instance_group": [{"name": model.name, "kind": _KINDS.get(facts.device, "KIND_AUTO"), "count": 1}],
        "default_model_filename": facts.graph,
        "parameters": _parameters(model, settings),
    }
    if model.manifest.streamable:
        config["sequence_batching"] = {"oldest": {"max_candidate_sequences": settings.max_lanes}}
    return config


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": f"TYPE_{datatype_of(spec.dtype)}", "dims": wire_shape(spec)}


def _input(spec: TensorSpec, *, optional: bool) -> dict[str, Any]:
    return {**_tensor(spec), "optional": True} if optional else _tensor(spec)


def _parameters(model: ServedModel, settings: Settings) -> dict[str, dict[str, str]]:
    values = {
        "bundle_digest": model.digest,
        "least_steps": str(model.manifest.graph.least_steps),
        "max_batch_rows": str(settings.max_batch_rows),
        "max_steps": str(model.manifest.graph.at_most(settings.max_steps)),
        "precision": model.facts.precision,
        "provider": model.facts.provider,
        "streamable": str(model.manifest.streamable).lower(),
    }
    return {name: {"string_value": value} for name, value in values.items()}
