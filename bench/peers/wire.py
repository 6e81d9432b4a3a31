"""What goes over the wire: the bytes of a request and the scores in an answer, for each kind of body.

Rules of this file: pure; bytes in, bytes out. Every request is made before the load starts.
"""

import base64
import json
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["raw", "base64", "base64_list", "open_inference"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wire:
    """How a server is spoken to.

    Attributes:
        kind: raw (float32 [T, I] in, float32 [9] out); base64 in a JSON object, or in a list in it, with lists of
            numbers out; or the Open Inference Protocol with binary tensors both ways.
        path: of the URL; ``{name}`` in it stands for the workload's.
    """

    kind: Kind
    path: str

    def named(self, name: str) -> "Wire":
        """Return the wire with the workload's name in its path."""
        return replace(self, path=self.path.format(name=name))

    def request(self, sequence: NDArray[np.float32], port: int) -> bytes:
        """Return the whole request, head and body, of one sequence [T, I]."""
        raw = sequence.tobytes()
        headers = {"Content-Type": "application/octet-stream"}
        if self.kind == "raw":
            body = raw
        elif self.kind == "open_inference":
            head = _inference_head(sequence.shape, len(raw))
            headers["Inference-Header-Content-Length"] = str(len(head))
            body = head + raw
        else:
            text = base64.b64encode(raw).decode()
            body = json.dumps({"x": text if self.kind == "base64" else [text]}).encode()
            headers["Content-Type"] = "application/json"
        lines = [f"POST {self.path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body

    def scores(self, head: bytes, body: bytes) -> NDArray[np.float32]:
        """Return the 9 scores of an answer.

        Args:
            head: status line and headers.
            body: as long as the headers say.

        Raises:
            ValueError: the answer is not of this kind.
        """
        if self.kind == "raw":
            return np.frombuffer(body, np.float32)
        if self.kind == "open_inference":
            return np.frombuffer(body[int(_header(head, b"inference-header-content-length")) :], np.float32)
        document = json.loads(body)
        return np.array(document["y"] if self.kind == "base64" else document[0], np.float32)


def _inference_head(shape: tuple[int, ...], size: int) -> bytes:
    x = {"name": "x", "shape": [1, *shape], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    y = {"name": "y", "parameters": {"binary_data": True}}
    return json.dumps({"inputs": [x], "outputs": [y]}, separators=(",", ":")).encode()


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    raise ValueError(f"the answer has no header {name.decode()}")
