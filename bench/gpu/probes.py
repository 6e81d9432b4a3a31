"""What a provider does with what must never be sent to it: one question a process, for the answer may be SIGABRT.

    python bench/gpu/probes.py --probe zero-rows --device cuda

Prints {"provider": ..., "finite": ..., "state_kept": ..., "error": ...}. The server refuses all of this beforehand;
here it is asked so that the reason stays true.
"""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import cellgate  # noqa: F401 - switches onnxruntime's telemetry off before its import

I, H = 3, 4
PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider"]}
Feeds = dict[str, np.ndarray[Any, Any]]


def lstm_model() -> bytes:
    """Return one LSTM node with lengths and states: x [T,B,I], lengths [B], h0, c0 [1,B,H] -> y, h_n, c_n."""
    random = np.random.default_rng(0)
    stored = {"w": (1, 4 * H, I), "r": (1, 4 * H, H), "b": (1, 8 * H)}
    weights = [numpy_helper.from_array(random.normal(size=shape).astype(np.float32), n) for n, shape in stored.items()]
    node = helper.make_node("LSTM", ["x", "w", "r", "b", "lengths", "h0", "c0"], ["y", "h_n", "c_n"], hidden_size=H)

    def value(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, list(shape))

    inputs = [value("x", "T", "B", I), value("lengths", "B", kind=TensorProto.INT32)]
    inputs += [value(name, 1, "B", H) for name in ("h0", "c0")]
    outputs = [value("y", "T", 1, "B", H), *(value(name, 1, "B", H) for name in ("h_n", "c_n"))]
    graph = helper.make_graph([node], "probe", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def feeds(rows: int, steps: int, lengths: list[int] | None = None) -> Feeds:
    """Return ordinary inputs of these sizes."""
    random = np.random.default_rng(1)
    made: Feeds = {
        "x": random.normal(size=(steps, rows, I)).astype(np.float32),
        "lengths": np.array([steps] * rows if lengths is None else lengths, dtype=np.int32),
    }
    return made | {name: random.normal(size=(1, rows, H)).astype(np.float32) for name in ("h0", "c0")}


def _spoilt(name: str) -> Feeds:
    made = feeds(2, 3)
    made[name].reshape(-1)[0] = np.nan
    return made


PROBES: dict[str, Callable[[], Feeds]] = {
    "ordinary": lambda: feeds(2, 3),
    "zero-rows": lambda: feeds(0, 3),
    "zero-steps": lambda: feeds(2, 0),
    "length-zero": lambda: feeds(2, 3, [0, 3]),
    "length-negative": lambda: feeds(2, 3, [-1, 3]),
    "length-beyond": lambda: feeds(2, 3, [4, 3]),
    "nan-in-x": lambda: _spoilt("x"),
    "nan-in-h0": lambda: _spoilt("h0"),
}


def ask(probe: str, device: str) -> dict[str, Any]:
    """Send the probe's inputs and say what came back."""
    if device == "cuda" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(lstm_model(), options, providers=PROVIDERS[device])
    session.disable_fallback()
    provider = session.get_providers()[0]
    sent = PROBES[probe]()
    try:
        y, h_n, c_n = session.run(None, sent)
    except Exception as err:  # noqa: BLE001 - a refusal is an answer, of whichever class
        return {"provider": provider, "error": str(err).splitlines()[0][:300]}
    return {
        "provider": provider,
        "error": None,
        "finite": all(bool(np.isfinite(array).all()) for array in (y, h_n, c_n)),
        # Of the first row, whose length is the odd one: is the given state still there after no step?
        "state_kept": bool(h_n.size and np.array_equal(h_n[0, 0], sent["h0"][0, 0])),
    }


def main() -> None:
    """Ask one question and print the answer as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", choices=list(PROBES), required=True)
    parser.add_argument("--device", choices=list(PROVIDERS), required=True)
    arguments = parser.parse_args()
    json.dump(ask(arguments.probe, arguments.device), sys.stdout)


if __name__ == "__main__":
    main()
