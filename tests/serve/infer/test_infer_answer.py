"""The engine's arrays to bytes: JSON, binary tensors, both."""

import json

import numpy as np
import pytest

from cellgate.bundle.manifest import GraphSignature, TensorSpec
from cellgate.serve.errors import EngineError
from cellgate.serve.infer.answer_form import make_form
from cellgate.serve.infer.infer_answer import render_answer
from cellgate.serve.infer.input_check import BatchSize

DTYPES = {"y": "float32", "n": "int64", "half": "float16"}
SIGNATURE = GraphSignature(
    inputs=(),
    outputs=tuple(TensorSpec(name=name, dtype=dtype, shape=("B", "T")) for name, dtype in DTYPES.items()),
    sequence="x",
    lengths=None,
)
MODEL = {"model_name": "m", "model_version": "1"}
ONE_ROW = BatchSize(1, 3)
ANSWER = {
    "y": np.array([[1.5, -2, 0.1]], np.float32),
    "n": np.array([[7, 8, 9]]),
    "half": np.array([[1, 2, 0.5]], np.float16),
}


def form_of(model=MODEL, size=ONE_ROW, **wanted):
    return make_form(model, SIGNATURE, size, list(wanted.items()))


def test_json_answer_is_flat_and_in_the_order_asked_for():
    found = render_answer(form_of(n=False, y=False), ANSWER)

    assert (found.head_bytes, found.media_type, found.headers) == (None, "application/json", {})
    assert found.join() == (
        b'{"model_name":"m","model_version":"1","outputs":['
        b'{"name":"n","datatype":"INT64","shape":[1,3],"data":[7,8,9]},'
        b'{"name":"y","datatype":"FP32","shape":[1,3],"data":[1.5,-2.0,0.1]}]}'
    )
    assert found.size_bytes == len(found.join())


def test_binary_answer_is_a_head_and_the_tensors_in_its_order():
    found = render_answer(form_of({**MODEL, "id": 'a"b'}, half=True, y=True, n=True), ANSWER)

    body = found.join()
    head = json.loads(body[: found.head_bytes])
    assert head == {
        **MODEL,
        "id": 'a"b',
        "outputs": [
            {"name": "half", "datatype": "FP16", "shape": [1, 3], "parameters": {"binary_data_size": 6}},
            {"name": "y", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}},
            {"name": "n", "datatype": "INT64", "shape": [1, 3], "parameters": {"binary_data_size": 24}},
        ],
    }
    assert body[found.head_bytes :] == b"".join(ANSWER[name].tobytes() for name in ("half", "y", "n"))
    assert found.headers == {"Inference-Header-Content-Length": str(found.head_bytes)}
    assert (found.media_type, found.size_bytes) == ("application/octet-stream", len(body))


def test_some_outputs_may_be_binary_and_others_not():
    found = render_answer(form_of(y=True, n=False), ANSWER)

    body = found.join()
    y, n = json.loads(body[: found.head_bytes])["outputs"]
    assert "data" not in y
    assert n["data"] == [7, 8, 9]
    assert body[found.head_bytes :] == ANSWER["y"].tobytes()
    assert found.size_bytes == len(body)


def test_layout_in_memory_does_not_show():
    answer = {"y": np.arange(6, dtype=np.float32).reshape(3, 2).T}

    body = render_answer(form_of(size=BatchSize(2, 3), y=True), answer).join()

    assert body.endswith(np.array([0, 2, 4, 1, 3, 5], "<f4").tobytes())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, r"outputs\.y: expected float32 \[1, 3\], found none"),
        ({"y": ANSWER["y"].T}, r"found float32 \[3, 1\]"),
        ({"y": ANSWER["y"].astype(np.float64)}, r"found float64 \[1, 3\]"),
        ({"y": np.array([[1, np.nan, 0]], np.float32)}, r"outputs\.y: expected finite values"),
        ({"y": np.array([[1, 0, -np.inf]], np.float32)}, r"outputs\.y: expected finite values"),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_answer_that_no_client_should_see_is_a_fault_naming_the_output(answer, message, binary):
    with pytest.raises(EngineError, match=message):
        render_answer(form_of(y=binary), answer)


@pytest.mark.parametrize("text", ["", 'a"b', "\r\n\x1b[31m", "δ", "a" * 1024])
@pytest.mark.parametrize("binary", [False, True])
def test_id_comes_back_as_it_was(text, binary):
    found = render_answer(form_of({**MODEL, "id": text}, y=binary), ANSWER)

    assert json.loads(found.join()[: found.head_bytes])["id"] == text
