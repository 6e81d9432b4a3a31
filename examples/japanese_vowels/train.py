"""Train the example's network on the Japanese Vowels data and write its weights beside this file.

    python examples/japanese_vowels/train.py                     # writes the three files beside this one
    python examples/japanese_vowels/train.py --cross-validate    # writes nothing; how RECIPE was chosen

Needs the package ``aeon``, whose wheel carries the data: nothing is fetched. The way of the data: the wheel's files ->
padded tensors -> training on normalised coefficients -> the normalisation folded into the first layer -> files.

RECIPE was chosen by five-fold cross-validation on the 270 training sequences alone; the test set was opened once, for
the count that is written down. The data are few, so what helps is noise: fresh noise on every coefficient of each step,
and one offset for each coefficient of a sequence, as another microphone would add it.

Seeded and on one thread, hence the same weights bit for bit on the same machine with the same torch. Another processor
rounds sums in another order, and its weights differ.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

import torch
from network import COEFFICIENTS, LABELS, speaker_network
from safetensors.torch import save
from torch import Tensor, nn

from cellgate.model import SequenceModel
from cellgate.model.weights import save_network

HERE: Final = Path(__file__).parent
LONGEST: Final = 29  # frames, over both parts of the data
FOLDS: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How to train. Noise is in standard deviations of the coefficient; the learning rate rises and falls once."""

    epochs: int = 100
    batch_rows: int = 32
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    label_smoothing: float = 0.1
    step_noise: float = 0.6
    offset_noise: float = 0.3
    gradient_norm: float = 1.0
    seed: int = 1999


RECIPE: Final = Recipe()
CANDIDATES: Final = (
    replace(RECIPE, step_noise=0.0, offset_noise=0.0, label_smoothing=0.0),
    replace(RECIPE, offset_noise=0.0),
    RECIPE,
    replace(RECIPE, offset_noise=0.5),
    replace(RECIPE, step_noise=1.0),
)


class Sequences(NamedTuple):
    """A padded set: x float32 [B, T, I], zero at t >= lengths; lengths int32 [B]; speaker int64 [B], counted from 0."""

    x: Tensor
    lengths: Tensor
    speaker: Tensor

    def rows(self, index: Tensor) -> "Sequences":
        """Return the rows at ``index``, an int64 [N]."""
        return Sequences(self.x[index], self.lengths[index], self.speaker[index])


def load_part(part: str) -> Sequences:
    """Return "TRAIN" (270 rows) or "TEST" (370 rows), padded to [B, 29, 12].

    The file in aeon's wheel is opened by its path, so a wheel without it is an error and never a download.

    Raises:
        ModuleNotFoundError: aeon is not installed.
        FileNotFoundError: this aeon does not carry the data.
    """
    from aeon.datasets import load_from_ts_file  # noqa: PLC0415 - training alone needs aeon, this file's tests do not

    path = Path(str(files("aeon.datasets"))) / "data" / "JapaneseVowels" / f"JapaneseVowels_{part}.ts"
    sequences, names = load_from_ts_file(str(path))
    x = torch.zeros(len(sequences), LONGEST, COEFFICIENTS)
    for row, sequence in enumerate(sequences):
        x[row, : sequence.shape[1]] = torch.from_numpy(sequence.T)
    lengths = torch.tensor([sequence.shape[1] for sequence in sequences], dtype=torch.int32)
    return Sequences(x, lengths, torch.tensor([int(name) - 1 for name in names]))


