"""What export and verify make of the options that describe a network: roles, labels, normalisation, name.

Rules of this file: files are read and checked here, before anything takes time.
"""

import argparse
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from ..bundle.manifest import NAME_PATTERN
from ..export.errors import SignatureError
from ..export.foreign.columns import Column, read_columns
from ..export.source import check_labels
from ..model.network import SequenceModel
from ..serve.runtime.cpus import usable_cpus
from .errors import UsageError

_MOST: Final = torch.finfo(torch.float32).max


def take_threads(asked: int | None) -> int:
    """Hold torch to --threads too, and return how many there are.

    They are those asked for, else those of OMP_NUM_THREADS, which torch would heed too, else the CPUs that this process
    may use. By themselves torch and onnxruntime count the machine's CPUs. In a container that may use a few of many, or
    beside other work, their threads then wait for each other longer than they compute.
    """
    threads = asked or _threads_of_openmp(os.environ.get("OMP_NUM_THREADS", "")) or usable_cpus()
    torch.set_num_threads(threads)
    return threads


def _threads_of_openmp(text: str) -> int:
    """Return the threads of OpenMP's variable at the outermost level, as 4 of "4,2"; 0 where it says none."""
    outermost = text.partition(",")[0].strip()
    return int(outermost) if re.fullmatch("[0-9]{1,4}", outermost) else 0


def roles(pairs: Sequence[tuple[str, str]]) -> dict[str, str] | None:
    """Return ROLE=NAME options as the exporter takes them; several states are joined.

    Raises:
        UsageError: sequence, lengths or mask told twice.
    """
    told: dict[str, str] = {}
    for part, name in pairs:
        if part in told and part != "state":
            raise UsageError(f"--argument {part}: expected one name, found {told[part]} and {name}; leave one out")
        told[part] = f"{told[part]},{name}" if part in told else name
    return told or None


def columns(text: str | None) -> tuple[Column, ...] | None:
    """Read --columns.

    Raises:
        UsageError: see read_columns.
    """
    try:
        return None if text is None else read_columns(text)
    except SignatureError as err:
        raise UsageError(str(err)) from err


def labels(text: str | None) -> tuple[str, ...] | None:
    """Read --labels: a file with a JSON array or a name a line, or names joined by commas.

    Raises:
        UsageError, SourceError: neither a file nor several names, or a file of something else.
    """
    if text is None:
        return None
    path = Path(text)
    if not _is_file(path):
        if "," not in text:
            raise UsageError(f"--labels: expected a file, or names joined by commas, found {text!r} and no such file")
        return check_labels([label.strip() for label in text.split(",")], "--labels")
    content = _read_text(path)
    if content.lstrip().startswith("["):
        return check_labels(_parse(content, path), text)
    return check_labels([line.strip() for line in content.splitlines() if line.strip()], text)


def normalisation(text: str | None) -> dict[str, tuple[float, ...]] | None:
    """Read --normalisation: {"mean": [I], "std": [I]}.

    Raises:
        UsageError: no such file, or of another form.
    """
    if text is None:
        return None
    found = _parse(_read_text(Path(text)), Path(text))
    if not isinstance(found, dict) or found.keys() != {"mean", "std"} or not all(map(_is_row, found.values())):
        raise UsageError(
            f'{text}: expected {{"mean": [numbers], "std": [numbers]}}, finite in float32, found another form'
        )
    if len(found["mean"]) != len(found["std"]) or min(found["std"]) <= 0:
        raise UsageError(f"{text}: expected as many means as stds, and positive stds")
    return {name: tuple(float(value) for value in values) for name, values in found.items()}


def bundle_name(name: str | None, out: Path) -> str:
    """Return --name, or the folder's name made fit.

    Raises:
        UsageError: --name is none, or nothing of the folder's name fits.
    """
    if name is not None:
        if re.fullmatch(NAME_PATTERN, name) is None:
            raise UsageError(
                f"--name: expected letters, digits, '.', '_' and '-', a letter or digit first, found {name!r}"
            )
        return name
    fit = re.sub(r"[^A-Za-z0-9._-]+", "-", out.resolve().name).strip("._-")[:128]
    if not fit:
        raise UsageError(f"--out: no name can be made of {str(out)!r}; give --name")
    return fit


def check_widths(
    network: nn.Module, names: tuple[str, ...] | None, moments: Mapping[str, tuple[float, ...]] | None
) -> None:
    """Refuse at once what the bundle's writer would refuse after the verification, where the widths are known.

    Raises:
        UsageError: the numbers of labels and outputs, or of means and inputs, differ.
    """
    if not isinstance(network, SequenceModel):
        return
    if names is not None and len(names) != network.output_dim:
        raise UsageError(
            f"labels: expected {network.output_dim}, one for each output, found {len(names)}; see --labels"
        )
    if moments is not None and (network.takes_tokens or len(moments["mean"]) != network.input_dim):
        width = "none, for the network takes tokens" if network.takes_tokens else f"{network.input_dim} numbers"
        raise UsageError(f"normalisation: expected {width}, found {len(moments['mean'])}; see --normalisation")


def rerunner(arguments: argparse.Namespace) -> Callable[[str], str]:
    """Return a function from a case to the whole command line that runs it alone."""
    words = _without_case(arguments.argv)
    return lambda case: shlex.join(["cellgate", *words, "--case", case])


def _without_case(argv: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in argv:
        if not skip and word != "--case" and not word.startswith("--case="):
            kept.append(word)
        skip = not skip and word == "--case"
    return kept


def _is_row(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in value)
        and all(abs(number) <= _MOST for number in value)  # which NaN is not
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # many labels are longer than the name of a file can be
        return False


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as err:
        raise UsageError(f"{path}: expected text in UTF-8, found other bytes") from err


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as err:
        raise UsageError(f"{path}: expected JSON, found: {err}") from err
