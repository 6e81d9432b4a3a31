import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cellgate.bundle.errors import NotABundleError
from cellgate.bundle.golden import GoldenCase
from cellgate.serve.engine import models
from cellgate.serve.engine.models import open_engine_models
from cellgate.serve.models.example_request import example_request
from cellgate.serve.models.metadata import model_metadata
from cellgate.serve.models.served_model import (
    BundlePlace,
    hello_entry,
    parse_place,
    read_served_bundle,
    read_served_bundles,
    served_model_from_hello,
)
from cellgate.serve.models.verification_state import VerificationState
from cellgate.serve.runtime.placement import CPU_PROVIDER, CUDA_PROVIDER, PlacedNode, placement_of
from cellgate.serve.settings import Settings
from cellgate.serve.start_errors import BundleReplacedError, GoldenMismatchError, NameConflictError, ServerStartError

SETTINGS = Settings(device="cpu", threads=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bundles/a", BundlePlace(Path("bundles/a"))),
        ("name=bundles/a", BundlePlace(Path("bundles/a"), "name")),
        ("name=a=b", BundlePlace(Path("a=b"), "name")),
        ("./a=b", BundlePlace(Path("a=b"))),
        ("=a", BundlePlace(Path("=a"))),
    ],
)
def test_place_is_a_path_with_or_without_a_name(text, expected):
    assert parse_place(text) == expected


@pytest.mark.parametrize("text", ["", "name="])
def test_place_without_a_path_is_refused(text):
    with pytest.raises(ServerStartError, match="expected PATH or NAME=PATH"):
        parse_place(text)


def test_name_and_version_are_the_manifests_unless_renamed(bundle_paths):
    plain, renamed = open_engine_models(
        [BundlePlace(bundle_paths["last"]), BundlePlace(bundle_paths["last"], "other")], SETTINGS
    )
    for model in (plain, renamed):
        model.runtime.close()

    assert [(model.served.name, model.served.version) for model in (plain, renamed)] == [("last", "3"), ("other", "3")]
    assert plain.served.golden.passed
    assert plain.served.digest == renamed.served.digest


def test_name_that_no_url_could_carry_is_refused(bundle_paths):
    with pytest.raises(ServerStartError, match=r"model name: expected .*, found 'a/b'"):
        read_served_bundle(BundlePlace(bundle_paths["last"], "a/b"))


def test_two_bundles_of_one_name_are_refused_before_any_is_opened(bundle_paths, monkeypatch):
    opened = []
    monkeypatch.setattr(models, "open_runtime", lambda *_args, **_options: opened.append(1))

    with pytest.raises(NameConflictError, match=r"model name last: expected one bundle, found .*/last and .*/steps"):
        open_engine_models([BundlePlace(bundle_paths["last"]), BundlePlace(bundle_paths["steps"], "last")], SETTINGS)

    assert opened == []


def test_nothing_to_serve_is_refused():
    with pytest.raises(ServerStartError, match="expected at least one"):
        read_served_bundles([])


def test_path_without_a_bundle_is_refused_by_the_reader(tmp_path):
    with pytest.raises(NotABundleError):
        read_served_bundles([BundlePlace(tmp_path)])


def test_bundle_that_this_machine_does_not_reproduce_is_not_served(tmp_path, make_network):
    network = make_network("steps")
    case = network.golden()[0]
    outputs = {**case.outputs, "y": case.outputs["y"] + np.float32(0.001)}
    path = network.write(tmp_path / "b", golden=[GoldenCase(id="off", inputs=case.inputs, outputs=outputs)])

    with pytest.raises(GoldenMismatchError, match=r"bundle steps: .*found y off by 0\.001 at .* of case off"):
        open_engine_models([BundlePlace(path)], SETTINGS)


def test_record_goes_through_json_to_another_process_and_is_the_same_there(bundle_paths):
    place = BundlePlace(bundle_paths["last"], "other")
    (opened,) = open_engine_models([place], SETTINGS)
    opened.runtime.close()

    entry = json.loads(json.dumps(hello_entry(opened.served)))

    assert served_model_from_hello(entry) == opened.served


