"""cellgate predict: sequences from every kind of file, against the float64 reference of the same network."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cellgate.command.prediction import batches
from cellgate.model import SequenceModel, load_network, run_reference

LENGTHS = (5, 2, 3)


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(0)
    return [random.standard_normal((length, 3)).astype(np.float32) for length in LENGTHS]


@pytest.fixture(scope="module")
def expected(classifier, rows):
    """y [1, 2] of each row alone, in float64, from the equations."""
    network = load_network(classifier.path.parents[1] / "weights.safetensors")
    weights = {name: weight.detach().numpy() for name, weight in network.state_dict().items()}
    return [run_reference(network.describe(), weights, row[np.newaxis], None, None)[0] for row in rows]


def padded(rows):
    batch = np.zeros((len(rows), max(map(len, rows)), 3), np.float32)
    for place, row in enumerate(rows):
        batch[place, : len(row)] = row
    return batch


def save_csv(path, rows, header=None):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([*([header] if header else []), *rows])


def request(batch, lengths, **more):
    inputs = [
        {"name": "x", "shape": list(batch.shape), "datatype": "FP32", "data": batch.tolist()},
        {"name": "lengths", "shape": [len(lengths)], "datatype": "INT32", "data": list(lengths)},
    ]
    return {"inputs": inputs, **more}


def write_one(path, row):
    """Write one sequence in the form that the suffix says."""
    if path.suffix == ".npy":
        np.save(path, row.astype(np.float64))
    elif path.suffix == ".npz":
        np.savez(path, x=row)
    elif path.suffix == ".csv":
        save_csv(path, row.tolist(), header=("a", "b", "c"))
    elif path.suffix == ".json":
        path.write_text(json.dumps(row.tolist()))
    else:
        pq.write_table(pa.table({name: row[:, k] for k, name in enumerate("abc")}), path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".json", ".parquet"])
def test_one_sequence_of_each_kind_of_file_gives_the_same(run, classifier, rows, expected, tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    write_one(path, rows[0])
    answer = run("predict", classifier.path, "--input", path, "--device", "cpu", "--json").answer

    np.testing.assert_allclose(answer["outputs"]["y"], expected[0], rtol=0, atol=1e-5)
    assert answer["lengths"] == [5]
    assert answer["sequences"] == ["0"]


def write_several(path, rows):
    if path.suffix == ".npz":
        np.savez(path, x=padded(rows), lengths=np.array(LENGTHS))
    elif path.suffix == ".parquet":
        # Rows of the sequences are mixed and backwards; the columns say where each belongs.
        table = {"sequence": [], "step": [], "a": [], "b": [], "c": []}
        for step in range(max(LENGTHS) - 1, -1, -1):
            for name, row in zip(("p", "q", "r"), rows, strict=True):
                if step < len(row):
                    for column, cell in zip(table, (name, step, *row[step].tolist()), strict=True):
                        table[column].append(cell)
        pq.write_table(pa.table(table), path)
    elif path.stem == "request":
        path.write_text(json.dumps(request(padded(rows), LENGTHS)))
    else:
        path.write_text(json.dumps([row.tolist() for row in rows]))


@pytest.mark.parametrize("name", ["x.npz", "x.parquet", "x.json", "request.json"])
def test_several_sequences_of_unequal_length_keep_their_answers(run, classifier, rows, expected, tmp_path, name):
    write_several(tmp_path / name, rows)
    answer = run("predict", classifier.path, "--input", tmp_path / name, "--json").answer
    names = ["p", "r", "q"] if name == "x.parquet" else ["0", "1", "2"]
    order = [0, 2, 1] if name == "x.parquet" else [0, 1, 2]  # by the first row that names it

    assert answer["sequences"] == names
    assert answer["lengths"] == [LENGTHS[place] for place in order]
    for found, place in zip(answer["outputs"]["y"], order, strict=True):
        np.testing.assert_allclose(found, expected[place][0], rtol=0, atol=1e-5)
    assert answer["labels"] == [("down", "up")[int(expected[place][0].argmax())] for place in order]


def test_people_read_label_and_scores(run, classifier, rows, expected, tmp_path):
    np.save(tmp_path / "x.npy", padded(rows))
    done = run("predict", classifier.path, "--input", tmp_path / "x.npy", "--device", "cpu")
    one = run(
        "predict", classifier.path, "--input", tmp_path / "x.npy", "--device", "cpu", "--output", tmp_path / "y.npy"
    )

    assert done.status == 0
    assert done.out.startswith("Class-fier version 1 on cpu: 3 sequences\n")
    assert done.out.splitlines()[2].split() == ["sequence", "steps", "label", "score", "y"]
    assert done.out.splitlines()[4].split()[:3] == ["0", "5", ("down", "up")[int(expected[0][0].argmax())]]
    assert done.err == ""
    assert one.err == f"cellgate: written to {tmp_path / 'y.npy'}\n"
    np.testing.assert_allclose(np.load(tmp_path / "y.npy")[0], expected[0][0], rtol=0, atol=1e-5)


def test_states_go_in_and_come_out_and_chunks_give_what_one_pass_gives(run, classifier, rows, expected, tmp_path):
    np.savez(tmp_path / "first.npz", x=rows[0][:2])
    words = ("predict", classifier.path, "--with-state", "--output", tmp_path / "state.npz")
    first = run(*words, "--input", tmp_path / "first.npz")
    state = np.load(tmp_path / "state.npz")
    np.savez(tmp_path / "rest.npz", x=rows[0][2:], h0=state["h_n"], c0=state["c_n"])
    rest = run("predict", classifier.path, "--input", tmp_path / "rest.npz", "--with-state", "--json").answer

    assert "h_n  float32 [1, 1, 4]; --json or --output FILE gives the numbers\n" in first.out
    assert sorted(state.files) == ["c_n", "h_n", "lengths", "y"]
    assert list(rest["outputs"]) == ["y", "h_n", "c_n"]
    np.testing.assert_allclose(rest["outputs"]["y"], expected[0], rtol=0, atol=1e-5)


def test_a_request_names_its_outputs(run, classifier, rows, tmp_path):
    body = request(padded(rows), LENGTHS, outputs=[{"name": "h_n"}])
    (tmp_path / "r.json").write_text(json.dumps(body))
    done = run("predict", classifier.path, "--input", tmp_path / "r.json")
    answer = run("predict", classifier.path, "--input", tmp_path / "r.json", "--with-state", "--json").answer

    assert "h_n  float32 [1, 3, 4]" in done.out
    assert "sequence " not in done.out
    assert list(answer["outputs"]) == ["h_n", "c_n"]
    assert "labels" not in answer


def test_an_answer_in_a_json_file_is_the_one_on_stdout(run, classifier, rows, tmp_path):
    np.save(tmp_path / "x.npy", rows[0])
    words = ("--input", tmp_path / "x.npy", "--json", "--output", tmp_path / "y.json")
    done = run("predict", classifier.path, *words)

    assert json.loads((tmp_path / "y.json").read_text()) == done.answer


def test_tokens_are_read_from_each_kind_of_file_and_every_step_is_answered(run, tagger, tmp_path):
    np.save(tmp_path / "a.npy", np.array([1, 0, 6]))
    np.save(tmp_path / "b.npy", np.array([[1, 0, 6]], np.int32))
    (tmp_path / "c.json").write_text("[1, 0, 6]")
    (tmp_path / "d.csv").write_text("token\n1\n\n0\n6\n")
    pq.write_table(pa.table({"t": pa.array([1, 0, 6], pa.int16())}), tmp_path / "e.parquet")
    answers = [run("predict", tagger.path, "--input", path, "--json").answer for path in sorted(tmp_path.iterdir())]
    torch.manual_seed(1)
    network = SequenceModel(7, 4, front="embedding", front_dim=3, cell="GRUCell").eval()
    with torch.no_grad():
        y, _ = network(torch.tensor([[1, 0, 6]]))

    for answer in answers:
        np.testing.assert_allclose(answer["outputs"]["y"], y.numpy(), rtol=0, atol=1e-5)
        assert answer["labels"] == [["abcd"[k] for k in y[0].argmax(1).tolist()]]


def test_unequal_answers_over_time_are_padded_with_zeros_and_long_tables_cut(run, tagger, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps([[1] * 60, [2, 3]]))
    done = run("predict", tagger.path, "--input", tmp_path / "x.json")
    answer = run("predict", tagger.path, "--input", tmp_path / "x.json", "--json").answer
    y = np.array(answer["outputs"]["y"])

    assert y.shape == (2, 60, 4)
    assert not y[1, 2:].any()
    assert [len(labels) for labels in answer["labels"]] == [60, 2]
    assert "and 12 more lines; --json or --output FILE gives them all\n" in done.out


def test_sequences_that_cannot_be_padded_run_apart_and_normalisation_is_the_callers_choice(run, odd, tmp_path):
    long, short = np.ones((4, 3), np.float32), np.ones((2, 3), np.float32)
    (tmp_path / "x.json").write_text(json.dumps([long.tolist(), short.tolist(), long.tolist()]))
    moments = np.array([1, 2, 3], np.float32), np.array([0.5, 1, 2], np.float32)
    normal = [((row - moments[0]) / moments[1]).tolist() for row in (long, short, long)]
    (tmp_path / "n.json").write_text(json.dumps(normal))
    plain = run("predict", odd.path, "--input", tmp_path / "x.json", "--json")
    applied = run("predict", odd.path, "--input", tmp_path / "x.json", "--json", "--normalise")
    by_hand = run("predict", odd.path, "--input", tmp_path / "n.json", "--json")
    wide = tmp_path / "w.json"
    wide.write_text("[[1, 2]]")
    refused = run("predict", odd.path, "--input", wide, "--normalise")

    assert "the bundle wants normalised input, and x was taken as it is; --normalise applies" in plain.err
    assert applied.err == ""
    assert applied.answer["outputs"] == by_hand.answer["outputs"] != plain.answer["outputs"]
    assert applied.answer["outputs"]["y"][0] == applied.answer["outputs"]["y"][2]
    assert applied.answer["lengths"] == [4, 2, 4]
    assert "inputs.x.shape: expected [B, T, 3]" in refused.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--output", "y.csv"], "--output y.csv: expected .npy, .npz, .json, found '.csv'"),
        (["--output", "y"], "found 'no suffix'"),
        (["--output", "y.npy", "--with-state"], "expected .npz or .json with --with-state, for .npy holds one array"),
        (["--output", "none/y.npy"], "expected the folder none to exist, found none; make it first"),
        (["--normalise"], "--normalise: expected a bundle with a normalisation, Class-fier has none; leave it out"),
    ],
)
def test_options_that_do_not_fit_are_told(run, classifier, rows, tmp_path, words, sentence):
    np.save(tmp_path / "x.npy", rows[0])
    done = run("predict", classifier.path, "--input", tmp_path / "x.npy", *words)

    assert done.status == 2
    assert sentence in done.err


def test_numbers_print_as_short_as_float32_allows():
    from cellgate.command.predict_command import _plain

    assert _plain(np.array([[0.1, 1e-10]], np.float32)) == [[0.1, 1e-10]]
    assert _plain(np.array([3], np.int64)) == [3]


@pytest.mark.parametrize(
    ("lengths", "ragged", "expected"),
    [
        ([3, 1, 2], True, [[0, 1, 2]]),
        ([3, 3, 2, 2, 3], False, [[0, 1], [2, 3], [4]]),
        ([2**17 - 1, 1, 1], True, [[0], [1, 2]]),
        ([2**20], True, [[0]]),
        ([1] * 300, True, [list(range(256)), list(range(256, 300))]),
    ],
)
def test_neighbours_run_together_as_far_as_memory_and_padding_allow(lengths, ragged, expected):
    assert list(batches(lengths, ragged=ragged)) == expected


def test_a_step_that_counts_may_be_written_with_a_point(run, classifier, tmp_path):
    (tmp_path / "x.csv").write_text("0.0,1,2\n0,1,2\n")

    assert run("predict", classifier.path, "--input", tmp_path / "x.csv", "--json").answer["lengths"] == [2]
