"""cellgate serve: settings from the command line over the environment, and a real server."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import fields

import pytest

from cellgate.command import serve_command
from cellgate.command.serve_options import _GROUPS
from cellgate.serve.settings import Settings


@pytest.fixture
def served(run, monkeypatch):
    """Run the command up to the server, and return the places and settings that it would get."""
    seen = []
    monkeypatch.setattr(serve_command, "run_server", lambda *given: seen.append(given))

    def ask(*words):
        done = run("serve", *words)
        assert done.status == 0, done.err
        ask.out.append(done.out)
        return seen[-1]

    ask.out = []
    return ask


def test_every_setting_has_an_option_with_help(run):
    help_text = run("serve", "--help").out

    described = [name for group in _GROUPS.values() for name in group]
    assert sorted(described) == sorted(field.name for field in fields(Settings))
    for field in fields(Settings):
        assert f"--{field.name.replace('_', '-')} " in help_text or f"--{field.name.replace('_', '-')}," in help_text
        assert f"CELLGATE_{field.name.upper()}" in help_text.replace("\n", " ").replace("  ", "")


def test_help_stands_in_groups_and_says_what_kind_of_value_each_option_takes(run):
    help_text = run("serve", "--help").out
    flags = [f"--{field.name.replace('_', '-')}" for field in fields(Settings) if isinstance(field.default, bool)]

    for title in (
        "listening:",
        "device and engine:",
        "streams:",
        "keys and TLS:",
        "logs, metrics and traces:",
        "limits:",
    ):
        assert f"\n{title}\n" in help_text
    for words in ("--api-keys-file FILE", "--repository FOLDER", "--otel-endpoint URL", "--open-paths NAMES"):
        assert words in help_text
    assert "TEXT" not in help_text
    assert all(f"{flag}, --no-" in help_text for flag in flags)
    assert "~/.local/state/cellgate/streams.sqlite" in help_text


def test_the_command_line_overrules_the_environment_which_overrules_the_default(served, monkeypatch):
    monkeypatch.setenv("CELLGATE_PORT", "9000")
    monkeypatch.setenv("CELLGATE_MAX_STEPS", "77")
    monkeypatch.setenv("CELLGATE_ACCESS_LOG", "yes")
    _, settings, _ = served("a", "--port", "9001", "--keep-alive-s", "2.5", "--no-access-log", "--device", "cpu")

    assert settings == Settings(port=9001, max_steps=77, keep_alive_s=2.5, access_log=False, device="cpu")


def test_bundles_may_be_renamed(served):
    places, settings, _ = served("a/b", "name=c/d", "./e=f")

    assert [(str(place.path), place.name) for place in places] == [("a/b", None), ("c/d", "name"), ("e=f", None)]
    assert settings == Settings()


def test_bundles_may_stand_before_and_after_options(served):
    places, settings, _ = served("a", "--port", "9001", "b", "c=d", "--no-grpc")

    assert [(str(place.path), place.name) for place in places] == [("a", None), ("b", None), ("d", "c")]
    assert (settings.port, settings.grpc) == (9001, False)


def test_a_variable_that_nearly_has_a_settings_name_is_told(served, monkeypatch):
    monkeypatch.setenv("CELLGATE_WORKER", "2")

    assert served("a")[1].workers == Settings().workers
    assert served.out == ["warning: CELLGATE_WORKER is no setting; CELLGATE_WORKERS is one\n"]


def test_durable_is_a_file_in_the_state_folder_of_this_user(served, monkeypatch, tmp_path, run):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert served("a", "--durable")[1].stream_store == f"sqlite:{tmp_path}/cellgate/streams.sqlite"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert served("a", "--durable")[1].stream_store == f"sqlite:{tmp_path}/.local/state/cellgate/streams.sqlite"
    monkeypatch.setenv("CELLGATE_STREAM_STORE", "redis://host")
    assert served("a", "--durable")[1].stream_store.startswith("sqlite:")
    assert served("a")[1].stream_store == "redis://host"

    done = run("serve", "a", "--durable", "--stream-store", "memory")
    assert done.status == 2
    assert "--durable: expected it without --stream-store, found both" in done.err


@pytest.mark.parametrize(
    ("variables", "words", "is_durable"),
    [
        ({"DURABLE": "1"}, [], True),
        ({"DURABLE": "no"}, [], False),
        ({"DURABLE": ""}, [], False),
        ({"DURABLE": "1"}, ["--no-durable"], False),
        ({"DURABLE": "1"}, ["--stream-store", "memory"], False),
        ({"DURABLE": "0"}, ["--durable"], True),
    ],
)
def test_durable_has_a_variable_as_settings_have_and_options_overrule_it(
    served, monkeypatch, tmp_path, variables, words, is_durable
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(f"CELLGATE_{name}", value)

    store = f"sqlite:{tmp_path}/cellgate/streams.sqlite" if is_durable else "memory"
    assert served("a", *words)[1].stream_store == store
    assert served.out == [""]


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"DURABLE": "1", "STREAM_STORE": "redis://host"},
            "CELLGATE_DURABLE: expected it without CELLGATE_STREAM_STORE, found both; it stands for sqlite:PATH",
        ),
        ({"DURABLE": "perhaps"}, "durable (CELLGATE_DURABLE): expected true or false, found 'perhaps'"),
    ],
)
def test_a_variable_for_durable_that_means_nothing_is_refused(run, monkeypatch, variables, sentence):
    for name, value in variables.items():
        monkeypatch.setenv(f"CELLGATE_{name}", value)
    done = run("serve", "a")

    assert (done.status, done.err) == (2, f"cellgate: {sentence}\n")


def test_lines_of_the_server_are_printed_at_once(served, capsys):
    served("a")[2]("line")

    assert capsys.readouterr().out == "line\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--port", "70000"], "port (CELLGATE_PORT): expected 0 .. 65535, found 70000"),
        (["--port", "many"], "port (CELLGATE_PORT): expected a number in 0 .. 65535, found 'many'"),
        (["--keep-alive-s", "-1"], "keep_alive_s (CELLGATE_KEEP_ALIVE_S): expected 0.0 .. 3600.0 seconds, found -1.0"),
        (["--host", ""], "--host: expected a value, found an empty one; leave it out"),
    ],
)
def test_a_setting_outside_its_range_is_wrong_use(run, words, sentence):
    done = run("serve", "a", *words)

    assert done.status == 2
    assert sentence in done.err


def test_a_missing_bundle_and_two_of_one_name_are_exit_2(run, classifier):
    none = run("serve", classifier.path, "other=none", "--port", "0", "--device", "cpu")
    made = "make one first: cellgate export SOURCE --out none"
    assert none.err == f"cellgate: none: expected the folder of a bundle, found: nothing there; {made}\n"
    assert none.status == 2
    twice = run("serve", classifier.path, classifier.path, "--port", "0", "--device", "cpu")

    assert twice.status == 2
    assert "rename one with NAME=PATH" in twice.err


def test_a_busy_port_is_exit_2(run, classifier):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        done = run("serve", classifier.path, "--port", taken.getsockname()[1])

    assert done.status == 2
    assert "stop what listens there or give --port" in done.err


@pytest.mark.slow
def test_a_served_bundle_answers_as_predict_does_and_stops_with_sigint(run, classifier, tmp_path):
    body = {"inputs": [{"name": "x", "shape": [1, 2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}]}
    (tmp_path / "r.json").write_text(json.dumps(body))
    process = subprocess.Popen(
        [sys.executable, "-m", "cellgate", "serve", f"mine={classifier.path}", "--port", "0", "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CELLGATE_THREADS": "1"},
    )
    try:
        url = next(line.split()[-1] for line in process.stdout if line.startswith("OpenAPI page: ")).removesuffix(
            "/docs"
        )
        request = urllib.request.Request(
            f"{url}/v2/models/mine/infer", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            found = json.load(response)["outputs"][0]["data"]
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    expected = run("predict", classifier.path, "--input", tmp_path / "r.json", "--threads", "1", "--json").answer

    assert found == expected["outputs"]["y"][0]
    assert process.returncode == 0
    assert out.endswith("stopped\n")
    assert err == ""
