"""Everything about CUDA that needs a GPU, in one go and without a network: `make gpu-check`.

    python bench/gpu/check.py [--out bench/results] [--quick] [--only grid probes]

Tests marked gpu; the export's grid on CUDA for each form of graph; what the provider does with empty batches, NaN and
impossible lengths, each in a process of its own; an LSTM by cellgate's kernel and by onnxruntime beside torch.nn.LSTM;
lanes beside batches sorted by length; sequences a second over HTTP. Writes cuda-GPU.json and cuda-GPU.md, tables for
docs/performance.md; with --only some parts are run again, and the others stay as they are, each with its date.

Exit 0: all held; 1: something did not, named on stderr; 2: there is no GPU here, or onnxruntime has no CUDA.
`--device cpu` rehearses every step on the CPU, into rehearsal-cpu.json; its figures are nobody's.
"""

import argparse
import json
import os
import platform
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from figures import failures, page
from parts import PARTS, ROOT, run_parts

from cellgate.serve.runtime.device_facts import DeviceFacts, device_facts
from cellgate.serve.runtime.onnx_session import offers_cuda, runtime_version

NO_GPU = 2


def obstacle(device: DeviceFacts, *, has_cuda: bool) -> str | None:
    """Return why CUDA cannot be checked here, in one sentence, or None."""
    if device.name is None:
        return "gpu-check: expected an NVIDIA GPU with its driver, found none; run it on a machine that has one"
    if not has_cuda:
        return (
            f"gpu-check: expected an onnxruntime with CUDA for the {device.name}, found one without; "
            "install the extra gpu in the place of cpu"
        )
    return None


def main(argv: list[str] | None = None) -> int:
    """Check, write, say."""
    arguments = _parser().parse_args(argv)
    device = device_facts(arguments.device, os.environ)
    if arguments.device == "cuda" and (reason := obstacle(device, has_cuda=offers_cuda())) is not None:
        print(reason, file=sys.stderr)
        return NO_GPU
    stem = file_stem(arguments.device, device.name or "unknown")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    here = {
        "device": arguments.device,
        "device_name": device.name,
        "driver": device.driver,
        "onnxruntime": runtime_version(),
        "python": platform.python_version(),
        "quick": arguments.quick,
    }
    earlier = {} if arguments.only is None else json.loads((arguments.out / f"{stem}.json").read_text(encoding="utf-8"))
    if earlier and here != {name: earlier[name] for name in here}:
        print(
            "gpu-check: expected the results to be of this machine and these versions; run without --only",
            file=sys.stderr,
        )
        return 1
    only = arguments.only or PARTS
    checked_at = {**earlier.get("checked_at", {}), **dict.fromkeys(only, now)}
    found = {**earlier, **here, **run_parts(arguments.device, only, quick=arguments.quick), "checked_at": checked_at}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"{stem}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (arguments.out / f"{stem}.md").write_text(page(found), encoding="utf-8")
    print(page(found))
    broken = failures(found)
    for line in broken:
        print(f"gpu-check: {line}", file=sys.stderr)
    print(f"written to {arguments.out / stem}.json and .md", file=sys.stderr)
    return 1 if broken else 0


def file_stem(device: str, name: str) -> str:
    """Return the results' name without suffix: cuda-nvidia-h100-80gb-hbm3."""
    if device == "cpu":
        return "rehearsal-cpu"
    return f"cuda-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder of the results")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses; default: cuda")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, help="run these again; the others' results stay as they are"
    )
    parser.add_argument("--quick", action="store_true", help="the smallest of everything, to see that it runs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
