"""cellgate ready: one question to a real listener, and an exit status that a health check can use."""

import socket
import subprocess
import sys
from contextlib import closing

import pytest

from cellgate.command.ready_command import default_url

from .answering import answering


def test_a_server_that_is_ready_is_exit_0(run):
    with answering(200) as (url, asked):
        done = run("ready", url)

    assert (done.status, done.out, done.err) == (0, f"{url} is ready\n", "")
    assert [path for path, _, _ in asked] == ["/v2/health/ready"]


def test_a_server_that_is_not_ready_is_exit_1_and_a_sentence_with_its_status(run):
    with answering(503) as (url, _):
        done = run("ready", url)

    assert done.status == 1
    assert done.err == f"cellgate: {url}: expected a server that is ready, found status 503; see its log\n"


def test_a_prefix_before_v2_is_kept(run):
    with answering(200) as (url, asked):
        assert run("ready", f"{url}/recurrent/v2/").status == 0

    assert [path for path, _, _ in asked] == ["/recurrent/v2/health/ready"]


def test_a_key_of_the_environment_goes_along_where_even_health_asks_for_one(run, monkeypatch):
    monkeypatch.setenv("CELLGATE_API_KEY", "secret")
    with answering(200) as (url, asked):
        assert run("ready", url).status == 0

    assert [key for _, _, key in asked] == ["Bearer secret"]


def test_nobody_there_is_exit_1_and_a_sentence_that_says_what_to_do(run):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    done = run("ready", url)

    assert done.status == 1
    assert "refused; start it, or give its address" in done.err


def test_a_name_that_no_host_can_have_is_wrong_use(run):
    done = run("ready", f"http://{'a' * 70}.example:80")

    assert done.status == 2
    assert "expected http://HOST:PORT or https://HOST:PORT, found " in done.err


def test_a_listener_that_never_answers_is_given_up_after_the_timeout(run):
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        done = run("ready", f"http://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "1")

    assert done.status == 1
    assert "found: timed out" in done.err


def test_a_listener_that_speaks_no_tls_is_not_ready_over_https(run):
    with answering(200) as (url, _):
        done = run("ready", url.replace("http:", "https:"))

    assert done.status == 1
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("words", [["ftp://a"], ["127.0.0.1:8000"], ["--timeout", "0"]])
def test_what_is_no_address_or_no_time_is_wrong_use(run, words):
    assert run("ready", *words).status == 2


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"CELLGATE_PORT": ""}, "http://127.0.0.1:8000"),
        ({"CELLGATE_PORT": "8123", "CELLGATE_HOST": "0.0.0.0"}, "http://127.0.0.1:8123"),
        ({"CELLGATE_TLS_CERT": "cert.pem"}, "https://127.0.0.1:8000"),
    ],
)
def test_without_an_address_it_asks_where_a_server_of_this_environment_listens(environ, url):
    assert default_url(environ) == url


def test_it_loads_nothing_heavy(run):
    code = (
        "import sys; from cellgate.__main__ import main; main(['ready', 'http://127.0.0.1:9', '--timeout', '1']); "
        "print([name for name in ('numpy', 'onnxruntime', 'rich', 'fastapi', 'urllib.request') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "[]\n"
