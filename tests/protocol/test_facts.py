"""Health and metadata: HTTP and gRPC say the same."""

import json

import pytest
from google.protobuf import json_format

from cellgate.serve.rpc import health_pb2
from cellgate.serve.rpc import inference_pb2 as messages

from .rpc_wire import call


def ask(channel, method, answer, request=b"", **options):
    found, status = call(channel, method, request, **options)
    assert status is None, status
    return json_format.MessageToDict(answer.FromString(found), preserving_proto_field_name=True)


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_a_server_that_answers_is_live_and_ready(http, path):
    response = http.get(path)

    assert response.status_code == 200
    assert response.json() == {path.rpartition("/")[2]: True}


def test_grpc_says_live_and_ready_too(channel):
    assert ask(channel, "ServerLive", messages.ServerLiveResponse) == {"live": True}
    assert ask(channel, "ServerReady", messages.ServerReadyResponse) == {"ready": True}


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
def test_the_health_check_of_grpc_itself_says_serving(channel, service):
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    found = ask(channel, "Check", health_pb2.HealthCheckResponse, request, service="/grpc.health.v1.Health")

    assert found == {"status": "SERVING"}


def test_the_health_of_an_unknown_service_is_not_found(channel):
    request = health_pb2.HealthCheckRequest(service="other").SerializeToString()
    _, status = call(channel, "Check", request, service="/grpc.health.v1.Health")

    assert status.status == "NOT_FOUND"


def test_server_metadata_is_the_same(http, channel):
    found = http.get("/v2").json()

    assert {"name", "version", "extensions"} <= found.keys()
    assert ask(channel, "ServerMetadata", messages.ServerMetadataResponse) == found


def test_model_metadata_is_the_same(http, channel, models):
    for facts in models:
        for version in ("", facts.version):
            path = f"/v2/models/{facts.name}" + (f"/versions/{version}" if version else "")
            expected = http.get(path).json()
            request = messages.ModelMetadataRequest(name=facts.name, version=version).SerializeToString()
            found = ask(channel, "ModelMetadata", messages.ModelMetadataResponse, request)
            for tensor in (*found["inputs"], *found["outputs"]):
                tensor["shape"] = [int(axis) for axis in tensor["shape"]]  # 64 bits are text in JSON

            assert found == expected


def test_a_model_is_ready_by_both(http, channel, models):
    for facts in models:
        request = messages.ModelReadyRequest(name=facts.name).SerializeToString()

        assert http.get(f"/v2/models/{facts.name}/ready").json()["ready"] is True
        assert ask(channel, "ModelReady", messages.ModelReadyResponse, request) == {"ready": True}


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("ModelReady", messages.ModelReadyRequest),
        ("ModelMetadata", messages.ModelMetadataRequest),
        ("ModelConfig", messages.ModelConfigRequest),
        ("ModelStatistics", messages.ModelStatisticsRequest),
    ],
)
@pytest.mark.parametrize("version", ["", "999"])
def test_an_unknown_model_or_version_is_not_found(channel, models, method, kind, version):
    request = kind(name=models[0].name if version else "no-such-model", version=version)
    _, status = call(channel, method, request.SerializeToString())

    assert status.status == "NOT_FOUND"
    assert status.code == "unknown_model"


@pytest.mark.parametrize("path", ["/v2/models/no-such-model", "/v2/models/no-such-model/ready"])
def test_an_unknown_model_is_not_found_by_http(http, path):
    response = http.get(path)

    assert response.status_code == 404
    assert json.loads(response.content)["error"]


def test_the_configuration_names_every_tensor_and_which_may_be_left_out(channel, models):
    for facts in models:
        request = messages.ModelConfigRequest(name=facts.name).SerializeToString()
        config = ask(channel, "ModelConfig", messages.ModelConfigResponse, request)["config"]

        assert config["name"] == facts.name
        assert [one["name"] for one in config["input"]] == list(facts.inputs)
        assert [one["name"] for one in config["output"]] == list(facts.outputs)
        assert tuple(one["name"] for one in config["input"] if one.get("optional")) == facts.optional
        for one in (*config["input"], *config["output"]):
            tensor = {**facts.inputs, **facts.outputs}[one["name"]]
            assert [int(axis) for axis in one["dims"]] == tensor["shape"]
            assert one["data_type"] == f"TYPE_{tensor['datatype']}"


def test_statistics_count_what_was_asked(channel, models, http):
    facts = models[0]
    request = messages.ModelStatisticsRequest(name=facts.name).SerializeToString()

    def counted():
        (found,) = ask(channel, "ModelStatistics", messages.ModelStatisticsResponse, request)["model_stats"]
        assert found["name"] == facts.name
        return int(found.get("inference_count", 0))

    before = counted()
    http.post(
        f"/v2/models/{facts.name}/infer",
        json={
            "inputs": [
                {"name": one.name, "shape": list(one.shape), "datatype": one.datatype, "data": one.elements.tolist()}
                for one in facts.request(rows=3).inputs
            ]
        },
    ).raise_for_status()

    assert counted() >= before + 3


def test_the_index_lists_every_model(channel, models):
    found = ask(channel, "RepositoryIndex", messages.RepositoryIndexResponse)["models"]

    assert {(one["name"], one["state"]) for one in found} >= {(facts.name, "READY") for facts in models}


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_whoever_reaches_the_port_cannot_load_or_unload(channel, method):
    _, status = call(channel, method, messages.RepositoryModelLoadRequest(model_name="x").SerializeToString())

    assert status.status in ("PERMISSION_DENIED", "UNIMPLEMENTED", "UNAUTHENTICATED")