def measure_normalisation(data: Sequences) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each coefficient over the real steps, float32 [I] each."""
    real = torch.arange(data.x.size(1)) < data.lengths.unsqueeze(1)
    steps = data.x[real].double()
    return steps.mean(0).float(), steps.std(0).float()


@torch.no_grad()
def fold_normalisation(network: SequenceModel, mean: Tensor, std: Tensor) -> None:
    """Change the first layer of ``network`` so that raw x gives what (x - mean) / std gave before.

    W (x - mean) / std + b  =  (W / std) x + (b - (W / std) mean), computed in float64 and rounded once.
    Exact but for that rounding, because nothing stands between x and the one forward layer.

    Args:
        network: without a front, its first layer in one direction.
        mean: float [I].
        std: float [I], positive.
    """
    first = network.stacks[0].layers[0].cell.input_layer
    weight = first.weight.double() / std.double()
    first.bias.copy_(first.bias.double() - weight @ mean.double())
    first.weight.copy_(weight)


def train(data: Sequences, recipe: Recipe, report: Callable[[str], None]) -> SequenceModel:
    """Return a network trained on ``data``, taking raw coefficients, in evaluation mode.

    Args:
        data: the training rows; the normalisation is measured on them and folded in.
        recipe: see Recipe.
        report: called with a line about every tenth of the way.
    """
    torch.manual_seed(recipe.seed)
    mean, std = measure_normalisation(data)
    data = data._replace(x=(data.x - mean) / std)
    network = speaker_network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    batches = -(-len(data.x) // recipe.batch_rows)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=recipe.epochs * batches)
    objective = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    start_s = time.perf_counter()
    for epoch in range(1, recipe.epochs + 1):
        loss = 0.0
        for batch in _shuffled_batches(data, recipe):
            scores, _ = network(batch.x, batch.lengths)
            cost = objective(scores, batch.speaker)
            optimiser.zero_grad()
            cost.backward()
            nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_norm)
            optimiser.step()
            schedule.step()
            loss += cost.item() * len(batch.x) / len(data.x)
        if epoch % max(1, recipe.epochs // 10) == 0:
            elapsed_s = time.perf_counter() - start_s
            report(f"epoch {epoch:3d} of {recipe.epochs}   loss {loss:.3f}   {elapsed_s:3.0f} s")
    fold_normalisation(network, mean, std)
    return network.eval()


def _shuffled_batches(data: Sequences, recipe: Recipe) -> Iterator[Sequences]:
    """Yield all rows once, in new order and with new noise, each batch cut to its longest row."""
    for index in torch.randperm(len(data.x)).split(recipe.batch_rows):
        batch = data.rows(index)
        x = batch.x[:, : int(batch.lengths.max())]
        B, _, I = x.shape
        noise = recipe.step_noise * torch.randn(x.shape) + recipe.offset_noise * torch.randn(B, 1, I)
        yield batch._replace(x=x + noise)


@torch.inference_mode()
def count_correct(network: SequenceModel, data: Sequences) -> int:
    """Return for how many rows the highest score is the speaker's."""
    scores, _ = network(data.x, data.lengths)
    return int((scores.argmax(1) == data.speaker).sum())


def cross_validate(data: Sequences, recipe: Recipe) -> int:
    """Return how many rows are right when each is judged by a network that was trained on four fifths without it.

    The folds are the same for every recipe, and each holds the speakers in equal parts.
    """
    generator = torch.Generator().manual_seed(0)
    fold = torch.empty(len(data.x), dtype=torch.int64)
    for speaker in range(len(LABELS)):
        index = (data.speaker == speaker).nonzero().squeeze(1)
        fold[index[torch.randperm(len(index), generator=generator)]] = torch.arange(len(index)) % FOLDS
    correct = 0
    for k in range(FOLDS):
        network = train(data.rows((fold != k).nonzero().squeeze(1)), recipe, _say_nothing)
        correct += count_correct(network, data.rows((fold == k).nonzero().squeeze(1)))
    return correct


def _say_nothing(_: str) -> None:
    """Drop the progress of one fold."""


def write_results(
    folder: Path, network: SequenceModel, training: Sequences, test: Sequences, *, recipe: Recipe, tools: dict[str, str]
) -> str:
    """Write weights.safetensors, training.json and test_set.safetensors, and return one sentence about them."""
    correct, total = count_correct(network, test), len(test.x)
    mean, std = measure_normalisation(training)
    record = {
        "test_correct": correct,
        "test_total": total,
        "test_accuracy": correct / total,
        "training_correct": count_correct(network, training),
        "training_total": len(training.x),
        "labels": LABELS,
        "folded_normalisation": {"mean": mean.tolist(), "std": std.tolist()},
        "recipe": asdict(recipe),
        "tools": tools,
    }
    metadata = {
        "cellgate.labels": json.dumps(LABELS),
        "test_correct": str(correct),
        "test_total": str(total),
        "test_accuracy": repr(correct / total),
    }
    save_network(network, folder / "weights.safetensors", metadata)
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (folder / "test_set.safetensors").write_bytes(save(test._asdict()))
    return f"{correct} of {total} test sequences are right ({correct / total:.2%}); written to {folder}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train the speaker network on the Japanese Vowels data.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the files (default: beside this script)")
    parser.add_argument("--cross-validate", action="store_true", help="compare recipes on the training set instead")
    arguments = parser.parse_args()
    try:
        training, test = load_part("TRAIN"), load_part("TEST")
    except (ModuleNotFoundError, FileNotFoundError) as err:
        sys.exit(f"the Japanese Vowels data come with the package aeon, which is missing or has them no more ({err})")
    torch.set_num_threads(1)  # the same sums on every number of cores, and matrices this small gain nothing from two
    torch.use_deterministic_algorithms(mode=True)
    if arguments.cross_validate:
        for recipe in CANDIDATES:
            print(f"{cross_validate(training, recipe)} of {len(training.x)}   {recipe}", flush=True)
        return
    network = train(training, RECIPE, lambda line: print(line, flush=True))
    tools = {"torch": torch.__version__, "aeon": version("aeon")}
    print(write_results(arguments.out, network, training, test, recipe=RECIPE, tools=tools))


if __name__ == "__main__":
    main()
