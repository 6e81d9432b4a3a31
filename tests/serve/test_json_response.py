import json

import numpy as np
import pytest

from cellgate.serve.json_response import render_object, render_response


def test_tensors_are_flat_in_row_major_order_and_in_the_order_given():
    outputs = {"y": np.array([[1.5, -2], [0.1, 3]], np.float32), "n": np.array([7], np.int64)}

    found = json.loads(render_response("m", "1", None, outputs))

    assert found == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [1.5, -2.0, 0.1, 3.0]},
            {"name": "n", "datatype": "INT64", "shape": [1], "data": [7]},
        ],
    }


@pytest.mark.parametrize("order", ["C", "F"])
def test_layout_in_memory_does_not_show(order):
    array = np.arange(6, dtype=np.float32).reshape(2, 3).copy(order)

    assert json.loads(render_response("m", "1", "a", {"y": array}))["outputs"][0]["data"] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [1, 65_535, 65_536, 65_537, 140_000])
def test_long_tensors_are_rendered_in_pieces_without_a_seam(count):
    array = np.random.default_rng(count).normal(size=count).astype(np.float32)

    found = json.loads(render_response("m", "1", None, {"y": array}))["outputs"][0]["data"]

    np.testing.assert_array_equal(np.array(found, np.float32), array)


@pytest.mark.parametrize("text", ["", 'a"b', "\r\n\x1b[31m", "δ", "a" * 1024])
def test_id_comes_back_as_it_was(text):
    assert json.loads(render_response("m", "1", text, {}))["id"] == text


def test_objects_are_compact():
    assert render_object({"a": [1, True]}) == b'{"a":[1,true]}'
