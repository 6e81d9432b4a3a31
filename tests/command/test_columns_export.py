"""A network of several inputs, from its file through export, inspect and verify with --columns."""

import numpy as np
import pytest

pytestmark = pytest.mark.long

FILE = """
import torch
from torch import nn


class Waits(nn.Module):
    '''Values, which of them are there, and how long ago the step before was.'''

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.rnn, self.head = nn.GRU(2 + 2 + 1, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, values, there, ago):
        y, _ = self.rnn(torch.cat([values * there, there, torch.log(1 + ago).unsqueeze(-1)], -1))
        return self.head(y)
"""
QUICK = ("--drift-steps", "50", "--threads", "1")
COLUMNS = ("--columns", "values=2,there=2:2,ago=1:abs")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    file = tmp_path_factory.mktemp("waits") / "waits.py"
    file.write_text(FILE, encoding="utf-8")
    return f"{file}:Waits"


def test_bundle_says_what_its_x_holds_and_is_verified_by_the_same_options(run, source, tmp_path):
    done = run("export", source, "--out", tmp_path / "waits", *COLUMNS, *QUICK)
    shown = run("inspect", tmp_path / "waits")
    again = run("verify", tmp_path / "waits", "--source", source, *COLUMNS, "--case", "B2-T2", "--threads", "1")

    assert done.status == 0, done.err
    assert "layer 0     GRUCell -> GRU (fused, time free), layer 0 of rnn\n" in done.out
    assert "exchanged   rnn, nn.GRU: weights and probes equal\n" in done.out
    x = np.array([[0.5, -1.5, 1.0, 0.0, 2.0], [0.0, 0.0, 0.0, 1.0, 0.0]], dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    answered = run("predict", tmp_path / "waits", "--input", tmp_path / "x.npy")
    x[1, 3] = 0.5
    np.save(tmp_path / "x.npy", x)
    refused = run("predict", tmp_path / "waits", "--input", tmp_path / "x.npy")

    held = "columns      x holds values (2), there (2, whole numbers 0 to 1), ago (1, [B, T], never negative)"
    assert held in shown.out
    assert held.replace("      ", "     ") in done.out
    assert again.status == 0, again.err
    assert answered.status == 0, answered.err
    assert refused.status == 2
    assert "expected whole numbers in 0 .. 1 in the columns of there, found 0.5 at [0, 1, 3]" in refused.err


@pytest.mark.no_cover
def test_other_columns_than_the_bundle_s_are_told(run, source, tmp_path):
    done = run("export", source, "--out", tmp_path / "waits", *COLUMNS, *QUICK)
    other = run("verify", tmp_path / "waits", "--source", source, "--columns", "values=2,there=2:3,ago=1:abs")

    assert done.status == 0, done.err
    assert other.status == 2
    assert "there 2 (whole numbers in 0 .. 1), ago 1 (numbers of 0 or more) as in the bundle, found" in other.err
    assert "with the same --argument, --input-dim, --columns and --answer" in other.err


def test_columns_that_cannot_be_read_are_wrong_use(run, source, tmp_path):
    done = run("export", source, "--out", tmp_path / "waits", "--columns", "values", *QUICK)

    assert done.status == 2
    assert "--columns: expected NAME=WIDTH" in done.err
    assert done.err.count("\n") == 1


def test_numbers_that_the_network_is_not_made_for_are_told_with_what_helps(run, source, tmp_path):
    words = ("--columns", "values=2,there=2,ago=1", *QUICK)
    done = run("export", source, "--out", tmp_path / "waits", *words)

    assert done.status == 2
    assert "Waits.forward gives NaN for " in done.err
    assert (
        "where an argument is never negative, or 0 or 1 alone, say so, as --columns x=3:abs or x=3,mask=3:2" in done.err
    )
    assert not (tmp_path / "waits").exists()
