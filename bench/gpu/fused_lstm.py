"""One LSTM layer on a device: cellgate's kernel, onnxruntime's operator, or torch.nn.LSTM, which is cuDNN on CUDA.

    python bench/gpu/fused_lstm.py --engine cellgate|onnxruntime|torch --device cuda [--rows 1 32] [--hidden 256 512]

A process for each engine, for they bring CUDA libraries of their own. All compute y, h_n and c_n from x [T, B, I], h0
and c0, with I = H and the same weights; float32 is full float32 in all. cellgate's kernel is float32, and CUDA's alone.
"with copies" begins and ends with arrays on the host, "without" leaves all tensors on the device. Prints rows, and with
torch the device's peaks.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # before any CUDA library is loaded

PRECISIONS = ("float32", "float16")
_WARM_UP = 3
_MATRIX = {"cpu": 1024, "cuda": 8192}
_COPY_NUMBERS = {"cpu": 2**22, "cuda": 2**27}

Run = Callable[[], Any]


def best_s(run: Run, repeats: int, least_s: float) -> float:
    """Return the median seconds of a run, of at least so many and of so many as fill ``least_s``."""
    for _ in range(_WARM_UP):
        run()
    seconds: list[float] = []
    while len(seconds) < repeats or sum(seconds) < least_s:
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds))


def arrays(rows: int, steps: int, hidden: int, precision: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return input, states and torch-ordered weights (i, f, g, o) of one size; equal in both processes."""
    random = np.random.default_rng([rows, steps, hidden])
    bound = hidden**-0.5

    def weights(*shape: int) -> np.ndarray[Any, Any]:
        return random.uniform(-bound, bound, shape).astype(precision)

    return {
        "x": random.standard_normal((steps, rows, hidden)).astype(precision),
        "h0": random.standard_normal((1, rows, hidden)).astype(precision),
        "c0": random.standard_normal((1, rows, hidden)).astype(precision),
        "weight_ih_l0": weights(4 * hidden, hidden),
        "weight_hh_l0": weights(4 * hidden, hidden),
        "bias_ih_l0": weights(4 * hidden),
        "bias_hh_l0": weights(4 * hidden),
    }


def cellgate_runs(given: dict[str, np.ndarray[Any, Any]], device: str) -> tuple[Run, Run, Run]:
    """Return (with copies, without, the last y as an array), with the project's kernel."""
    return onnxruntime_runs(given, device, kernels=True)


def onnxruntime_runs(
    given: dict[str, np.ndarray[Any, Any]], device: str, *, kernels: bool = False
) -> tuple[Run, Run, Run]:
    """Return (with copies, without, the last y as an array), through the runtime that serves."""
    import onnxruntime  # noqa: PLC0415 - one engine a process

    from cellgate.bundle.manifest import SessionOptions  # noqa: PLC0415
    from cellgate.serve.runtime.kernel_runtime import open_kernels  # noqa: PLC0415
    from cellgate.serve.runtime.onnx_runtime import OnnxRuntime  # noqa: PLC0415

    graph = _lstm_graph(given)
    plain = OnnxRuntime(graph, _signature(given), SessionOptions(), device=device)
    if plain.device != device:
        raise RuntimeError(f"expected {device}, found {plain.provider}")
    runtime = open_kernels(plain, graph) if kernels else plain
    if runtime is None:
        raise RuntimeError("the kernel is float32, and takes no layer of this size")
    feeds = {name: given[name] for name in ("x", "h0", "c0")}
    bound = runtime.bound()
    there = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0) for name, array in feeds.items()}

    def without() -> None:
        bound.run({}, there, ())
        bound.wait()

    return (lambda: runtime.run(feeds)), without, (lambda: runtime.run(feeds)["y"][:, 0])


def _signature(given: dict[str, np.ndarray[Any, Any]]) -> Any:
    from cellgate.bundle.manifest import GraphSignature, StatePair, TensorSpec  # noqa: PLC0415

    dtype, width, hidden = str(given["x"].dtype), given["x"].shape[-1], given["h0"].shape[-1]

    def spec(name: str, *shape: int | str) -> TensorSpec:
        return TensorSpec(name=name, dtype=dtype, shape=shape)

    states = [spec(name, 1, "B", hidden) for name in ("h0", "c0", "h_n", "c_n")]
    return GraphSignature(
        inputs=(spec("x", "T", "B", width), *states[:2]),
        outputs=(spec("y", "T", 1, "B", hidden), *states[2:]),
        sequence="x",
        lengths=None,
        state=(StatePair(input="h0", output="h_n"), StatePair(input="c0", output="c_n")),
    )


