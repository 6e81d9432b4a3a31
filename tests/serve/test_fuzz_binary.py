"""Whatever the frame of binary tensors is: never a 5xx, always the error object, and the connection says what it does.

The frames are mutations of valid ones, sent to the hot route, which hands the odd ones to the other; behind both is the
real runtime, which aborts the process on what must not reach it.
"""

import asyncio
import json
import random

import numpy as np
import pytest
import uvicorn
from uvicorn.server import ServerState

from cellgate.serve.app import create_app
from cellgate.serve.connection.hot_surface import http_protocol
from cellgate.serve.settings import Settings

FRAMES = 8000
NAMES = ["x", "tokens", "lengths", "h0", "c0", "y", "", "\x00"]
DATATYPES = ["FP32", "FP16", "FP64", "INT32", "INT64", "BOOL", "BYTES", "BF16", "X", 3, None]
NUMBERS = [0, 1, 2, 3, 5, -1, 16, 2**31 - 1, 2**31, 2**60 + 2, 2**63, 2**64, 1.5, True, None, "1"]
LENGTHS = ["", "-1", "1e9", "99999999999", "0", "00", "5", "+5", "\t7", "7, 7", "x"]
HEADERS = ["Content-Type: text/csv", "Content-Encoding: gzip", "Expect: 100-continue", "Connection: close", "X: y"]


class Transport(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data):
        self.written += bytes(data)

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


def tensor(values, name, array):
    words = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}
    head = {"name": name, "shape": list(array.shape), "datatype": words[array.dtype.name]}
    if values.random() < 0.2:
        return {**head, "data": array.ravel().tolist()}, b""
    return {**head, "parameters": {"binary_data_size": array.nbytes}}, array.tobytes()


def valid_frame(values):
    """Return the parts of a request for "steps" or "tokens": its model, head and blobs."""
    model = values.choice(["steps", "tokens"])
    B, T = values.randint(1, 3), values.randint(1, 6)
    if model == "steps":
        arrays = {"x": np.ones((B, T, 2), np.float32), "lengths": np.full(B, T, np.int32)}
    else:
        arrays = {"tokens": np.ones((B, T), values.choice([np.int32, np.int64]))}
    arrays["h0"] = np.zeros((1, B, 3), np.float32)
    kept = [name for name in arrays if name in ("x", "tokens") or values.random() < 0.5]
    values.shuffle(kept)
    made = [tensor(values, name, arrays[name]) for name in kept]
    head = {"inputs": [item for item, _ in made]}
    if values.random() < 0.5:
        head["parameters"] = {"binary_data_output": values.random() < 0.5}
    if values.random() < 0.3:
        head["outputs"] = [{"name": name} for name in values.sample(["y", "h_n", "c_n"], values.randint(0, 3))]
    return model, head, b"".join(blob for _, blob in made)


def mutate_head(values, head):
    item = values.choice(head["inputs"])
    kind = values.randrange(7)
    if kind == 0:
        item["shape"] = [values.choice(NUMBERS) for _ in range(values.randint(0, 4))]
    elif kind == 1:
        item["datatype"] = values.choice(DATATYPES)
    elif kind == 2:
        item["parameters"] = {"binary_data_size": values.choice(NUMBERS)}
    elif kind == 3:
        item["name"] = values.choice(NAMES)
    elif kind == 4:
        head["inputs"].append(dict(values.choice(head["inputs"])))
    elif kind == 5:
        head["parameters"] = {values.choice(["timeout", "priority", "binary_data_output"]): values.choice(NUMBERS)}
    else:
        item.pop(values.choice(list(item)))


def mutate_bytes(values, data):
    at = values.randrange(len(data) + 1)
    kind = values.randrange(3)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + values.randbytes(values.randint(1, 9)) + data[at:]
    return data[:at] + values.randbytes(4) + data[at + 4 :]


def frame(values):
    """Return the bytes of a request and whether nothing was wrong with it."""
    model, head, blobs = valid_frame(values)
    mutations = values.choice([0, 1, 1, 1, 2])
    kinds = [values.randrange(5) for _ in range(mutations)]
    for _ in range(kinds.count(0) + kinds.count(1)):
        mutate_head(values, head)
    text = json.dumps(head).encode()
    length = str(len(text))
    for kind in kinds:
        if kind == 2:
            text = mutate_bytes(values, text)
        elif kind == 3:
            blobs = mutate_bytes(values, blobs)
        elif kind == 4:
            length = values.choice([*LENGTHS, str(values.randint(0, len(text) + len(blobs) + 2))])
    extra = [values.choice(HEADERS)] if values.random() < 0.1 else []
    lines = [f"POST /v2/models/{model}/infer HTTP/1.1", "Host: a", f"Inference-Header-Content-Length: {length}", *extra]
    body = text + blobs
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body, not kinds and not extra


async def respond(connect, protocol, data):
    """Send a request on a connection, or on a new one where it is closed; return the response and the connection."""
    if protocol is None or protocol.transport.is_closing():
        protocol = connect()
        protocol.connection_made(Transport())
    transport = protocol.transport
    transport.written = b""
    protocol.data_received(data)
    while True:
        response = transport.written.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        head, end, body = response.partition(b"\r\n\r\n")
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if end and len(body) == int(headers[b"content-length"]):
            return int(head.split()[1]), headers, body, protocol
        await asyncio.sleep(0)


def check_answer(status, headers, body):
    """An answer is what it says it is, a refusal is the error object."""
    if status != 200:
        assert status in (400, 415), body
        assert set(json.loads(body)) == {"error", "code"}
        return
    if headers[b"content-type"] == b"application/json":
        head_bytes = len(body)
        assert b"inference-header-content-length" not in headers
    else:
        head_bytes = int(headers[b"inference-header-content-length"])
    outputs = json.loads(body[:head_bytes])["outputs"]
    sizes = [output["parameters"]["binary_data_size"] for output in outputs if "data" not in output]
    assert head_bytes + sum(sizes) == len(body)
    assert outputs


@pytest.mark.parametrize("seed", range(4))
async def test_mutated_frames_are_answered_or_refused(bundle_paths, open_served, seed):
    values = random.Random(seed)
    models, engine = open_served(bundle_paths["steps"], bundle_paths["tokens"])
    settings = Settings(max_steps=64, max_batch_rows=64)
    app = create_app(models, settings, engine)
    config = uvicorn.Config(app, http=http_protocol(app, settings), ws="none", log_config=None)
    config.load()

    def connect():
        loop = asyncio.get_running_loop()
        return config.http_protocol_class(config=config, server_state=ServerState(), app_state={}, _loop=loop)

    statuses, protocol = [], None
    async with app.router.lifespan_context(app):
        for _ in range(FRAMES // 4):
            data, is_valid = frame(values)
            status, headers, body, protocol = await respond(connect, protocol, data)
            check_answer(status, headers, body)
            assert status == 200 or not is_valid, body
            statuses.append(status)

    assert {200, 400} <= set(statuses)
