"""cellgate bench: a stub server under load, a real bundle's limit, options that do not fit, and what is printed."""

import json
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
TENSOR = {"datatype": "FP32"}
TOY = {
    "name": "toy",
    "inputs": [{"name": "x", **TENSOR, "shape": [-1, -1, 2]}, {"name": "h0", **TENSOR, "shape": [1, -1, 3]}],
    "outputs": [{"name": "y", **TENSOR, "shape": [-1, 4]}, {"name": "h_n", **TENSOR, "shape": [1, -1, 3]}],
    "properties": {"optional_inputs": '["h0"]', "outputs_on_request": '["h_n"]', "streamable": "true"},
}


class Stub(ThreadingHTTPServer):
    """Knows one model; `answers(head)` gives the status and body of an inference."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.pages = {"/v2": {"extensions": ["binary_tensor_data"]}, "/v2/models": {"models": ["toy"]}}
        self.pages["/v2/models/toy"] = TOY
        self.answers = lambda _: (200, bytes(100))
        self.heads = []
        self.key = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        if self._refuse_key():
            return
        page = self.server.pages.get(self.path)
        self._send(404 if page is None else 200, json.dumps(page or {"error": "nothing here"}).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refuse_key():
            return
        head = json.loads(body[: int(self.headers.get("Inference-Header-Content-Length", len(body)))])
        self.server.heads.append(head)
        self._send(*self.server.answers(head))

    def _refuse_key(self):
        if self.server.key is None or self.headers.get("Authorization") == f"Bearer {self.server.key}":
            return False
        self._send(403 if "Authorization" in self.headers else 401, b'{"error": "key"}')
        return True

    def _send(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def stub():
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, "expected a key that it knows (401), found none; set CELLGATE_API_KEY"),
        ("fedcba9876543210", "expected a key that it knows (403), found another one; set CELLGATE_API_KEY"),
        ("a\r\nb: c", "CELLGATE_API_KEY: expected visible ASCII characters, found others"),
    ],
    ids=["none", "another", "two lines"],
)
def test_a_key_that_does_not_open_is_one_sentence_without_the_key(run, stub, monkeypatch, given, sentence):
    stub.key = "0123456789abcdef"
    monkeypatch.delenv("CELLGATE_API_KEY", raising=False)
    if given is not None:
        monkeypatch.setenv("CELLGATE_API_KEY", given)

    done = run("bench", stub.url, *QUICK)

    assert done.status == 2
    assert sentence in done.err
    assert done.err.count("\n") == 1
    assert given is None or given not in done.err


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


def test_a_server_that_refuses_streams_is_told_with_the_remedy(run, stub):
    stub.answers = lambda _: (400, b'{"error": "parameters.sequence_id: expected none"}')
    done = run("bench", stub.url, "--stream-steps", "5", "--stream-state", "server", *QUICK)

    assert done.status == 2
    assert done.sentence == (
        f"{stub.url}: a first request: expected it answered with 200, found 400 (parameters.sequence_id: expected "
        "none); a server without streams refuses sequence_id: use --stream-state client"
    )


@pytest.mark.parametrize(
    ("body", "remedy"), [("binary", "takes --body json"), ("json", "look at --lengths and --rows")]
)
def test_a_refused_request_is_told_with_the_remedy(run, stub, body, remedy):
    stub.answers = lambda _: (415, b'{"error": "no"}')
    done = run("bench", stub.url, "--body", body, *QUICK)

    assert done.status == 2
    assert "found 415 (no); " in done.sentence
    assert remedy in done.sentence


def test_failures_are_counted_by_status(run, stub):
    stub.answers = lambda _: (503, b"{}") if len(stub.heads) % 2 else (200, b"")
    done = run("bench", stub.url, "--connections", "1", "--requests", "10", "--json", *QUICK)
    told = run("bench", stub.url, "--connections", "1", "--requests", "10", *QUICK)

    assert done.answer["errors"] == {"503": 5}
    assert done.answer["busy"] == 5
    assert done.answer["latency"]["count"] == 5
    assert "failed   503 (5); 503 may be tried again" in told.out


def test_no_answer_at_all_is_one_sentence(run, stub):
    stub.answers = lambda _: (503, b"{}")
    done = run("bench", stub.url, "--requests", "10", *QUICK)

    assert done.status == 2
    assert f"{stub.url}: expected answers to measure, found 503 (10); 503 may be tried again; measure" in done.sentence


def test_a_server_that_was_busy_and_then_refuses_is_asked_why(run, stub):
    stub.answers = lambda _: (503, b"{}") if len(stub.heads) == 1 else (400, b'{"error": "too long"}')
    done = run("bench", stub.url, "--requests", "10", *QUICK)

    assert done.status == 2
    assert "expected it answered with 200, found 400 (too long); " in done.sentence


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


def test_nobody_at_the_address_is_one_sentence(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    done = run("bench", url)

    assert done.status == 2
    assert done.err == (
        f"cellgate: {url}: expected a model server there, found connection refused; start one with cellgate serve "
        "BUNDLE, or check the address\n"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "nowhere: expected http://HOST:PORT or a bundle's folder, found nothing there; a URL begins"),
        (["http://h?x"], "http://h?x: expected http://HOST:PORT or https://HOST:PORT, found something else"),
        (["http://h", "--lengths", "long"], "lengths 'long': expected fixed:N, uniform:LOW-HIGH"),
        (["http://h", "--threads", "2"], "--threads: expected a BUNDLE with it, found http://h; leave --threads out"),
        (["b", "--rate", "2"], "--rate: expected a URL with it, found b; leave --rate out"),
        (["b", "--stream-steps", "2"], "--stream-steps: expected a URL with it"),
        (["http://h", "--stream-state", "server"], "--stream-state: expected --stream-steps K with it, found none"),
        (["http://h", "--plot", "a.png"], "--plot a.png: expected .svg or .html, found '.png'"),
        (["http://h", "--plot", "none/a.svg"], "expected the folder none to exist, found none; make it first"),
        (["http://h", "--seconds", "0"], "argument --seconds: expected a number in 0.1 .. 86400, found '0'"),
        (["http://h", "--rate", "fast"], "argument --rate: expected a number in 0.001 .. 1e+06, found 'fast'"),
        (["http://h", "--connections", "0"], "argument --connections: expected an integer in 1 .. 65536, found '0'"),
        ([], "the following arguments are required: URL|BUNDLE; see cellgate bench --help"),
    ],
)
def test_wrong_use_is_one_sentence(run, words, sentence):
    done = run("bench", *words)

    assert done.status == 2
    assert done.out == ""
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1


def test_more_connections_than_the_system_allows_are_wrong_use(run, stub, monkeypatch):
    monkeypatch.setattr("cellgate.command.bench_load.allow_connections", lambda _: 7)
    few = run("bench", stub.url, "--connections", "8")
    default = run("bench", stub.url, "--rate", "100", "--requests", "3", "--json", *QUICK)

    assert few.status == 2
    assert "--connections 8: expected the system to allow so many open files, found 7 left" in few.sentence
    assert default.answer["connections"] == 7


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


def test_a_folder_that_is_no_bundle_is_one_sentence(run, tmp_path):
    done = run("bench", tmp_path)

    assert done.status == 2
    assert str(tmp_path) in done.sentence


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
