"""The three ragged workloads that the benchmarks share: networks, lengths, sequences and the right answers.

    python bench/workloads.py [--out build/bench] [--only small medium large] [--count 1000] [--threads 1]

For each it writes NAME/bundle (exported by cellgate, verified) and NAME/sequences.npz: the sequences one after another
in ``steps`` [sum of the lengths, I], their ``lengths``, and in ``answers`` [count, 9] what onnxruntime says to each.
Weights and sequences come from seeds, so that two machines measure the same work. What is there is not made again.

Importing this module needs no torch, so that it can also be used where nothing is exported.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES = 9  # O


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """One network and the lengths that its users send.

    Attributes:
        name: small, medium or large.
        input_dim: I.
        hidden_dim: H.
        layers: L.
        draw_lengths: (generator, count) -> lengths, int64 [count].
        seed: of the weights and of the sequences.
    """

    name: str
    input_dim: int
    hidden_dim: int
    layers: int
    draw_lengths: Callable[[np.random.Generator, int], NDArray[np.int64]]
    seed: int

    def sequences(self, count: int) -> list[NDArray[np.float32]]:
        """Return the first ``count`` sequences, float32 [T, I] each; more of them begin with the same ones."""
        # One stream for each sequence, or else the values would hang on the count.
        lengths = self.draw_lengths(np.random.default_rng(self.seed), count)
        return [
            np.random.default_rng((self.seed, row)).standard_normal((length, self.input_dim), dtype=np.float32)
            for row, length in enumerate(lengths)
        ]

    def network(self) -> Any:
        """Return the network with its seeded weights: a head of 9 over the last step."""
        import torch  # noqa: PLC0415 - see the top of the file

        from cellgate.model import SequenceModel  # noqa: PLC0415

        torch.manual_seed(self.seed)
        return SequenceModel(self.input_dim, self.hidden_dim, CLASSES, num_layers=self.layers, reads="last_step")


def _uniform(low: int, high: int) -> Callable[[np.random.Generator, int], NDArray[np.int64]]:
    return lambda random, count: random.integers(low, high, count, endpoint=True)


def _lognormal(
    median: float, sigma: float, low: int, high: int
) -> Callable[[np.random.Generator, int], NDArray[np.int64]]:
    def draw(random: np.random.Generator, count: int) -> NDArray[np.int64]:
        return np.rint(np.clip(random.lognormal(np.log(median), sigma, count), low, high)).astype(np.int64)

    return draw


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(name="small", input_dim=12, hidden_dim=64, layers=1, draw_lengths=_uniform(7, 29), seed=1),
        Workload(
            name="medium", input_dim=32, hidden_dim=128, layers=1, draw_lengths=_lognormal(40, 0.8, 5, 300), seed=2
        ),
        Workload(
            name="large", input_dim=40, hidden_dim=256, layers=3, draw_lengths=_lognormal(120, 0.6, 20, 500), seed=3
        ),
    )
}


def ensure_bundle(workload: Workload, folder: Path, threads: int = 1) -> Path:
    """Return the workload's bundle under the folder, exported now unless it is there."""
    out = folder / workload.name / "bundle"
    if not out.exists():
        import torch  # noqa: PLC0415

        from cellgate.export.options import ExportOptions  # noqa: PLC0415
        from cellgate.export.pipeline import export_bundle  # noqa: PLC0415
        from cellgate.export.proof.verify import VerifyOptions  # noqa: PLC0415

        torch.set_num_threads(threads)
        out.parent.mkdir(parents=True, exist_ok=True)
        # Its correctness is the tests' matter; the shortest check of drift will do for a benchmark.
        options = ExportOptions(name=workload.name, verify=VerifyOptions(drift_steps=1000, threads=threads))
        export_bundle(workload.network(), out, options)
    return out


def ensure_sequences(workload: Workload, folder: Path, count: int) -> Path:
    """Return the file of sequences and answers, written now unless it is there and long enough."""
    path = folder / workload.name / "sequences.npz"
    if path.exists():
        with np.load(path) as stored:
            if len(stored["lengths"]) >= count:
                return path
    sequences = workload.sequences(count)
    answers = answers_alone(folder / workload.name / "bundle" / "model.onnx", sequences)
    lengths = np.array([len(sequence) for sequence in sequences])
    np.savez(path, steps=np.concatenate(sequences), lengths=lengths, answers=answers)
    return path


def load_sequences(path: Path, count: int) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """Return (sequences, answers) of a file that ``ensure_sequences`` wrote: ``count`` times [T, I], and [count, 9]."""
    with np.load(path) as stored:
        lengths = stored["lengths"]
        sequences = np.split(stored["steps"], np.cumsum(lengths)[:-1])
        return sequences[:count], stored["answers"][:count]


def answers_alone(model: Path, sequences: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return y [count, 9] of every sequence run alone by onnxruntime from a zero state."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    states = {node.name: np.zeros((node.shape[0], 1, node.shape[2]), np.float32) for node in session.get_inputs()[2:]}
    rows = [
        session.run(["y"], {"x": x[None], "lengths": np.array([len(x)], np.int32), **states})[0][0] for x in sequences
    ]
    return np.array(rows, np.float32)


def main() -> None:
    """Write what is asked for and is not there yet."""
    parser = argparse.ArgumentParser(description="Export the networks of the benchmarks and draw their sequences.")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder to write; default: build/bench")
    parser.add_argument("--only", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS), help="default: all")
    parser.add_argument("--count", type=int, default=1000, help="sequences of each; default: 1000")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch while it exports; default: 1")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(arguments.threads))
    for name in arguments.only:
        bundle = ensure_bundle(WORKLOADS[name], arguments.out, arguments.threads)
        sequences = ensure_sequences(WORKLOADS[name], arguments.out, arguments.count)
        print(f"{name}: {bundle}, {sequences}")


if __name__ == "__main__":
    main()
