"""Requests of which some carry a timeout, in the file that `open_loop` and `grpc_loop` read."""

import argparse
import json
from pathlib import Path
from typing import Final

import numpy as np
from served import HOST, Server

from cellgate.client.address import Address, parse_address
from cellgate.client.infer_request import WholePart
from cellgate.client.jobs import JobPlan, make_jobs
from cellgate.client.lengths import parse_lengths
from cellgate.client.model_facts import read_model
from cellgate.serve.rpc.inference_pb2 import ModelInferRequest

TIMEOUTS_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


def write_jobs(server: Server, given: argparse.Namespace, path: Path) -> None:
    """Write requests for the open loop: those of `cellgate bench`, a share of them with a timeout."""
    address = parse_address(f"http://{HOST}:{server.port}")
    payloads, timeouts_s = timed_payloads(address, given.lengths, given.timed)
    if given.protocol == "grpc":
        payloads = [rpc_message(payload, server.model) for payload in payloads]
    ends = np.cumsum([len(payload) for payload in payloads])
    np.savez(path, data=np.frombuffer(b"".join(payloads), np.uint8), ends=ends, timeouts_s=timeouts_s)


def timed_payloads(address: Address, lengths: str, timed: float) -> tuple[list[bytes], list[float]]:
    """Return requests and their timeouts in seconds, 0 where they have none."""
    jobs = make_jobs(address, read_model(address, None), JobPlan(lengths=parse_lengths(lengths)))
    random = np.random.default_rng(0)
    payloads, timeouts_s = [], []
    for job in jobs:
        (part,) = job.parts
        assert isinstance(part, WholePart)
        timeout_s = float(random.choice(TIMEOUTS_S)) if random.random() < timed else 0.0
        payloads.append(with_timeout(part.payload, timeout_s) if timeout_s else part.payload)
        timeouts_s.append(timeout_s)
    return payloads, timeouts_s


def with_timeout(payload: bytes, timeout_s: float) -> bytes:
    """Return a request with a timeout among its parameters, its head's lengths put right."""
    head, _, body = payload.partition(b"\r\n\r\n")
    lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    size = int(lines[b"Inference-Header-Content-Length"])
    request = json.loads(body[:size])
    request["parameters"]["timeout"] = round(timeout_s * 1e6)
    text = json.dumps(request, separators=(",", ":")).encode()
    lines[b"Inference-Header-Content-Length"] = b"%d" % len(text)
    lines[b"Content-Length"] = b"%d" % (len(text) + len(body) - size)
    start = head.split(b"\r\n", 1)[0]
    return b"\r\n".join([start, *(b"%s: %s" % line for line in lines.items()), b"", text]) + body[size:]


def rpc_message(payload: bytes, model: str) -> bytes:
    """Return the same request as a message of gRPC, whose deadline is the call's own."""
    head, _, body = payload.partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"inference-header-content-length: ")[2].split(b"\r\n")[0])
    request = json.loads(body[:size])
    message = ModelInferRequest(model_name=model, raw_input_contents=[body[size:]])
    (tensor,) = request["inputs"]
    message.inputs.add(name=tensor["name"], shape=tensor["shape"], datatype=tensor["datatype"])
    found: bytes = message.SerializeToString()
    return found
