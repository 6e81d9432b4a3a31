"""The example: what is committed is what was recorded, and what made it can be trusted."""

import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from cellgate.model.weights import load_network, load_weights

EXAMPLE = Path(__file__).parents[2] / "examples" / "japanese_vowels"
RECORD = json.loads((EXAMPLE / "training.json").read_text(encoding="utf-8"))
EPS32 = 2.0**-24  # half a unit in the last place of 1, the most a float32 operation is off, relatively


def load_script(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """Import a file of the example by its path, as `python train.py` would see its neighbours."""
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for module in ("network", "train", "write_sequences"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, script)
    spec.loader.exec_module(script)
    return script


@pytest.fixture
def training(monkeypatch):
    """The module train.py; whatever it imports by a bare name is forgotten afterwards."""
    yield load_script(monkeypatch, "train")
    sys.modules.pop("network", None)


@pytest.fixture(scope="module")
def test_set():
    return load_file(EXAMPLE / "test_set.safetensors")


@pytest.fixture
def network():
    return load_network(EXAMPLE / "weights.safetensors")


def count_right(network, data):
    with torch.inference_mode():
        scores, _ = network(data["x"], data["lengths"])
    return int((scores.argmax(1) == data["speaker"]).sum())


def synthetic_set(training, seed=5, rows=12):
    """Three speakers told apart by their first coefficient, lengths 3 to 8."""
    generator = torch.Generator().manual_seed(seed)
    speaker = torch.arange(rows) % 3
    x = torch.randn(rows, 8, 12, generator=generator)
    x[:, :, 0] += 4.0 * speaker.unsqueeze(1)
    lengths = torch.randint(3, 9, (rows,), generator=generator, dtype=torch.int32)
    x[torch.arange(8) >= lengths.unsqueeze(1)] = 0.0
    return training.Sequences(x, lengths, speaker)


def test_committed_weights_reach_exactly_the_recorded_count(network, test_set):
    assert count_right(network, test_set) == RECORD["test_correct"]


def test_the_scripted_network_reaches_the_same_count_with_the_same_bits(network, test_set):
    scripted = torch.jit.script(network)
    with torch.inference_mode():
        eager, _ = network(test_set["x"], test_set["lengths"])
        script, _ = scripted(test_set["x"], test_set["lengths"])
    assert torch.equal(script, eager)
    assert count_right(scripted, test_set) == RECORD["test_correct"]


def test_recorded_accuracy_is_at_least_95_percent_of_the_whole_test_set():
    assert RECORD["test_total"] == 370
    assert RECORD["test_accuracy"] == RECORD["test_correct"] / 370
    assert RECORD["test_accuracy"] >= 0.95


def test_every_test_sequence_alone_and_unpadded_gives_the_recorded_count(network, test_set):
    correct = 0
    with torch.inference_mode():
        for x, length, speaker in zip(test_set["x"], test_set["lengths"], test_set["speaker"], strict=True):
            scores, _ = network(x[None, :length])
            correct += int(scores.argmax() == speaker)
    assert correct == RECORD["test_correct"]


def test_weights_carry_the_counts_and_labels_in_their_metadata():
    with safe_open(EXAMPLE / "weights.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["test_correct"] == str(RECORD["test_correct"])
    assert float(metadata["test_accuracy"]) == RECORD["test_accuracy"]
    assert json.loads(metadata["cellgate.labels"]) == RECORD["labels"]


def test_factory_makes_the_network_that_the_weights_describe(monkeypatch, network, test_set):
    script = load_script(monkeypatch, "network")
    made = script.speaker_network()
    load_weights(made, EXAMPLE / "weights.safetensors")
    assert made.describe() == network.describe()
    assert list(script.LABELS) == RECORD["labels"]
    assert count_right(made.eval(), test_set) == RECORD["test_correct"]


def test_test_set_is_padded_with_zeros_and_has_the_published_sizes(test_set):
    x, lengths, speaker = test_set["x"], test_set["lengths"], test_set["speaker"]
    assert (x.shape, x.dtype, lengths.dtype, speaker.dtype) == ((370, 29, 12), torch.float32, torch.int32, torch.int64)
    assert (int(lengths.min()), int(lengths.max())) == (7, 29)
    assert torch.bincount(speaker).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]  # size_ae.test of the source
    assert not x[torch.arange(29) >= lengths.unsqueeze(1)].any()


def test_folding_the_normalisation_is_exact_in_the_first_layer_but_for_rounding(training, test_set):
    mean, std = (torch.tensor(RECORD["folded_normalisation"][key]) for key in ("mean", "std"))
    torch.manual_seed(3)
    plain = training.speaker_network()
    folded = training.speaker_network()
    folded.load_state_dict(plain.state_dict())
    training.fold_normalisation(folded, mean, std)
    x = test_set["x"]
    with torch.inference_mode():
        before = plain.stacks[0].layers[0].cell.input_layer((x - mean) / std)
        layer = folded.stacks[0].layers[0].cell.input_layer
        after = layer(x)
        # `sizes` bounds the sum of the magnitudes on either side. A side adds 12 products and a bias, each term rounded
        # at most 3 times before: at most 16 roundings in a row, each of relative size eps.
        weight = layer.weight.abs()
        sizes = (x.abs() + mean.abs()) @ weight.T + layer.bias.abs() + (weight @ mean.abs())
    assert ((after - before).abs() <= 2 * 16 * EPS32 * sizes).all()


def test_folded_network_on_raw_data_equals_the_plain_one_on_normalised_data(training, test_set):
    mean, std = (torch.tensor(RECORD["folded_normalisation"][key]).double() for key in ("mean", "std"))
    torch.manual_seed(3)
    plain = training.speaker_network().double()
    folded = training.speaker_network().double()
    folded.load_state_dict(plain.state_dict())
    training.fold_normalisation(folded, mean, std)
    x = test_set["x"].double()
    with torch.inference_mode():
        before, _ = plain((x - mean) / std, test_set["lengths"])
        after, _ = folded(x, test_set["lengths"])
    # In float64 a wrong formula shows as 1e-2 and rounding as 29 steps * 64 units * 2**-53 * gains of order one.
    assert (after - before).abs().max() <= 29 * 64 * 2.0**-53 * 10


def test_normalisation_is_measured_on_real_steps_only(training):
    data = synthetic_set(training)
    frames = np.concatenate([x[:n].numpy() for x, n in zip(data.x, data.lengths, strict=True)]).astype(np.float64)
    mean, std = training.measure_normalisation(data)
    # Both are float64 results rounded once to float32.
    np.testing.assert_allclose(mean.numpy(), frames.mean(0), rtol=2 * EPS32)
    np.testing.assert_allclose(std.numpy(), frames.std(0, ddof=1), rtol=2 * EPS32)


def test_training_twice_gives_the_same_bits_and_another_seed_gives_others(training):
    recipe = training.Recipe(epochs=2, batch_rows=4)
    other = training.Recipe(epochs=2, batch_rows=4, seed=recipe.seed + 1)
    data = synthetic_set(training)
    first, second, third = (training.train(data, r, lambda _: None).state_dict() for r in (recipe, recipe, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], third["head.weight"])


def test_training_learns_speakers_that_can_be_told_apart_and_reports_ten_lines(training):
    data = synthetic_set(training, rows=30)
    lines = []
    network = training.train(data, training.Recipe(epochs=20, batch_rows=10), lines.append)
    assert training.count_correct(network, data) == 30
    assert len(lines) == 10
    assert lines[-1].startswith("epoch  20 of 20   loss ")
    assert not network.training


def test_cross_validation_judges_every_row_once_by_a_network_trained_without_it(training, monkeypatch):
    data = synthetic_set(training, rows=15)
    seen, verdicts = [], []
    train, judge = training.train, training.count_correct

    def judge_and_note(network, rows):
        seen.append(rows.x)
        verdicts.append(judge(network, rows))
        return verdicts[-1]

    monkeypatch.setattr(training, "train", lambda rows, *rest: seen.append(rows.x) or train(rows, *rest))
    monkeypatch.setattr(training, "count_correct", judge_and_note)
    assert training.cross_validate(data, training.Recipe(epochs=2, batch_rows=6)) == sum(verdicts)
    assert [len(x) for x in seen] == [12, 3] * 5
    every_row = sorted(data.x.flatten(1).tolist())
    assert all(
        sorted(torch.cat(pair).flatten(1).tolist()) == every_row for pair in zip(seen[::2], seen[1::2], strict=True)
    )
    assert sorted(torch.cat(seen[1::2]).flatten(1).tolist()) == every_row


def test_recorded_recipe_is_the_one_in_the_script(training):
    assert training.asdict(training.RECIPE) == RECORD["recipe"]
    assert training.RECIPE in training.CANDIDATES


def test_results_are_written_so_that_they_read_back(training, tmp_path):
    data = synthetic_set(training)
    network = training.train(data, training.Recipe(epochs=1), lambda _: None)
    sentence = training.write_results(tmp_path, network, data, data, recipe=training.Recipe(), tools={"torch": "2"})
    record = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    restored = load_network(tmp_path / "weights.safetensors")
    assert training.count_correct(restored, data) == record["test_correct"]
    assert torch.equal(load_file(tmp_path / "test_set.safetensors")["x"], data.x)
    assert sentence.startswith(f"{record['test_correct']} of 12 test sequences are right")


def test_training_without_aeon_says_where_the_data_are(training, monkeypatch):
    monkeypatch.setitem(sys.modules, "aeon", None)  # as if it were not installed
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(SystemExit) as stop:
        training.main()
    assert "package aeon" in str(stop.value)


def test_request_bodies_are_rows_of_the_test_set_bit_for_bit(monkeypatch, test_set):
    rows = list(load_script(monkeypatch, "write_sequences").ROWS)
    for name, count in (("one_sequence", 1), ("three_sequences", 3)):
        x, lengths = json.loads((EXAMPLE / "sequences" / f"{name}.json").read_text(encoding="utf-8"))["inputs"]
        longest = int(test_set["lengths"][rows[:count]].max())
        assert (x["name"], x["shape"], x["datatype"]) == ("x", [count, longest, 12], "FP32")
        assert (lengths["name"], lengths["shape"], lengths["datatype"]) == ("lengths", [count], "INT32")
        assert lengths["data"] == test_set["lengths"][rows[:count]].tolist()
        sent = np.array(x["data"], dtype=np.float32).reshape(x["shape"])
        np.testing.assert_array_equal(sent, test_set["x"][rows[:count], :longest].numpy())


def test_files_for_predict_are_the_single_sequence(test_set):
    array = np.load(EXAMPLE / "sequences" / "one_sequence.npy", allow_pickle=False)
    with (EXAMPLE / "sequences" / "one_sequence.csv").open(newline="", encoding="utf-8") as file:
        lines = np.array(list(csv.reader(file)), dtype=np.float32)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, test_set["x"][67, :17].numpy())
    np.testing.assert_array_equal(lines, array)


def test_sequences_are_recognised_as_their_readme_says(network):
    readme = (EXAMPLE / "sequences" / "README.md").read_text(encoding="utf-8")
    for name in ("one_sequence.json", "three_sequences.json"):
        x, lengths = json.loads((EXAMPLE / "sequences" / name).read_text(encoding="utf-8"))["inputs"]
        with torch.inference_mode():
            scores, _ = network(torch.tensor(x["data"]).reshape(x["shape"]), torch.tensor(lengths["data"]))
        found = ", ".join(RECORD["labels"][k] for k in scores.argmax(1).tolist())
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
        assert row.split("|")[-2].strip() == found


def test_committed_sequences_are_what_the_script_writes(monkeypatch, tmp_path):
    load_script(monkeypatch, "write_sequences").write_sequences(tmp_path)
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (EXAMPLE / "sequences" / file.name).read_bytes(), file.name


def test_readme_states_the_recorded_count():
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    assert f"{RECORD['test_correct']} of the {RECORD['test_total']} test recordings" in readme
