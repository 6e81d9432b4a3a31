"""A request over HTTP: JSON nested or flat, or binary tensors; and its answer read back."""

import json

import httpx
import numpy as np

from .breach import breach
from .request import DTYPES, Answer

_BROKEN = (KeyError, IndexError, ValueError, TypeError, AttributeError)  # what reading a wrong answer raises


class RestWire:
    """One way to write requests down.

    Args:
        client: with the server's address.
        form: "nested", "flat" or "binary".
    """

    can_say_not_a_number = False

    def __init__(self, client: httpx.Client, form: str) -> None:
        self._client = client
        self._form = form
        self.can_say_not_a_number = form == "binary"

    def infer(self, request):
        inputs = [self._input(tensor) for tensor in request.inputs]
        head = {"inputs": inputs}
        if request.id:
            head["id"] = request.id
        if request.parameters or self._form == "binary":
            more = {"binary_data_output": True} if self._form == "binary" else {}
            head["parameters"] = {**request.parameters, **more}
        if request.outputs:
            head["outputs"] = [{"name": name} for name in request.outputs]
        text = json.dumps(head).encode()
        headers = {}
        if self._form == "binary":
            headers["Inference-Header-Content-Length"] = str(len(text))
            text += b"".join(_bytes_of(tensor) for tensor in request.inputs)
        version = f"/versions/{request.version}" if request.version else ""
        return read_answer(
            self._client.post(f"/v2/models/{request.model}{version}/infer", content=text, headers=headers)
        )

    def _input(self, tensor):
        found = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
        if self._form == "binary":
            found["parameters"] = {"binary_data_size": len(_bytes_of(tensor))}
        else:
            array = tensor.elements if self._form == "nested" else tensor.elements.reshape(-1)
            found["data"] = array.tolist()
        return found


def read_answer(response: httpx.Response) -> Answer:
    """Read a response, whatever it is; one that is neither an answer nor an error object is a failure of the server."""
    is_good = response.status_code == 200
    try:
        return _outputs_of(response) if is_good else _error_of(response)
    except _BROKEN as err:
        found = f"{type(err).__name__}: {err} in {response.content[:200]!r}"
    expected = "outputs, each with name, datatype, shape and its elements" if is_good else "an error object"
    return breach(f"answer {response.status_code} to {response.request.url.path}", expected, found)


def _error_of(response):
    found = response.json()
    if not response.headers["content-type"].startswith("application/json") or not isinstance(found["error"], str):
        raise ValueError(response.headers["content-type"])
    return Answer(response.status_code, found["error"], found.get("code"))


def _outputs_of(response):
    head_bytes = response.headers.get("inference-header-content-length")
    at = len(response.content) if head_bytes is None else int(head_bytes)
    head = json.loads(response.content[:at])
    outputs = {}
    for output in head["outputs"]:
        dtype = DTYPES[output["datatype"]]
        if "data" in output:
            flat = np.array(output["data"], dtype)
        else:
            size = output["parameters"]["binary_data_size"]
            flat, at = np.frombuffer(response.content[at : at + size], dtype), at + size
        outputs[output["name"]] = flat.reshape(output["shape"])
    if at != len(response.content):
        raise ValueError(f"{len(response.content) - at} bytes too many")
    fields = {name: head[name] for name in ("model_name", "model_version", "id") if name in head}
    return Answer(200, fields=fields, outputs=outputs)


def _bytes_of(tensor):
    return tensor.elements.astype(DTYPES.get(tensor.datatype, np.dtype("<f4"))).tobytes()
