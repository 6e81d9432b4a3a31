"""A model of the protocol that checks its state, written without the code under test."""

import json
from dataclasses import dataclass, field

import numpy as np

I = 3  # features
H = 2  # width of the state


@dataclass
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    headers: dict
    body: bytes
    inputs: dict = field(default_factory=dict)
    parameters: dict = field(default_factory=dict)
    outputs: list = field(default_factory=list)


def read_infer(asked):
    """Take the tensors of an inference request apart, from the protocol's page and nothing else."""
    size = asked.headers.get("inference-header-content-length")
    head = json.loads(asked.body if size is None else asked.body[: int(size)])
    place = len(asked.body) if size is None else int(size)
    for tensor in head["inputs"]:
        dtype = {"FP32": "<f4", "INT32": "<i4", "INT64": "<i8"}[tensor["datatype"]]
        if "data" in tensor:
            values = np.array(tensor["data"], dtype)
        else:
            end = place + tensor["parameters"]["binary_data_size"]
            values, place = np.frombuffer(asked.body[place:end], dtype), end
        asked.inputs[tensor["name"]] = values.reshape(tensor["shape"])
    assert place == len(asked.body), "bytes after the last tensor"
    asked.parameters = head.get("parameters", {})
    asked.outputs = [output["name"] for output in head.get("outputs", [])]
    return asked


def toy_model(asked):
    """State: h adds up what was seen, c counts steps. Answers in the form of the question; y is h."""
    x, B = asked.inputs["x"], len(asked.inputs["x"])
    lengths = asked.inputs.get("lengths", np.full(B, x.shape[1]))
    mask = np.arange(x.shape[1]) < lengths[:, None]
    assert not x[~mask].any(), "padding is zero"
    h = asked.inputs.get("h0", np.zeros((1, B, H), np.float32)) + (x.sum(2) * mask).sum(1)[None, :, None]
    c = asked.inputs.get("c0", np.zeros((1, B, H), np.float32)) + lengths[None, :, None]
    return {"y": h[0].astype("<f4"), "h_n": h.astype("<f4"), "c_n": c.astype("<f4")}


def render(asked, found):
    """Return an inference response."""
    names = asked.outputs or ["y"]
    arrays = {name: found[name] for name in names}
    head = [{"name": name, "datatype": "FP32", "shape": list(array.shape)} for name, array in arrays.items()]
    if not asked.parameters.get("binary_data_output"):
        for tensor, array in zip(head, arrays.values(), strict=True):
            tensor["data"] = array.reshape(-1).tolist()
        return json.dumps({"model_name": "toy", "outputs": head}).encode()
    for tensor, array in zip(head, arrays.values(), strict=True):
        tensor["parameters"] = {"binary_data_size": array.nbytes}
    return json.dumps({"model_name": "toy", "outputs": head}).encode() + b"".join(a.tobytes() for a in arrays.values())


def metadata(**changes):
    tensor = {"datatype": "FP32"}
    found = {
        "name": "toy",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "x", **tensor, "shape": [-1, -1, I]},
            {"name": "lengths", "datatype": "INT32", "shape": [-1]},
            {"name": "h0", **tensor, "shape": [1, -1, H]},
            {"name": "c0", **tensor, "shape": [1, -1, H]},
        ],
        "outputs": [
            {"name": "y", **tensor, "shape": [-1, H]},
            {"name": "h_n", **tensor, "shape": [1, -1, H]},
            {"name": "c_n", **tensor, "shape": [1, -1, H]},
        ],
        "properties": {
            "optional_inputs": '["lengths", "h0", "c0"]',
            "outputs_on_request": '["h_n", "c_n"]',
            "streamable": "true",
        },
    }
    return {**found, **changes}
