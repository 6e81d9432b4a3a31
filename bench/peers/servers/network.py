"""The bundle's graph as every peer runs it: onnxruntime, one thread, whole sequences from a zero state.

Shared by the peers, so that they differ in the server and in nothing else. It runs in their environments: NumPy and
onnxruntime only.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

MODEL = os.environ.get("PEER_MODEL", "")
"""Path of model.onnx; the benchmark sets it."""

PORT = int(os.environ.get("PEER_PORT", "8000"))
"""TCP port to listen on; the benchmark sets it."""

BATCH = 8
"""Most sequences of a batch. Of 8, 16 and 32 the best on the medium workload, where more only pad more; on the others
16 is as good or a little better."""

BATCH_WAIT_S = 0.002
"""Seconds that the first of a batch waits for the others."""


class Network:
    """An open session.

    Args:
        model: path of model.onnx.

    Attributes:
        input_dim: I.
    """

    def __init__(self, model: str = MODEL) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        x, _, *states = self._session.get_inputs()
        self.input_dim: int = x.shape[2]
        self._state_shapes = {state.name: (state.shape[0], state.shape[2]) for state in states}
        self._zeros: dict[int, dict[str, Any]] = {}

    def sequence(self, body: bytes) -> Any:
        """Return the float32 values of a body as [T, I]."""
        return np.frombuffer(body, np.float32).reshape(-1, self.input_dim)

    def run(self, sequences: Sequence[Any]) -> Any:
        """Return y, float32 [B, 9], of sequences [T, I] of any lengths, padded to the longest."""
        if len(sequences) == 1:
            x = sequences[0][None]
        else:
            x = np.zeros((len(sequences), max(map(len, sequences)), self.input_dim), np.float32)
            for row, sequence in enumerate(sequences):
                x[row, : len(sequence)] = sequence
        lengths = np.array([len(sequence) for sequence in sequences], np.int32)
        return self._session.run(["y"], {"x": x, "lengths": lengths, **self._state(len(sequences))})[0]

    def _state(self, rows: int) -> dict[str, Any]:
        if rows not in self._zeros:
            shapes = self._state_shapes.items()
            self._zeros[rows] = {name: np.zeros((n, rows, width), np.float32) for name, (n, width) in shapes}
        return self._zeros[rows]
