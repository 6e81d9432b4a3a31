import json

import numpy as np
import pytest

from cellgate.serve.infer.json_response import render_numbers, render_object


def test_arrays_are_flat_in_row_major_order():
    assert render_numbers(np.array([[1.5, -2], [0.25, 3]], np.float32)) == b"[1.5,-2.0,0.25,3.0]"
    assert render_numbers(np.array([[7], [8]], np.int64)) == b"[7,8]"


@pytest.mark.parametrize("order", ["C", "F"])
def test_layout_in_memory_does_not_show(order):
    array = np.arange(6, dtype=np.float32).reshape(2, 3).copy(order)

    assert json.loads(render_numbers(array)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [1, 65_535, 65_536, 65_537, 140_000])
def test_long_arrays_are_rendered_in_pieces_without_a_seam(count):
    array = np.random.default_rng(count).normal(size=count).astype(np.float32)

    np.testing.assert_array_equal(np.array(json.loads(render_numbers(array)), np.float32), array)


def test_objects_are_compact():
    assert render_object({"a": [1, True]}) == b'{"a":[1,true]}'
