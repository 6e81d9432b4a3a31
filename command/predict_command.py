"""`cellgate predict`: a bundle's answer for the sequences of a file, without a server.

Rules of this file: the bundle is opened as the server opens it, golden cases first; scores are printed as the network
gives them, nothing is made a probability that is none.
"""

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..bundle.manifest import Manifest
from ..serve.engine.models import open_proved
from ..serve.models.served_model import BundlePlace, ServedModel
from ..serve.settings import Settings
from .bundle_remedy import telling_how_to_make
from .errors import DONE, UsageError
from .output_place import refuse_inside_bundle
from .prediction import Prediction, predict
from .sequence_file import Sequences, read_sequences
from .terminal import Terminal

Array = NDArray[Any]

_OUTPUT_FORMS: Final = (".npy", ".npz", ".json")
_MAX_ROWS: Final = 50  # lines of the table for people
_MAX_NUMBERS: Final = 8  # numbers of a line


def run(arguments: argparse.Namespace) -> int:
    """Predict, print, and write where asked.

    Raises:
        UsageError: the file cannot be read, or options do not fit the bundle.
        BadInput: the sequences do not fit the bundle.
        BundleError, ServeError: the bundle cannot be used here; GoldenMismatchError where the check failed.
    """
    terminal = Terminal(json=arguments.json)
    output = _checked_output(arguments)
    settings = Settings(
        device=arguments.device, threads=arguments.threads, tf32=arguments.tf32, kernels=arguments.kernels
    )
    path = Path(arguments.bundle)
    with telling_how_to_make([path]):
        model, runtime = open_proved(BundlePlace(path), settings)
    try:
        signature = model.manifest.graph
        sequences = read_sequences(Path(arguments.input), signature)
        sequences = _normalised(sequences, model.manifest, terminal, apply=arguments.normalise)
        states = [pair.output for pair in signature.state] if arguments.with_state else []
        names = [*(sequences.outputs or [signature.outputs[0].name])]
        found = predict(runtime, sequences, [*names, *(name for name in states if name not in names)])
    finally:
        runtime.close()
    answer = make_answer(model, sequences, found)
    if output is not None:
        _write(output, found, answer)
    _print(model, sequences, found, terminal)
    if output is not None:
        terminal.note(f"written to {output}")
    terminal.answer(answer)
    return DONE


def _checked_output(arguments: argparse.Namespace) -> Path | None:
    if arguments.output is None:
        return None
    path = Path(arguments.output)
    if path.suffix not in _OUTPUT_FORMS:
        raise UsageError(f"--output {path}: expected {', '.join(_OUTPUT_FORMS)}, found {path.suffix or 'no suffix'!r}")
    if path.suffix == ".npy" and arguments.with_state:
        raise UsageError(f"--output {path}: expected .npz or .json with --with-state, for .npy holds one array")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: expected the folder {path.parent} to exist, found none; make it first")
    refuse_inside_bundle("--output", path)
    return path


def _normalised(sequences: Sequences, manifest: Manifest, terminal: Terminal, *, apply: bool) -> Sequences:
    moments = manifest.normalisation
    if moments is None:
        if apply:
            raise UsageError(
                f"--normalise: expected a bundle with a normalisation, {manifest.name} has none; leave it out"
            )
        return sequences
    if not apply:
        terminal.note("the bundle wants normalised input, and x was taken as it is; --normalise applies mean and std")
        return sequences
    mean, std = (np.array(moments[part], dtype=np.float32) for part in ("mean", "std"))
    if any(row.shape[1:] != mean.shape for row in sequences.rows):
        return sequences  # the server's checks say what is wrong with the width
    rows = tuple((row - mean) / std for row in sequences.rows)
    return Sequences(rows=rows, states=sequences.states, names=sequences.names, outputs=sequences.outputs)


