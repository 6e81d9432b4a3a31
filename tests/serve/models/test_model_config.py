"""A model's configuration, read by the message that Triton's own client has for it."""

import warnings
from dataclasses import replace

import pytest

from cellgate.serve.models.metadata import model_metadata
from cellgate.serve.models.model_config import model_config
from cellgate.serve.settings import Settings


@pytest.fixture(scope="module")
def parse():
    """Return a reader of configurations that refuses an unknown field or value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the generated code, at its import
        messages = pytest.importorskip("tritonclient.grpc.model_config_pb2", exc_type=ImportError)
        from google.protobuf import json_format
    return lambda config: json_format.ParseDict(config, messages.ModelConfig())


@pytest.mark.parametrize("name", ["steps", "last", "tokens"])
def test_triton_s_own_message_takes_it_and_it_agrees_with_the_metadata(served_models, parse, name):
    model = served_models[name]
    message, metadata = parse(model_config(model, Settings())), model_metadata(model)

    assert (message.name, message.platform, message.max_batch_size) == (name, metadata["platform"], 0)
    for tensors, described in ((message.input, metadata["inputs"]), (message.output, metadata["outputs"])):
        words = tensors[0].DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
        found = [(tensor.name, list(tensor.dims), words[tensor.data_type].name) for tensor in tensors]
        assert found == [(one["name"], one["shape"], f"TYPE_{one['datatype']}") for one in described]
    optional = {tensor.name for tensor in message.input if tensor.optional}
    assert optional == {tensor.name for tensor in message.input} - {"x", "tokens"}
    assert message.parameters["max_batch_rows"].string_value == str(Settings().max_batch_rows)


def test_a_network_that_streams_is_batched_by_sequence(served_models, parse):
    model = served_models["steps"]
    whole = replace(model, manifest=replace(model.manifest, streamable=False))
    streaming = parse(model_config(model, Settings(max_lanes=7)))

    assert streaming.WhichOneof("scheduling_choice") == "sequence_batching"
    assert streaming.sequence_batching.oldest.max_candidate_sequences == 7
    assert parse(model_config(whole, Settings())).WhichOneof("scheduling_choice") is None


@pytest.mark.parametrize(("device", "kind"), [("cpu", "KIND_CPU"), ("cuda", "KIND_GPU"), ("npu", "KIND_AUTO")])
def test_the_device_is_said_in_triton_s_word(served_models, device, kind):
    model = served_models["last"]
    config = model_config(replace(model, facts=replace(model.facts, device=device)), Settings())

    assert config["instance_group"] == [{"name": "last", "kind": kind, "count": 1}]


def test_what_really_runs_is_said_and_not_what_the_bundle_was_exported_in(served_models):
    model = served_models["last"]
    config = model_config(
        replace(model, facts=replace(model.facts, precision="tf32", graph="model.cuda.onnx")), Settings()
    )

    assert config["parameters"]["precision"] == {"string_value": "tf32"}
    assert config["default_model_filename"] == "model.cuda.onnx"


async def test_it_is_answered_with_and_without_a_version(connect, parse):
    async with connect() as client:
        found = [(await client.get(f"/v2/models/last{version}/config")).json() for version in ("", "/versions/3")]
        missing = await client.get("/v2/models/last/versions/4/config")

    assert found[0] == found[1]
    assert parse(found[0]).name == "last"
    assert missing.status_code == 404
