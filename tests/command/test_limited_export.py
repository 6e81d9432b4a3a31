"""A network with a table of positions, from its file through export, inspect, predict, bench and verify."""

import json

import numpy as np
import pytest

from cellgate.bundle.reader import read_bundle

pytestmark = pytest.mark.long

QUICK = ("--drift-steps", "50", "--threads", "1")
FILE = """
import torch
from torch import nn


class Placed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.places = nn.Embedding(40, 2)
        self.lstm, self.score = nn.LSTM(2, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.score(self.lstm(x + self.places(torch.arange(x.size(1))))[0])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("placed") / "placed.py"
    path.write_text(FILE, encoding="utf-8")
    return f"{path}:Placed"


@pytest.fixture(scope="module")
def exported(run, source, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "placed"
    done = run("export", source, "--out", out, *QUICK)
    assert done.status == 0, done.err
    return out, done


def test_export_says_how_many_steps_it_takes_and_what_it_says_to_more(exported):
    out, done = exported

    assert "steps       at most 40, so no state is carried; for 41 it said IndexError: index out of range" in done.out
    assert "streamable  no" in done.out
    bundle = read_bundle(out)
    assert (bundle.manifest.format_version, bundle.manifest.graph.most_steps) == (7, 40)
    report = json.loads((out / "equivalence.json").read_bytes())
    assert report["network"]["most_steps"] == 40
    assert max(case["steps"] for case in report["cases"]) == 40
    assert max(point["steps"] for point in report["growth"]) == 40


def test_inspect_says_it(run, exported):
    told, listed = run("inspect", exported[0]), run("inspect", exported[0], "--json").answer

    assert "free: the signature's axis B takes any size, T any from 1 to 40\n" in told.out
    assert listed["manifest"]["graph"]["most_steps"] == 40


def test_predict_refuses_a_row_that_is_too_long_by_its_number(run, exported, tmp_path):
    rows = np.zeros((2, 41, 2), np.float32)
    (tmp_path / "rows.json").write_text(json.dumps([rows[0, :40].tolist(), rows[1].tolist()]))

    done = run("predict", exported[0], "--input", tmp_path / "rows.json")

    assert done.status == 2
    assert (
        done.sentence == "inputs.x: expected at most 40 steps, found 41 in row 1; this network takes no longer sequence"
    )


def test_bench_refuses_lengths_that_are_too_long_and_ends_a_preset_where_the_network_does(run, exported):
    long = run("bench", exported[0], "--lengths", "uniform:2-41", "--requests", "32")
    right = run("bench", exported[0], "--lengths", "medium", "--requests", "32", "--json")

    assert long.status == 2
    assert long.sentence == (
        "lengths 'uniform:2-41': expected lengths of at most 40, for the network takes no more, found 41; look at "
        "--lengths"
    )
    assert right.status == 0, right.err
    assert right.answer["lengths"].endswith(", up to 40 steps")


def test_verify_runs_the_longest_case_of_the_source_again(run, exported, source):
    done = run("verify", exported[0], "--source", source, "--case", "B1-T40", "--threads", "1")

    assert done.status == 0, done.err
    assert done.out.startswith("case B1-T40: passed\n")