def _lstm_graph(given: dict[str, np.ndarray[Any, Any]]) -> bytes:
    import onnx  # noqa: PLC0415
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    kind = TensorProto.FLOAT16 if given["x"].dtype == np.float16 else TensorProto.FLOAT
    hidden = given["h0"].shape[-1]

    def onnx_order(name: str) -> np.ndarray[Any, Any]:
        i, f, g, o = np.split(given[name], 4)
        return np.concatenate([i, o, f, g])

    bias = np.concatenate([onnx_order("bias_ih_l0"), onnx_order("bias_hh_l0")])
    stored = {"w": onnx_order("weight_ih_l0"), "r": onnx_order("weight_hh_l0"), "b": bias}
    node = helper.make_node("LSTM", ["x", "w", "r", "b", "", "h0", "c0"], ["y", "h_n", "c_n"], hidden_size=hidden)

    def value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, list(shape))

    states = [value(name, 1, "B", hidden) for name in ("h0", "c0", "h_n", "c_n")]
    graph = helper.make_graph(
        [node],
        "lstm",
        [value("x", "T", "B", hidden), *states[:2]],
        [value("y", "T", 1, "B", hidden), *states[2:]],
        [numpy_helper.from_array(np.ascontiguousarray(array[None]), name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def torch_runs(given: dict[str, np.ndarray[Any, Any]], device: str) -> tuple[Run, Run, Run]:
    """Return (with copies, without, the last y as an array)."""
    import torch  # noqa: PLC0415

    _full_float32()
    hidden = given["h0"].shape[-1]
    layer = torch.nn.LSTM(hidden, hidden)
    host = {name: torch.from_numpy(array) for name, array in given.items()}
    layer.load_state_dict({name: tensor.float() for name, tensor in host.items() if name.endswith("_l0")})
    layer = layer.to(device=device, dtype=host["x"].dtype).eval()
    inputs = ("x", "h0", "c0")
    there = {name: host[name].to(device) for name in inputs}

    def apply(tensors: dict[str, Any]) -> Any:
        with torch.inference_mode():
            return layer(tensors["x"], (tensors["h0"], tensors["c0"]))

    def with_copies() -> Any:
        y, (h_n, c_n) = apply({name: host[name].to(device) for name in inputs})
        return y.cpu(), h_n.cpu(), c_n.cpu()

    def without() -> None:
        apply(there)
        if device == "cuda":
            torch.cuda.synchronize()

    def last() -> Any:
        return with_copies()[0].numpy()

    return with_copies, without, last


def _full_float32() -> None:
    import torch  # noqa: PLC0415

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def measure(
    engine: str, device: str, sizes: Sequence[tuple[int, int]], steps: int, repeats: int, least_s: float
) -> dict[str, Any]:
    """Measure every size and precision; what an engine cannot do is said in its row."""
    make = {"cellgate": cellgate_runs, "onnxruntime": onnxruntime_runs, "torch": torch_runs}[engine]
    rows = []
    for precision in PRECISIONS:
        for B, H in sizes:
            row: dict[str, Any] = {"B": B, "T": steps, "I": H, "H": H, "precision": precision, "complaint": None}
            try:
                with_copies, without, last = make(arrays(B, steps, H, precision), device)
                row["with_copies_s"] = best_s(with_copies, repeats, least_s)
                row["without_copies_s"] = best_s(without, repeats, least_s)
                y = last().astype(np.float64)
                row["y_sample"] = [float(y[0, 0, 0]), float(y[-1, -1, -1]), float(np.abs(y).mean())]
            except Exception as err:  # noqa: BLE001 - half precision on a CPU, no memory left: one row less
                row["complaint"] = f"{type(err).__name__}: {str(err).splitlines()[0][:200]}"
            rows.append(row)
    return {"engine": engine, "rows": rows, "peaks": _peaks(device, least_s) if engine == "torch" else None}


def _peaks(device: str, least_s: float) -> dict[str, Any]:
    """Return what the device does at best: one large product in each precision, one long copy."""
    import torch  # noqa: PLC0415

    _full_float32()

    def timed(run: Run) -> float:
        def synchronised() -> None:
            run()
            if device == "cuda":
                torch.cuda.synchronize()

        return best_s(synchronised, 5, least_s)

    n = _MATRIX[device]
    found: dict[str, Any] = {}
    for precision in PRECISIONS:
        if device == "cpu" and precision == "float16":
            continue
        matrix = torch.randn(n, n, device=device).to(getattr(torch, precision))
        found[precision] = 2 * n**3 / timed(lambda matrix=matrix: matrix @ matrix)
    source = torch.zeros(_COPY_NUMBERS[device], device=device)
    target = torch.empty_like(source)
    return {**found, "bytes_per_s": 2 * source.numel() * 4 / timed(lambda: target.copy_(source))}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("cellgate", "onnxruntime", "torch"), required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 32, 256], help="B")
    parser.add_argument("--hidden", type=int, nargs="+", default=[256, 512, 1024], help="H, and I")
    parser.add_argument("--steps", type=int, default=100, help="T")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--least-s", type=float, default=0.2, help="seconds that the runs of one figure fill, or more")
    arguments = parser.parse_args()
    sizes = [(B, H) for B in arguments.rows for H in arguments.hidden]
    found = measure(
        arguments.engine, arguments.device, sizes, arguments.steps, arguments.repeats, least_s=arguments.least_s
    )
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
