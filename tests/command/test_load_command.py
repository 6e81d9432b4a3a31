"""cellgate load and unload: one order to a real listener, its answer in words, its refusal in one sentence."""

import json
import socket
from contextlib import closing

import pytest

from cellgate.command.load_command import default_url

from .answering import answering


def server(status, answer):
    return answering(status, json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("command", "state", "words"), [("load", "loaded", "is current"), ("unload", "unloaded", "is unloaded")]
)
def test_an_order_goes_out_and_its_answer_is_told(run, command, state, words):
    with server(200, {"name": "tagger", "version": "2", "state": state}) as (url, asked):
        done = run(command, "tagger", "--url", url)

    assert (done.status, done.out, done.err) == (0, f"tagger version 2 {words}\n", "")
    assert asked == [(f"/v2/repository/models/tagger/{command}", b"{}", None)]


def test_a_version_and_a_key_go_with_it(run, monkeypatch):
    monkeypatch.setenv("CELLGATE_API_KEY", "secret")
    with server(200, {"name": "a/b", "version": "1", "state": "loaded"}) as (url, asked):
        done = run("load", "a/b", "--model-version", "1", "--url", url)

    assert done.status == 0
    assert asked == [("/v2/repository/models/a%2Fb/load", b'{"parameters": {"version": 1}}', "Bearer secret")]


@pytest.mark.parametrize("key", ["secret\n", "secret key", "secr\u00e9t"])
def test_a_key_that_cannot_stand_in_a_header_is_told_and_not_shown(run, monkeypatch, key):
    monkeypatch.setenv("CELLGATE_API_KEY", key)
    with server(200, {}) as (url, asked):
        done = run("load", "tagger", "--url", url)

    assert done.status == 2
    assert "CELLGATE_API_KEY: expected visible ASCII characters, found others" in done.err
    assert "secr" not in done.out + done.err
    assert asked == []


def test_a_refusal_is_exit_1_and_the_servers_own_sentence(run):
    with server(404, {"error": "model repository: expected it, found none", "code": "not_in_repository"}) as (url, _):
        done = run("load", "tagger", "--url", url)

    assert (done.status, done.out) == (1, "")
    assert done.err == f"cellgate: {url}: model repository: expected it, found none\n"


def test_a_server_of_something_else_is_told(run):
    with server(200, {"hello": "world"}) as (url, _):
        done = run("load", "tagger", "--url", url)

    assert (done.status, done.out) == (1, "")
    assert done.err == f"cellgate: {url}: found status 200, of no control listener\n"


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b"3"])
def test_what_is_no_control_listener_is_told(run, answer):
    with answering(200, answer) as (url, _):
        done = run("load", "tagger", "--url", url)

    assert done.status == 1
    assert "expected a server that takes orders, found: " in done.err


def test_where_nobody_listens_is_told(run):
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    done = run("load", "tagger", "--url", f"http://127.0.0.1:{port}")

    assert done.status == 1
    assert "start the server with --control, or give its address" in done.err


def test_the_port_of_the_environment_is_asked():
    assert default_url({}) == "http://127.0.0.1:8002"
    assert default_url({"CELLGATE_CONTROL_PORT": "9002"}) == "http://127.0.0.1:9002"


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_that_is_none_is_told(run, monkeypatch, tmp_path, content):
    path = tmp_path / "cert.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("CELLGATE_TLS_CERT", str(path))
    done = run("load", "tagger")

    assert done.status == 1
    assert f"CELLGATE_TLS_CERT: expected a PEM file, found {path}: " in done.err
