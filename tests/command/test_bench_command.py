"""cellgate bench: a stub server under load, a real bundle's limit, and what is printed."""

import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from cellgate.command.bench_options import BUNDLE_ONLY, URL_ONLY
from cellgate.command.parser import make_parser

QUICK = ("--seconds", "0.3", "--warm-up", "0.05")
WITHOUT = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from cellgate.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def test_a_load_is_told_for_people(run, stub):
    done = run("bench", stub.url, "--connections", "2", "--lengths", "uniform:7-29", *QUICK)

    assert done.status == 0, done.err
    assert done.out.startswith(f"toy at {stub.url}: closed loop, 2 connections, lengths uniform:7-29\n")
    for words in ("answers  ", " a second, over 0.3 s", "1 row a request, binary", "failed   none", "p99 ms"):
        assert words in done.out
    assert "shortest quarter   7 .. " in done.out
    assert "longest quarter" in done.out
    assert "cellgate: 0.05 s of warm-up, then 0.3 s of measuring at most\n" in done.err


def test_a_load_is_told_for_machines(run, stub):
    done = run("bench", stub.url, "--rate", "200", "--requests", "20", "--rows", "2", "--seed", "7", "--json", *QUICK)
    answer = done.answer

    assert done.status == 0, done.err
    assert (answer["kind"], answer["url"], answer["model"], answer["loop"]) == ("load", stub.url, "toy", "open")
    assert answer["lengths"] == "medium (lognormal:40,0.8,5-300)"
    assert (answer["rate"], answer["connections"], answer["rows"], answer["seed"]) == (200.0, 512, 2, 7)
    assert answer["latency"]["count"] == answer["requests"] <= 20
    assert set(answer["latency"]) == {"count", "p50_s", "p90_s", "p99_s", "max_s"}
    assert answer["errors"] == {}
    assert set(answer["generator"]) == {"cpu_share", "lateness", "held_back", "complaints"}
    assert answer["quartiles"][0]["shortest"] >= 5
    assert answer["timeline"]
    assert all(head["inputs"][0]["shape"][0] == 2 for head in stub.heads)


def test_a_server_that_asks_for_a_key_gets_that_of_the_environment(run, stub, monkeypatch):
    stub.key = "0123456789abcdef"
    monkeypatch.setenv("CELLGATE_API_KEY", stub.key)

    done = run("bench", stub.url, "--connections", "2", *QUICK)

    assert done.status == 0, done.err
    assert "failed   none" in done.out


def test_lengths_that_are_alike_have_one_line(run, stub):
    done = run("bench", stub.url, "--lengths", "fixed:4", "--requests", "5", *QUICK)

    assert done.status == 0, done.err
    assert "quarter" not in done.out
    assert "4 .. 4" in done.out


def test_lengths_of_two_kinds_are_two_parts(run, stub, tmp_path):
    (tmp_path / "lengths.txt").write_text("4\n9\n")
    done = run("bench", stub.url, "--lengths", f"file:{tmp_path / 'lengths.txt'}", "--requests", "40", *QUICK)

    assert "part 1      4 .. 4" in done.out
    assert "part 2      9 .. 9" in done.out


def test_json_is_sent_where_the_server_does_not_say_that_it_takes_binary(run, stub):
    stub.pages["/v2"] = {"extensions": []}
    done = run("bench", stub.url, "--requests", "3", *QUICK)
    stub.heads.clear()
    asked = run("bench", stub.url, "--requests", "3", "--body", "binary", *QUICK)

    assert "cellgate: the server does not say that it takes binary tensors: JSON is sent\n" in done.err
    assert "1 row a request, json" in done.out
    assert "JSON is sent" not in asked.err
    assert "data" not in stub.heads[0]["inputs"][0]


def test_streams_are_kept_by_the_client_or_by_a_server_that_says_that_it_can(run, stub):
    ours = run("bench", stub.url, "--stream-steps", "5", "--lengths", "fixed:9", "--requests", "2", *QUICK)
    kept = {len(head["inputs"]) for head in stub.heads}
    stub.heads.clear()
    stub.pages["/v2"] = {"extensions": ["binary_tensor_data", "sequence"]}
    theirs = run("bench", stub.url, "--stream-steps", "5", "--lengths", "fixed:9", "--requests", "2", *QUICK)

    assert kept == {1, 2}
    assert "the state kept by the client" in ours.out
    assert "parts of 5 steps" in ours.out
    assert "the state kept by the server" in theirs.out
    assert all("sequence_id" in head["parameters"] for head in stub.heads)