def test_bundle_that_was_replaced_is_not_read_in_the_place_of_the_one_that_was_served(bundle_paths):
    with pytest.raises(BundleReplacedError, match=r"/last: expected the bundle that was served from there, found"):
        read_served_bundle(BundlePlace(bundle_paths["last"], "last", "0" * 64))


@pytest.fixture
def model(served_models):
    return served_models["last"]


def test_metadata_says_free_axes_labels_and_what_may_be_left_out(model):
    found = model_metadata(model)

    assert (found["name"], found["versions"], found["platform"]) == ("last", ["3"], "onnx_onnxv1")
    assert found["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [-1, -1, 2]}
    assert found["inputs"][1] == {"name": "lengths", "datatype": "INT32", "shape": [-1]}
    assert found["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [-1, 4]}
    properties = found["properties"]
    assert all(isinstance(value, str) for value in properties.values())
    assert properties["labels"] == '["alpha", "beta", "gamma", "δ"]'
    assert properties["normalisation"] == '{"mean": [0.0, 0.5], "std": [1.0, 2.0]}'
    assert properties["optional_inputs"] == '["lengths", "h0", "c0"]'
    assert properties["outputs_on_request"] == '["h_n", "c_n"]'
    assert "vocabulary_size" not in properties


def test_metadata_says_where_nodes_run_how_exactly_and_whether_that_was_verified(model):
    placement = placement_of(
        [PlacedNode("LSTM", "a", CUDA_PROVIDER), PlacedNode("Shape", "b", CPU_PROVIDER)], CUDA_PROVIDER
    )
    state = VerificationState(holds=False, statement="never verified on cuda")
    facts = replace(model.facts, precision="tf32", placement=placement)

    properties = model_metadata(replace(model, facts=facts, verification=state))["properties"]

    assert properties["precision"] == "tf32"
    assert json.loads(properties["nodes_by_provider"]) == {CUDA_PROVIDER: 1, CPU_PROVIDER: 1}
    assert json.loads(properties["nodes_elsewhere"]) == ["Shape b"]
    assert (properties["verified"], properties["verification"]) == ("false", "never verified on cuda")


def test_metadata_says_the_vocabulary_and_no_labels_where_there_are_none(served_models):
    properties = model_metadata(served_models["tokens"])["properties"]

    assert properties["vocabulary_size"] == "5"
    assert not {"labels", "normalisation"} & properties.keys()


def test_example_is_one_row_of_two_steps_with_rounded_values(make_network):
    network = make_network("steps")

    (x, lengths) = example_request(network.signature, tuple(network.golden()))["inputs"]

    assert (x["name"], x["shape"], x["datatype"], len(x["data"])) == ("x", [1, 2, 2], "FP32", 4)
    assert all(value == round(value, 3) for value in x["data"])
    assert lengths == {"name": "lengths", "shape": [1], "datatype": "INT32", "data": [2]}


def test_example_shows_values_like_those_of_real_data_and_not_saturated_or_zero_ones(make_network):
    network = make_network("steps")
    (_, ragged) = network.golden()
    huge = replace(ragged, id="a", inputs={**ragged.inputs, "x": ragged.inputs["x"] * np.float32(1e4)})
    zero = replace(ragged, id="b", inputs={**ragged.inputs, "x": np.zeros_like(ragged.inputs["x"])})

    (x, _) = example_request(network.signature, (huge, zero, ragged))["inputs"]

    assert x["data"] == [round(float(value), 3) for value in ragged.inputs["x"][0, :2].ravel()]


def test_example_of_tokens_holds_integers_and_no_lengths(make_network):
    network = make_network("tokens")

    (tokens,) = example_request(network.signature, tuple(network.golden()[:1]))["inputs"]

    assert (tokens["shape"], tokens["datatype"]) == ([1, 1], "INT64")
    assert type(tokens["data"][0]) is int