def make_answer(model: ServedModel, sequences: Sequences, found: Prediction) -> dict[str, Any]:
    """Return the answer for machines; numbers are as short as float32 allows."""
    answer: dict[str, Any] = {
        "model_name": model.name,
        "model_version": model.version,
        "digest": model.digest,
        "device": model.facts.device,
        "sequences": list(sequences.names),
        "lengths": list(found.lengths),
        "outputs": {name: _plain(array) for name, array in found.outputs.items()},
    }
    if found.answer_lengths != found.lengths:
        answer["answer_lengths"] = list(found.answer_lengths)
    y = found.outputs.get("y")
    if model.manifest.labels is not None and y is not None:
        names = np.array(model.manifest.labels, dtype=object)
        rows = zip(y, found.answer_lengths, strict=True)
        answer["labels"] = [_labels(row[:length] if found.per_step else row, names) for row, length in rows]
    return answer


def _labels(scores: Array, names: Array) -> Any:
    """Return the name of the highest of each O scores: one, or a list for each further axis."""
    best = names[scores.argmax(axis=-1)]
    return best.tolist() if scores.ndim > 1 else best


def _plain(array: Array) -> Any:
    """Return nested lists whose numbers print as short as their dtype allows, 0.1 and not 0.10000000149011612."""
    if array.dtype.kind != "f":
        return array.tolist()
    return np.array([float(str(value)) for value in array.reshape(-1)]).reshape(array.shape).tolist()


def _write(path: Path, found: Prediction, answer: dict[str, Any]) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(answer) + "\n", encoding="utf-8")
        return
    buffer = io.BytesIO()
    if path.suffix == ".npy":
        np.save(buffer, next(iter(found.outputs.values())))
    else:
        counts = {"lengths": found.lengths}
        if found.answer_lengths != found.lengths:
            counts["answer_lengths"] = found.answer_lengths
        arrays = {name: np.array(count, dtype=np.int32) for name, count in counts.items()}
        np.savez(buffer, **arrays, **found.outputs)  # type: ignore[arg-type]
    path.write_bytes(buffer.getvalue())


def _print(model: ServedModel, sequences: Sequences, found: Prediction, terminal: Terminal) -> None:
    count = len(sequences.rows)
    terminal.say(f"{model.name} version {model.version} on {model.facts.device}: {count} sequence{'s'[: count > 1]}")
    terminal.say()
    y = found.outputs.get("y")
    if y is not None:
        labels = model.manifest.labels
        columns = ["sequence", "step" if found.per_step else "steps", *(["label", "score"] if labels else []), "y"]
        rows = [row for number in range(count) for row in _lines(found, number, sequences, labels)]
        terminal.table(columns, rows[:_MAX_ROWS])
        if len(rows) > _MAX_ROWS:
            terminal.say(f"and {len(rows) - _MAX_ROWS} more lines; --json or --output FILE gives them all")
    for name, array in found.outputs.items():
        if name != "y":
            terminal.say(f"{name}  {array.dtype} {list(array.shape)}; --json or --output FILE gives the numbers")


def _lines(
    found: Prediction, number: int, sequences: Sequences, labels: tuple[str, ...] | None
) -> Iterator[list[object]]:
    """Yield the lines of one sequence: one for a y [B, O], one for each step of a y [B, T, O]."""
    y = found.outputs["y"][number]
    for step, answer in enumerate(y[: found.answer_lengths[number]] if found.per_step else y[np.newaxis]):
        named: list[object] = []
        if labels is not None:
            scores = answer.reshape(-1, answer.shape[-1])
            best = [labels[place] for place in scores.argmax(axis=1)]
            highest = scores.max(axis=1)
            named = ["; ".join(best), float(highest[0]) if len(best) == 1 else _numbers(highest[:, np.newaxis])]
        yield [sequences.names[number], step if found.per_step else found.lengths[number], *named, _numbers(answer)]


def _numbers(answer: Array) -> str:
    """Return the first numbers; where an answer is a table, a semicolon after each of its rows."""
    rows = answer.reshape(-1, answer.shape[-1])
    shown = rows[: max(1, _MAX_NUMBERS // rows.shape[1]), :_MAX_NUMBERS]
    text = "; ".join(" ".join(f"{value:.4g}" for value in row) for row in shown)
    return f"{text} ... ({answer.size} in all)" if answer.size > shown.size else text
