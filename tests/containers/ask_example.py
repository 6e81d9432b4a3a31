"""ask_example.py URL: the example's three sequences, once through PyTorch and once through the server at URL.

Rules of this file: what is expected comes from network.py and weights.safetensors alone, and shares nothing with the
bundle that is served.
"""

import importlib.util
import json
import sys
import urllib.request
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

EXAMPLE = Path(__file__).parents[2] / "examples" / "japanese_vowels"
ROUNDOFF = 2.0**-24  # u of float32


def expected_scores(x: torch.Tensor, lengths: list[int]) -> np.ndarray:
    """Return the scores [B, O] of PyTorch in float64, each sequence alone."""
    spec = importlib.util.spec_from_file_location("network", EXAMPLE / "network.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.speaker_network()
    network.load_state_dict(load_file(EXAMPLE / "weights.safetensors"))
    network = network.double().eval()
    with torch.no_grad():
        rows = [network(x[b : b + 1, :length].double())[0] for b, length in enumerate(lengths)]
    return torch.cat(rows).numpy()


def served_scores(url: str, body: bytes) -> np.ndarray:
    """Return the scores [B, O] that the server answers."""
    request = urllib.request.Request(
        f"{url}/v2/models/japanese-vowels/infer", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        (y,) = json.load(answer)["outputs"]
    return np.array(y["data"]).reshape(y["shape"])


def main(url: str) -> int:
    """Compare, print, and return the exit status."""
    body = (EXAMPLE / "sequences" / "three_sequences.json").read_bytes()
    inputs = {tensor["name"]: tensor for tensor in json.loads(body)["inputs"]}
    x = torch.tensor(inputs["x"]["data"]).reshape(inputs["x"]["shape"])
    lengths = list(inputs["lengths"]["data"])
    expected, found = expected_scores(x, lengths), served_scores(url, body)
    # A sum of n terms is off by n u at most (Higham, Accuracy and Stability, 4.2), and T steps of I + H terms each
    # stand between the input and a score; sigmoid and tanh enlarge no error.
    allowed = max(lengths) * (x.shape[2] + 64) * ROUNDOFF * np.abs(expected).max()
    worst = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
    same = found.argmax(1).tolist() == expected.argmax(1).tolist()
    is_right = same and worst <= allowed
    print(
        f"  {'ok' if is_right else 'FAILED'}: speakers {(found.argmax(1) + 1).tolist()} as in PyTorch"
        f"{'' if same else f', which says {(expected.argmax(1) + 1).tolist()}'}, "
        f"scores at most {worst:.1e} apart of {allowed:.1e} allowed"
    )
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
