"""The options of cellgate export: what each may say, and that wrong use is told before anything takes time."""

import argparse
import os

import pytest
import torch

from cellgate.command.errors import UsageError
from cellgate.command.export_options import GATE_NAMES, gate_order
from cellgate.command.source_options import labels, normalisation, roles, take_threads
from cellgate.model.checkpoint import GATE_ORDER
from cellgate.serve.runtime import cpus

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        pytest.param(
            [], 2, "--out is missing, expected the folder to write; for example --out bundles/mine", id="no-out"
        ),
        pytest.param(
            ["--out", "."], 2, ".: expected nothing there, found something; give another --out, or", id="taken"
        ),
        pytest.param(["--out", "e.json", "--overwrite"], 2, "expected a bundle to overwrite, found", id="no-folder"),
        pytest.param(
            [*("--out", "."), "--overwrite", "--name", "a"], 2, "expected a bundle to overwrite", id="no-bundle"
        ),
        pytest.param(["--out", "e.json/new"], 2, "e.json is no folder; give another --out", id="in-a-file"),
        pytest.param(["--out", "new", "--name", "a b"], 2, "--name: expected letters, digits", id="name"),
        pytest.param(["--out", "..."], 2, "--out: no name can be made of", id="no-name"),
        pytest.param(
            ["--out", "new", "--labels", "x"], 2, "--labels: expected a file, or names joined by", id="labels"
        ),
        pytest.param(
            ["--out", "new", "--labels", "a,b,c"], 2, "labels: expected 2, one for each output, found 3", id="3"
        ),
        pytest.param(
            ["--out", "new", "--labels", "e.json"], 2, "e.json is a list of something else, expected", id="[]"
        ),
        pytest.param(["--out", "new", "--labels", "m.json"], 2, "m.json: expected JSON, found", id="labels-json"),
        pytest.param(["--out", "new", "--labels", "b.bin"], 2, "b.bin: expected text in UTF-8", id="labels-bytes"),
        pytest.param(
            ["--out", "new", "--normalisation", "none"], 2, "none: expected to read or write it, found: no", id="n"
        ),
        pytest.param(
            ["--out", "new", "--normalisation", "e.json"], 2, 'e.json: expected {"mean": [numbers]', id="form"
        ),
        pytest.param(["--out", "new", "--normalisation", "z.json"], 2, "z.json: expected as many means as", id="std"),
        pytest.param(["--out", "new", "--normalisation", "w.json"], 2, "normalisation: expected 3 numbers", id="width"),
        pytest.param(
            ["--out", "new", "--argument", "sequence=a", "--argument", "sequence=b"], 2, "expected one name", id="twice"
        ),
        pytest.param(["--out", "new", "--argument", "x=a"], 2, "expected sequence=NAME, lengths=NAME, mask", id="role"),
        pytest.param(["--out", "new", "--drift-steps", "2"], 2, "expected an integer in 3 .. 1000000", id="drift"),
        pytest.param(
            ["--out", "new", "--threads", "many"], 2, "expected an integer in 1 .. 1024, found 'many'", id="int"
        ),
        pytest.param(["--out", "new", "--weights", "w.bin"], 2, "has the suffix '.bin'", id="weights"),
    ],
)
def test_wrong_use_is_told_before_anything_takes_time(run, networks, tmp_path, monkeypatch, words, status, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "m.json").write_text("[", encoding="utf-8")
    (tmp_path / "z.json").write_text('{"mean": [1], "std": [0]}', encoding="utf-8")
    (tmp_path / "w.json").write_text('{"mean": [1], "std": [1]}', encoding="utf-8")
    (tmp_path / "b.bin").write_bytes(b"\xff\xfe\x00")
    done = run("export", f"{networks / 'networks.py'}:classifier", *words)

    assert done.status == status
    assert done.out == ""
    assert sentence in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_tokens_take_no_normalisation(run, networks, tmp_path):
    (tmp_path / "m.json").write_text('{"mean": [1], "std": [1]}', encoding="utf-8")
    words = ("--out", tmp_path / "new", "--labels", "a,b,c,d", "--normalisation", tmp_path / "m.json")
    done = run("export", f"{networks / 'networks.py'}:tagger", *words)

    assert done.status == 2
    assert "normalisation: expected none, for the network takes tokens" in done.err


@pytest.mark.parametrize(
    ("asked", "of_openmp", "threads"),
    [(2, None, 2), (None, None, 3), (None, "1", 1), (None, "4,2", 4), (2, "1", 2), (None, "many", 3), (None, "0", 3)],
)
def test_threads_are_those_asked_for_or_of_openmp_or_the_cpus_that_the_process_may_use(
    monkeypatch, asked, of_openmp, threads
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if of_openmp is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", of_openmp)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 5, 7})
    monkeypatch.setattr(cpus, "cgroup_quota", lambda _root: None)
    before = torch.get_num_threads()
    try:
        assert (take_threads(asked), torch.get_num_threads()) == (threads, threads)
    finally:
        torch.set_num_threads(before)


def test_states_of_several_arguments_are_joined():
    assert roles([("state", "h"), ("lengths", "n"), ("state", "c")]) == {"state": "h,c", "lengths": "n"}
    assert roles([]) is None


def test_many_labels_may_be_longer_than_the_name_of_a_file():
    names = tuple(f"label{number}" for number in range(100))

    assert labels(",".join(names)) == names


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e39", "1" + "0" * 400])
def test_a_normalisation_that_float32_cannot_hold_is_refused(tmp_path, number):
    (tmp_path / "m.json").write_text(f'{{"mean": [0, {number}], "std": [1, 1]}}', encoding="utf-8")

    with pytest.raises(UsageError, match="finite in float32, found another form"):
        normalisation(str(tmp_path / "m.json"))


def test_labels_of_a_json_file_are_read(tmp_path):
    (tmp_path / "l.json").write_text('["a", "b, c"]', encoding="utf-8")

    assert labels(str(tmp_path / "l.json")) == ("a", "b, c")


def test_the_gates_of_the_option_are_those_of_the_checkpoint_in_any_order():
    assert GATE_NAMES == GATE_ORDER  # the options of the command line are there without torch
    assert gate_order("cell, input,output,forget") == ("cell", "input", "output", "forget")


@pytest.mark.parametrize("text", ["input,forget,output", "input,forget,output,output", "i,f,g,o", ""])
def test_an_order_that_is_not_of_the_four_gates_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected input, forget, output, cell, each once"):
        gate_order(text)
