"""A network of convolution, pooling and an LSTM, from its file through export, inspect, predict, bench and verify."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from cellgate.bundle.reader import read_bundle

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

QUICK = ("--drift-steps", "50", "--threads", "1")
FILE = """
import torch
from torch import nn


class Gait(nn.Module):
    '''Windows of three steps, the larger of two of them each, an LSTM over those, and its last step.'''

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.window, self.pool = nn.Conv1d(2, 4, 3), nn.MaxPool1d(2)
        self.lstm, self.score = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        found = self.pool(torch.relu(self.window(x.transpose(1, 2)))).transpose(1, 2)
        return self.score(self.lstm(found)[0][:, -1])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("gait") / "gait.py"
    path.write_text(FILE, encoding="utf-8")
    return f"{path}:Gait"


@pytest.fixture(scope="module")
def exported(run, source, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "gait"
    done = run("export", source, "--out", out, *QUICK)
    assert done.status == 0, done.err
    return out, done


@pytest.fixture(scope="module")
def gait(source):
    names = {}
    exec(FILE, names)
    network: nn.Module = names["Gait"]().eval()

    def answer(row):
        with torch.no_grad():
            return network(torch.from_numpy(row)[None])[0].numpy()

    return answer


def test_export_says_how_many_steps_it_takes_and_what_it_says_to_fewer(exported):
    out, done = exported

    assert "steps       at least 4, so no state is carried; for 3 it said RuntimeError: " in done.out
    assert "streamable  no" in done.out
    assert "verdict     equivalent: " in done.out
    bundle = read_bundle(out)
    assert (bundle.manifest.format_version, bundle.manifest.graph.least_steps) == (3, 4)
    assert bundle.manifest.graph.state == ()
    assert min(case.inputs["x"].shape[1] for case in bundle.golden) == 4
    report = json.loads((out / "equivalence.json").read_bytes())
    assert report["network"]["least_steps"] == 4
    assert {4, 5, 6, 7} <= {case["steps"] for case in report["cases"]}
    assert min(case["steps"] for case in report["cases"]) == 4
    assert min(point["steps"] for point in report["growth"]) >= 4


def test_inspect_says_it(run, exported):
    told, listed = run("inspect", exported[0]), run("inspect", exported[0], "--json").answer

    assert "free: the signature's axis B takes any size, T any from 4 on\n" in told.out
    assert listed["manifest"]["graph"]["least_steps"] == 4
    assert listed["manifest"]["format_version"] == 3


def test_predict_answers_each_row_at_its_own_length(run, exported, gait, tmp_path):
    rows = [np.random.default_rng(n).normal(size=(n, 2)).astype(np.float32) for n in (4, 9, 5, 5, 30)]
    (tmp_path / "rows.json").write_text(json.dumps([row.tolist() for row in rows]))

    done = run("predict", exported[0], "--input", tmp_path / "rows.json", "--json")

    assert done.status == 0, done.err
    found = np.array(done.answer["outputs"]["y"])
    expected = np.array([gait(row) for row in rows])
    assert np.abs(found - expected).max() < 1e-5


def test_predict_refuses_a_row_that_is_too_short_by_its_number(run, exported, tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps([[[0.5, 1.0]] * 6, [[0.5, 1.0]] * 3]))

    done = run("predict", exported[0], "--input", tmp_path / "rows.json")

    assert done.status == 2
    assert done.sentence == (
        "inputs.x: expected at least 4 steps, found 3 in row 1; this network takes no shorter sequence"
    )


def test_bench_refuses_lengths_that_are_too_short_and_measures_others(run, exported):
    short = run("bench", exported[0], "--lengths", "uniform:2-9", "--requests", "32")
    right = run("bench", exported[0], "--lengths", "uniform:4-9", "--requests", "32", "--json")

    assert short.status == 2
    assert short.sentence == (
        "lengths 'uniform:2-9': expected lengths of at least 4, which the network needs, found 2; look at --lengths"
    )
    assert right.status == 0, right.err
    assert {way["way"] for way in right.answer["ways"]} == {"alone", "lanes", "floor"}


def test_verify_runs_golden_cases_and_the_source_again(run, exported, source):
    golden = run("verify", exported[0], "--threads", "1")
    whole = run("verify", exported[0], "--source", source, "--case", "B2-T5", "--threads", "1")

    assert golden.status == 0, golden.err
    assert whole.status == 0, whole.err
    assert whole.out.startswith("case B2-T5: passed\n")