def test_a_generator_that_may_have_been_the_limit_says_so(run, stub, monkeypatch):
    monkeypatch.setattr("cellgate.client.load_run._BUSY_SHARE", 0.0)
    done = run("bench", stub.url, "--requests", "10", *QUICK)

    assert "cellgate: warning: the generator used " in done.err


@pytest.mark.parametrize("suffix", [".svg", ".html"])
def test_a_load_is_plotted(run, stub, tmp_path, suffix):
    done = run("bench", stub.url, "--requests", "10", "--plot", tmp_path / f"load{suffix}", *QUICK)
    text = (tmp_path / f"load{suffix}").read_text(encoding="utf-8")

    assert done.status == 0, done.err
    assert f"written to {tmp_path / f'load{suffix}'}" in done.err
    assert "Latency by length of the sequence" in text
    if suffix == ".svg":
        ET.fromstring(text)


def test_every_option_says_what_it_fits(run):
    known = {action.dest for action in make_parser()._subparsers._group_actions[0].choices["bench"]._actions}

    assert set(URL_ONLY) | set(BUNDLE_ONLY) < known
    help_text = " ".join(run("bench", "--help").out.split())
    for words in ("load, for a URL:", "streams, for a URL:", "engine, for a BUNDLE:", "small is uniform:7-29"):
        assert words in help_text


LIMIT = ("--device", "cpu", "--threads", "1", "--seconds", "0.1", "--requests", "64")


@pytest.mark.slow
def test_a_bundle_s_limit_is_told_for_people_and_plotted(run, classifier, tmp_path):
    plot = tmp_path / "limit.html"
    done = run("bench", classifier.path, "--lengths", "small", "--plot", plot, *LIMIT)
    drawn = run("bench", classifier.path, "--lengths", "small", "--plot", tmp_path / "limit.svg", *LIMIT)

    assert done.status == drawn.status == 0, done.err
    assert " without HTTP, cpu, 1 thread: lengths small (uniform:7-29)\n\nsequences  64, of " in done.out
    for words in (
        "64, of ",
        "plan  ",
        "one at a time",
        "padded in arrival order, batches of 32",
        "sorted by length",
        "lanes: this engine, 32 outstanding",
        "floor: full batches of",
    ):
        assert words in done.out
    below = done.out.partition("floor: full batches of")[2].splitlines()
    assert any("Lanes take, decide, pack and answer each sequence by itself" in line for line in below)
    assert "100%" in done.out
    assert "lanes: this engine" in plot.read_text(encoding="utf-8")
    ET.parse(tmp_path / "limit.svg")


@pytest.mark.slow
def test_a_bundle_s_limit_is_told_for_machines(run, tagger):
    done = run("bench", tagger.path, "--lengths", "uniform:2-9", "--json", *LIMIT[:-2])
    answer = done.answer

    assert done.status == 0, done.err
    assert (answer["kind"], answer["device"], answer["threads"], answer["sequences"]) == ("limit", "cpu", 1, 128)
    assert [row["way"] for row in answer["ways"]] == ["alone", *["padded"] * 4, "sorted", "lanes", "floor"]
    assert answer["ways"][-1]["floor_share"] == 1.0
    assert all(row["sequences_per_s"] > 0 for row in answer["ways"])
    assert answer["ways"][0]["padding_share"] == 0.0
    assert answer["ways"][4]["padding_share"] > 0.0


@pytest.mark.slow
def test_a_network_without_lengths_says_that_it_cannot_be_padded(run, odd):
    done = run("bench", odd.path, "--lengths", "uniform:2-4", *LIMIT)

    assert done.status == 0, done.err
    assert "The network takes no lengths: sequences of unequal length cannot share a batch by padding." in done.out
    assert "padded in arrival order" not in done.out


@pytest.mark.slow
def test_a_server_is_measured_without_torch_and_without_a_runtime(stub):
    missing = "torch,onnx,onnxruntime,fastapi,uvicorn,uvloop,httptools,orjson"
    words = ["-c", WITHOUT, missing, "bench", stub.url, "--requests", "5", *QUICK]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert "p99 ms" in done.stdout


@pytest.mark.slow
def test_a_bundle_without_a_runtime_names_the_extra(classifier):
    words = ["-c", WITHOUT, "onnxruntime", "bench", str(classifier.path)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert 'bench needs onnxruntime, which is not installed; run pip install "cellgate[serve,cpu]"' in done.stderr
