"""A small LSTM that makes real bundles without torch, and an oracle that shares no code with what is tested."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from cellgate.bundle.golden import GoldenCase, pack_golden
from cellgate.bundle.manifest import GraphSignature, Manifest, SessionOptions, StatePair, TensorSpec
from cellgate.bundle.writer import write_bundle
from cellgate.serve.runtime.onnx_session import runtime_version

I, H, O, V = 2, 3, 4, 5
LEAST = 3  # steps of "windows" and "frames"


def spec(name, dtype, *shape):
    return TensorSpec(name=name, dtype=dtype, shape=shape)


class Network:
    """An LSTM with a head, its weights, and what it computes, in float64 and from the equations.

    Kinds: "steps" gives y [B,T,O]; "last" gives y [B,O] after each row's last step; "tokens" looks its input up in a
    table, takes no lengths and gives y [B,T,O]; "windows" reads the largest of three steps, every second time, takes
    no lengths, carries no state and gives y [B,O]: it needs three steps; "frames" reads the same, takes lengths and
    gives y for each of those, [B,(T-1)//2,O].
    """

    def __init__(self, kind, seed=0):
        values = np.random.default_rng(seed)
        self.kind = kind
        self.weights = {
            "W": values.normal(size=(1, 4 * H, I)),
            "R": values.normal(size=(1, 4 * H, H)),
            "b": values.normal(size=(1, 8 * H)),
            "head": values.normal(size=(H, O)),
            "table": values.normal(size=(V, I)),
        }
        self.weights = {name: array.astype(np.float32) for name, array in self.weights.items()}

    @property
    def is_whole(self):
        """Whether it reads windows, and so whole sequences alone."""
        return self.kind in ("windows", "frames")

    @property
    def signature(self):
        if self.kind == "windows":
            x, y = spec("x", "float32", "B", "T", I), spec("y", "float32", "B", O)
            return GraphSignature(inputs=(x,), outputs=(y,), sequence="x", lengths=None, least_steps=LEAST)
        if self.kind == "frames":
            x, y = spec("x", "float32", "B", "T", I), spec("y", "float32", "B", "(T-1)//2", O)
            inputs = (x, spec("lengths", "int32", "B"))
            return GraphSignature(inputs=inputs, outputs=(y,), sequence="x", lengths="lengths", least_steps=LEAST)
        sequence = spec("tokens", "int64", "B", "T") if self.kind == "tokens" else spec("x", "float32", "B", "T", I)
        lengths = () if self.kind == "tokens" else (spec("lengths", "int32", "B"),)
        state = [spec(name, "float32", 1, "B", H) for name in ("h0", "c0", "h_n", "c_n")]
        y = spec("y", "float32", "B", O) if self.kind == "last" else spec("y", "float32", "B", "T", O)
        return GraphSignature(
            inputs=(sequence, *lengths, *state[:2]),
            outputs=(y, *state[2:]),
            sequence=sequence.name,
            lengths="lengths" if lengths else None,
            state=(StatePair(input="h0", output="h_n"), StatePair(input="c0", output="c_n")),
            vocabulary_size=V if self.kind == "tokens" else None,
        )

    def compute(self, feeds):
        """Step by step; gates in ONNX order: input, output, forget, cell."""
        weights = {name: array.astype(np.float64) for name, array in self.weights.items()}
        x = feeds["x"].astype(np.float64) if "x" in feeds else weights["table"][feeds["tokens"]]
        lengths = feeds.get("lengths", np.full(len(x), x.shape[1]))
        if self.is_whole:
            x = np.stack([x[:, t : t + LEAST].max(1) for t in range(0, x.shape[1] - LEAST + 1, 2)], 1)
            lengths = np.array([len(range(0, length - LEAST + 1, 2)) for length in lengths])
        B, T, _ = x.shape
        zeros = np.zeros((1, B, H))
        h, c = feeds.get("h0", zeros)[0].astype(np.float64), feeds.get("c0", zeros)[0].astype(np.float64)
        y = np.zeros((B, T, O))
        bias = weights["b"][0, : 4 * H] + weights["b"][0, 4 * H :]
        for t in range(T):
            gates = x[:, t] @ weights["W"][0].T + h @ weights["R"][0].T + bias
            i, o, f = (1 / (1 + np.exp(-part)) for part in np.split(gates[:, : 3 * H], 3, axis=1))
            new_c = f * c + i * np.tanh(gates[:, 3 * H :])
            new_h = o * np.tanh(new_c)
            real = (t < lengths)[:, None]
            h, c = np.where(real, new_h, h), np.where(real, new_c, c)
            y[:, t] = np.where(real, h @ weights["head"], 0)
        if self.kind == "windows":
            return {"y": (h @ weights["head"]).astype(np.float32)}
        if self.kind == "frames":
            return {"y": y.astype(np.float32)}
        y = h @ weights["head"] if self.kind == "last" else y
        return {name: array.astype(np.float32) for name, array in (("y", y), ("h_n", h[None]), ("c_n", c[None]))}

    def nodes(self):
        if self.is_whole:
            yield helper.make_node("Transpose", ["x"], ["channels"], perm=[0, 2, 1])
            yield helper.make_node("MaxPool", ["channels"], ["pooled"], kernel_shape=[LEAST], strides=[2])
            yield helper.make_node("Transpose", ["pooled"], ["x_t"], perm=[2, 0, 1])
        if self.kind == "frames":
            yield helper.make_node("Sub", ["lengths", "one_32"], ["behind_first"])
            yield helper.make_node("Div", ["behind_first", "two_32"], ["frames"])
            yield helper.make_node("LSTM", ["x_t", "W", "R", "b", "frames"], ["y_t"], hidden_size=H)
            yield from self._head_for_each_step()
            return
        if self.kind == "windows":
            yield helper.make_node("LSTM", ["x_t", "W", "R", "b"], ["", "h_n"], hidden_size=H)
            yield helper.make_node("Squeeze", ["h_n", "zero"], ["last"])
            yield helper.make_node("MatMul", ["last", "head"], ["y"])
            return
        source = "x"
        if self.kind == "tokens":
            yield helper.make_node("Gather", ["table", "tokens"], ["x"])
        yield helper.make_node("Transpose", [source], ["x_t"], perm=[1, 0, 2])
        lengths = "" if self.kind == "tokens" else "lengths"
        inputs = ["x_t", "W", "R", "b", lengths, "h0", "c0"]
        yield helper.make_node("LSTM", inputs, ["y_t", "h_n", "c_n"], hidden_size=H)
        if self.kind == "last":
            yield helper.make_node("Squeeze", ["h_n", "zero"], ["last"])
            yield helper.make_node("MatMul", ["last", "head"], ["y"])
        else:
            yield from self._head_for_each_step()

    def _head_for_each_step(self):
        yield helper.make_node("Squeeze", ["y_t", "one"], ["y_s"])
        yield helper.make_node("Transpose", ["y_s"], ["y_b"], perm=[1, 0, 2])
        yield helper.make_node("MatMul", ["y_b", "head"], ["y"])

    def model(self):
        kinds = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64}
        nodes = list(self.nodes())
        used = {name for node in nodes for name in node.input}
        stored = {**self.weights, "one": np.array([1]), "zero": np.array([0])}
        stored |= {"one_32": np.array(1, np.int32), "two_32": np.array(2, np.int32)}

        def value(tensor):
            return helper.make_tensor_value_info(tensor.name, kinds[tensor.dtype], list(tensor.shape))

        graph = helper.make_graph(
            nodes,
            self.kind,
            [value(tensor) for tensor in self.signature.inputs],
            [value(tensor) for tensor in self.signature.outputs],
            [numpy_helper.from_array(array, name) for name, array in stored.items() if name in used],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        return made.SerializeToString(), tuple(sorted({node.op_type for node in nodes}))

    def feeds(self, B, T, lengths=None, seed=0):
        values = np.random.default_rng(seed)
        if self.kind == "windows":
            return {"x": values.normal(size=(B, T, I)).astype(np.float32)}
        state = {name: values.normal(size=(1, B, H)).astype(np.float32) for name in ("h0", "c0")}
        if self.kind == "tokens":
            return {"tokens": values.integers(0, V, size=(B, T)), **state}
        given = np.full(B, T) if lengths is None else np.array(lengths)
        state = {} if self.is_whole else state
        return {"x": values.normal(size=(B, T, I)).astype(np.float32), "lengths": given.astype(np.int32), **state}

    def golden(self):
        made = []
        shortest = self.signature.least_steps
        ragged = [5, shortest, 4] if self.is_whole else [5, 1, 3]
        for case_id, B, T, lengths in (("one", 1, shortest, None), ("ragged", 3, 5, ragged)):
            feeds = self.feeds(B, T, lengths, seed=B)
            made.append(GoldenCase(id=case_id, inputs=feeds, outputs=self.compute(feeds)))
        return made

    def manifest(self, operators, **changes):
        fields = {
            "name": self.kind,
            "version": 3,
            "network": {"kind": "LSTM"},
            "graph": self.signature,
            "opset": 17,
            "operators": operators,
            "streamable": not self.is_whole,
            "bitwise_rows": True,
            "bitwise_chunks": not self.is_whole,
            "precision": "float32",
            "tolerances": {tensor.name: 1e-5 for tensor in self.signature.outputs},
            "session": SessionOptions(),
            "tools": {"tests": "1", "onnxruntime": runtime_version()},
            "files": {},
            "labels": ("alpha", "beta", "gamma", "δ") if self.kind == "last" else None,
            "normalisation": {"mean": (0.0, 0.5), "std": (1.0, 2.0)} if self.kind == "last" else None,
        }
        return Manifest(**{**fields, **changes})

    def write(self, out, *, golden=None, model=None, **changes):
        made, operators = self.model()
        contents = {
            "model.onnx": model or made,
            "golden.safetensors": pack_golden(golden or self.golden()),
            "equivalence.json": b"{}",
            "equivalence.html": b"<html></html>",
        }
        write_bundle(out, self.manifest(operators, **changes), contents)
        return out
