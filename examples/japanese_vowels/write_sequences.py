"""Write sequences/: a few test sequences as request bodies and as files for ``cellgate predict``.

    python examples/japanese_vowels/write_sequences.py

The way of the data: test_set.safetensors -> the rows in ROWS -> JSON of the Open Inference Protocol, .npy and .csv.
Numbers are written with as few digits as bring the same float32 back.
"""

import csv
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load_file

HERE: Final = Path(__file__).parent
ROWS: Final = (67, 200, 154)
"""Rows of the test set, of speakers 3, 5 and 4: the first alone in one_sequence.*, all in three_sequences.json."""


def to_request(x: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
    """Return the body of an infer request for x float32 [B, T, 12] and lengths int32 [B], cut to the longest row."""
    x = x[:, : lengths.max()]
    data = [float(str(value)) for value in x.reshape(-1)]
    return {
        "inputs": [
            {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": data},
            {"name": "lengths", "shape": [len(lengths)], "datatype": "INT32", "data": lengths.tolist()},
        ]
    }


def write_sequences(folder: Path) -> None:
    """Write one_sequence.json, .npy, .csv ([T, 12], a line for each frame) and three_sequences.json to ``folder``."""
    test = load_file(HERE / "test_set.safetensors")
    x, lengths = test["x"][list(ROWS)], test["lengths"][list(ROWS)]
    for name, count in (("one_sequence", 1), ("three_sequences", len(ROWS))):
        body = json.dumps(to_request(x[:count], lengths[:count]))
        (folder / f"{name}.json").write_text(body + "\n", encoding="utf-8")
    sequence = x[0, : lengths[0]]
    np.save(folder / "one_sequence.npy", sequence)
    with (folder / "one_sequence.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([str(value) for value in frame] for frame in sequence)


if __name__ == "__main__":
    write_sequences(HERE / "sequences")
    print(f"written to {HERE / 'sequences'}")
