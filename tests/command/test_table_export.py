"""A network whose answer is a table, from its file through export, inspect, predict and verify."""

import json

import numpy as np
import pytest
import torch

from cellgate.bundle.reader import read_bundle

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

QUICK = ("--drift-steps", "50", "--threads", "1", "--labels", "low,high")
FILE = """
import torch
from torch import nn


class Ahead(nn.Module):
    '''Three steps ahead, two numbers each, from every step.'''

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.lstm, self.head = nn.LSTM(2, 4, batch_first=True), nn.Linear(4, 6)

    def forward(self, x):
        return self.head(self.lstm(x)[0]).view(x.size(0), x.size(1), 3, 2)
"""


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    source = tmp_path_factory.mktemp("ahead") / "ahead.py"
    source.write_text(FILE, encoding="utf-8")
    out = tmp_path_factory.mktemp("bundles") / "ahead"
    done = run("export", f"{source}:Ahead", "--out", out, *QUICK)
    assert done.status == 0, done.err
    return out, done


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    rows = [np.random.default_rng(n).normal(size=(n, 2)).astype(np.float32) for n in (2, 1)]
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    path.write_text(json.dumps([row.tolist() for row in rows]))
    return path, rows


@pytest.fixture(scope="module")
def expected(rows):
    names = {}
    exec(FILE, names)
    network = names["Ahead"]().eval()
    with torch.no_grad():
        return [network(torch.from_numpy(row)[None])[0].numpy() for row in rows[1]]


def test_export_writes_the_table_into_the_bundle_and_inspect_shows_it(run, exported):
    out, done = exported
    manifest = read_bundle(out).manifest

    assert "verdict     equivalent: " in done.out
    assert (manifest.format_version, manifest.graph.outputs[0].shape) == (5, ("B", "T", 3, 2))
    assert (manifest.streamable, manifest.labels) == (True, ("low", "high"))
    assert "[B, T, 3, 2]" in run("inspect", out).out


def test_predict_gives_machines_each_number_and_the_label_of_each_of_its_rows(run, exported, rows, expected):
    done = run("predict", exported[0], "--input", rows[0], "--json")

    assert done.status == 0, done.err
    for y, labels, due in zip(done.answer["outputs"]["y"], done.answer["labels"], expected, strict=True):
        assert np.abs(np.array(y)[: len(due)] - due).max() < 1e-5
        assert labels == [[("low", "high")[place] for place in table] for table in due.argmax(-1)]


def test_predict_shows_people_a_line_for_each_step_with_the_rows_of_its_table(run, exported, rows, expected):
    done = run("predict", exported[0], "--input", rows[0])

    assert done.status == 0, done.err
    lines = [line.split() for line in done.out.splitlines() if line[:1].isdigit()]
    assert [line[:2] for line in lines] == [["0", "0"], ["0", "1"], ["1", "0"]]
    for line, table in zip(lines, [table for due in expected for table in due], strict=True):
        told = " ".join(line[2:])
        assert told.startswith("; ".join(("low", "high")[place] for place in table.argmax(1)) + " ")
        assert told.endswith("; ".join(f"{low:.4g} {high:.4g}" for low, high in table))


def test_predict_writes_the_table_as_an_array(run, exported, rows, tmp_path):
    done = run("predict", exported[0], "--input", rows[0], "--output", tmp_path / "y.npz")

    assert done.status == 0, done.err
    with np.load(tmp_path / "y.npz") as written:
        assert (written["y"].shape, written["lengths"].tolist()) == ((2, 2, 3, 2), [2, 1])


def test_labels_are_as_many_as_the_last_size_of_the_table(run, exported, tmp_path):
    source = tmp_path / "ahead.py"
    source.write_text(FILE, encoding="utf-8")

    done = run("export", f"{source}:Ahead", "--out", tmp_path / "out", "--labels", "a,b,c")

    assert (done.status, "labels: expected 2" in done.err) == (2, True)


def test_verify_passes_on_this_device(run, exported):
    done = run("verify", exported[0], "--threads", "1")

    assert done.status == 0, done.err
    assert "a row alone and in its batch: yes" in done.out
