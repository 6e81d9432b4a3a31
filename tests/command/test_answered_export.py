"""A network that answers for each step that its front leaves, from its file through export, inspect and predict."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from cellgate.bundle.reader import read_bundle

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

QUICK = ("--drift-steps", "50", "--threads", "1", "--labels", "a,b,blank")
FILE = """
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Reader(nn.Module):
    '''Windows of three steps, every second one, an LSTM over those, and scores for each.'''

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.window = nn.Conv1d(2, 4, 3, stride=2)
        self.lstm, self.score = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x, lengths):
        left = torch.relu(self.window(x.transpose(1, 2))).transpose(1, 2)
        counts = ((lengths - 1) // 2).cpu()
        packed = pack_padded_sequence(left, counts, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=left.size(1))
        return self.score(y), counts
"""


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    source = tmp_path_factory.mktemp("reader") / "reader.py"
    source.write_text(FILE, encoding="utf-8")
    out = tmp_path_factory.mktemp("bundles") / "reader"
    done = run("export", f"{source}:Reader", "--out", out, *QUICK)
    assert done.status == 0, done.err
    return out, done


@pytest.fixture(scope="module")
def read_alone():
    names = {}
    exec(FILE, names)
    network: nn.Module = names["Reader"]().eval()

    def answer(row):
        with torch.no_grad():
            return network(torch.from_numpy(row)[None], torch.tensor([len(row)]))[0][0].numpy()

    return answer


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    rows = [np.random.default_rng(n).normal(size=(n, 2)).astype(np.float32) for n in (4, 9, 3, 30)]
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    path.write_text(json.dumps([row.tolist() for row in rows]))
    return path, rows


def test_export_says_for_how_many_steps_it_answers(exported):
    out, done = exported
    manifest = read_bundle(out).manifest

    assert "answers     for (T-1)//2 of T steps, rounded down\n" in done.out
    assert "verdict     equivalent: " in done.out
    assert "returns 1 tensor more, beside y" in done.err
    assert "the bundle leaves it out, and it is of whole numbers, which are no answer\n" in done.err
    assert (manifest.format_version, manifest.graph.outputs[0].shape) == (4, ("B", "(T-1)//2", 3))
    assert (manifest.graph.lengths, manifest.graph.least_steps, manifest.streamable) == ("lengths", 3, False)
    assert {case.outputs["y"].shape[1] for case in read_bundle(out).golden} > {1}


def test_inspect_says_it(run, exported):
    told, listed = run("inspect", exported[0]), run("inspect", exported[0], "--json").answer

    assert "answers      for (T-1)//2 of T steps, rounded down\n" in told.out
    assert "[B, (T-1)//2, 3]" in told.out
    assert listed["manifest"]["graph"]["outputs"][0]["shape"] == ["B", "(T-1)//2", 3]


def test_predict_gives_each_row_the_answer_that_it_has_alone(run, exported, rows, read_alone):
    path, sequences = rows

    done = run("predict", exported[0], "--input", path, "--json")

    assert done.status == 0, done.err
    assert (done.answer["lengths"], done.answer["answer_lengths"]) == ([4, 9, 3, 30], [1, 4, 1, 14])
    for row, y, labels, left in zip(
        sequences, done.answer["outputs"]["y"], done.answer["labels"], (1, 4, 1, 14), strict=True
    ):
        expected = read_alone(row)
        assert np.abs(np.array(y)[:left] - expected).max() < 1e-5
        assert not np.array(y)[left:].any()
        assert labels == [("a", "b", "blank")[place] for place in expected.argmax(1)]


def test_predict_prints_and_writes_as_many_steps_as_are_left(run, exported, rows, tmp_path):
    path, _ = rows

    done = run("predict", exported[0], "--input", path, "--output", tmp_path / "y.npz")

    assert done.status == 0, done.err
    lines = [line.split()[:2] for line in done.out.splitlines() if line[:1].isdigit()]
    assert lines == [[str(row), str(step)] for row, left in enumerate((1, 4, 1, 14)) for step in range(left)]
    with np.load(tmp_path / "y.npz") as written:
        assert written["y"].shape == (4, 14, 3)
        assert (written["lengths"].tolist(), written["answer_lengths"].tolist()) == ([4, 9, 3, 30], [1, 4, 1, 14])


def test_verify_passes_on_this_device(run, exported):
    done = run("verify", exported[0], "--threads", "1")

    assert done.status == 0, done.err
    assert "a row alone and in its batch: yes" in done.out
