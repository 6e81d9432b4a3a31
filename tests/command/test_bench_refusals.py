"""cellgate bench where it cannot measure: keys, refusals, failures, nobody there, and options that do not fit."""

import socket

import pytest

QUICK = ("--seconds", "0.3", "--warm-up", "0.05")


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


def test_a_folder_that_is_no_bundle_is_one_sentence(run, tmp_path):
    done = run("bench", tmp_path)

    assert done.status == 2
    assert str(tmp_path) in done.sentence
