"""Requests for inference and their answers as a client writes and reads them: JSON, and binary tensors behind JSON."""

import json

import numpy as np


def json_request(feeds, outputs=None, **more):
    """Render feeds as the protocol's JSON request."""
    words = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": words[array.dtype.name], "data": array.tolist()}
        for name, array in feeds.items()
    ]
    request = {"inputs": inputs, **more}
    if outputs is not None:
        request["outputs"] = [{"name": name} for name in outputs]
    return request


def binary_request(feeds, outputs=None, in_json=(), **more):
    """Render feeds as a request with binary tensors: the body and the length of its head."""
    words = {"float32": "FP32", "float16": "FP16", "int32": "INT32", "int64": "INT64"}
    inputs = []
    for name, array in feeds.items():
        tensor = {"name": name, "shape": list(array.shape), "datatype": words[array.dtype.name]}
        if name in in_json:
            tensor["data"] = array.tolist()
        else:
            tensor["parameters"] = {"binary_data_size": array.nbytes}
        inputs.append(tensor)
    request = {"inputs": inputs, **more}
    if outputs is not None:
        request["outputs"] = outputs
    head = json.dumps(request).encode()
    return head + b"".join(array.tobytes() for name, array in feeds.items() if name not in in_json), len(head)


def arrays_of_binary(response):
    """Read a response with binary tensors back into arrays."""
    dtypes = {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64}
    head_bytes = int(response.headers["inference-header-content-length"])
    at, found = head_bytes, {}
    for output in json.loads(response.content[:head_bytes])["outputs"]:
        if "data" in output:
            found[output["name"]] = np.array(output["data"], dtypes[output["datatype"]]).reshape(output["shape"])
            continue
        size = output["parameters"]["binary_data_size"]
        array = np.frombuffer(response.content[at : at + size], dtypes[output["datatype"]])
        found[output["name"]], at = array.reshape(output["shape"]), at + size
    assert at == len(response.content)
    return found


def arrays_of_json(response):
    """Read a JSON response back into arrays."""
    dtypes = {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64}
    return {
        output["name"]: np.array(output["data"], dtype=dtypes[output["datatype"]]).reshape(output["shape"])
        for output in response["outputs"]
    }
