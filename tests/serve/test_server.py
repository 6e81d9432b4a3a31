"""The process itself: its lines, its address, its end. Each wait has a limit and none is a sleep."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace

import httpx
import pytest

from cellgate.bundle.errors import BundleError
from cellgate.serve import server
from cellgate.serve.listeners import base_url, bind_listener
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.processes.hello import Offer
from cellgate.serve.server import curl_line, model_lines, ready_lines, run_server
from cellgate.serve.settings import Settings
from cellgate.serve.start_errors import GoldenMismatchError, NoAddressError, PortBusyError

PATIENCE_S = 30
LAST_LINE = "stop with Ctrl+C or SIGTERM"

PROGRAM = """
import sys
from cellgate.serve.server import run_server
from cellgate.serve.models.served_model import parse_place
from cellgate.serve.settings import Settings
places = [parse_place(text) for text in sys.argv[1:]]
run_server(places, Settings(port=0, device="cpu"), lambda line: print(line, flush=True))
"""


def serve_here(places, settings, visit, number=signal.SIGTERM):
    """Run the server in this thread; once it listens, visit it from another one, then send the signal, if any."""
    lines, failures = [], []

    def visit_and_stop():
        try:
            visit(re.search(r"http://\S+(?=/docs)", "\n".join(lines))[0])
        except Exception as err:  # noqa: BLE001 - raised again in the main thread
            failures.append(err)
        finally:
            if number is not None:
                os.kill(os.getpid(), number)

    visitor = threading.Thread(target=visit_and_stop)

    def echo(line):
        lines.append(line)
        if line == LAST_LINE:
            visitor.start()

    run_server(places, settings, echo)
    visitor.join(PATIENCE_S)
    if failures:
        raise failures[0]
    return lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_server_says_where_it_is_answers_and_stops_in_order(bundle_paths, number):
    before = signal.getsignal(number)
    answers = []

    def visit(url):
        answers.append(httpx.get(f"{url}/v2/health/ready").json())
        answers.append(httpx.get(f"{url}/docs").status_code)

    places = [BundlePlace(bundle_paths["last"]), BundlePlace(bundle_paths["tokens"], "words")]
    lines = serve_here(places, Settings(port=0, device="cpu", threads=1), visit, number)

    assert answers == [{"ready": True}, 200]
    assert lines[0].startswith("serving last version 3 on cpu (asked for), onnxruntime ")
    assert lines[0].endswith(", 1 thread, float32")
    assert lines[1].startswith("  placement: model.onnx, ")
    assert lines[1].endswith(" nodes on CPUExecutionProvider")
    assert re.fullmatch(r"  golden cases: 2 reproduced, at most [0-9.e-]+ off", lines[2])
    assert lines[3].startswith("  plan: up to 64 sequences side by side, ")
    assert lines[4].startswith("serving words version 3 on cpu")
    assert lines[8].startswith("streams:      in memory: a restart ")
    assert lines[9] == f"workers:      1 process for HTTP, 1 for the engine; signals go to process {os.getpid()}"
    assert lines[10].startswith("OpenAPI page: http://127.0.0.1:")
    assert lines[-2:] == [LAST_LINE, "stopped"]
    assert signal.getsignal(number) is before


def test_where_no_model_can_be_streamed_the_start_says_so_and_of_no_store(model, served_models):
    other = Offer(served=replace(served_models["last"], name="other"), number=1).entry()
    whole = {**model, "manifest": model["manifest"].replace('"streamable": true', '"streamable": false')}

    assert whole["manifest"] != model["manifest"]
    assert server._streams_words({"models": [whole, other], "streams": "in a file"}) == "in a file"
    assert (
        server._streams_words({"models": [whole], "streams": "in a file"})
        == "none, for no served model can be streamed"
    )


def test_access_log_goes_to_stderr_where_asked_for(bundle_paths, capfd):
    settings = Settings(port=0, device="cpu", threads=1, access_log=True)

    serve_here([BundlePlace(bundle_paths["last"])], settings, lambda url: httpx.get(f"{url}/v2"))

    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["path"] == "/v2"


def test_logs_of_every_process_are_json_where_asked_for(bundle_paths, capfd):
    settings = Settings(port=0, device="cpu", threads=1, access_log=True, log_format="json")

    serve_here([BundlePlace(bundle_paths["last"])], settings, lambda url: httpx.get(f"{url}/v2"))

    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    told = [line["message"] for line in lines if line.get("process") == "supervisor"]
    assert told == ["up: models last", "stopping"]
    assert [line["path"] for line in lines if "path" in line] == ["/v2"]
    assert len(lines) == 3


def test_upload_beyond_the_limit_is_answered_and_the_connection_closed(bundle_paths):
    found = []

    def visit(url):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
            head = b"POST /v2/models/last/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head + (b"400\r\n" + b" " * 1024 + b"\r\n") * 5)
            with connection.makefile("rb") as file:
                found.append(file.read())  # to the end: the server must close

    settings = Settings(port=0, device="cpu", threads=1, max_body_bytes=2048)
    serve_here([BundlePlace(bundle_paths["last"])], settings, visit)

    head, _, body = found[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert json.loads(body)["code"] == "body_too_large"


def test_a_second_sigint_does_not_wait(bundle_paths):
    others = set(children_of(os.getpid()))

    def visit(_url):
        pids = set(children_of(os.getpid())) - others
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        while not all(is_stopped(pid) for pid in pids):  # until then it would still take a SIGTERM
            pass
        os.kill(os.getpid(), signal.SIGINT)
        while not any(is_pending(pid, signal.SIGTERM) for pid in pids):
            pass

    lines = serve_here(
        [BundlePlace(bundle_paths["last"])], Settings(port=0, device="cpu", threads=1), visit, signal.SIGINT
    )

    assert lines[-1] == "stopped"
    assert set(children_of(os.getpid())) <= others


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_real_process_serves_its_own_curl_line_and_exits_zero(bundle_paths, number):
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(bundle_paths["last"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watchdog = threading.Timer(PATIENCE_S, process.kill)
        watchdog.start()
        try:
            lines = []
            while not lines or lines[-1] not in (LAST_LINE, ""):
                lines.append(process.stdout.readline().rstrip("\n"))
            words = shlex.split(next(line for line in lines if line.startswith("try it:")).removeprefix("try it:"))
            if shutil.which("curl"):
                answer = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=PATIENCE_S).stdout)
            else:
                headers = {"Content-Type": "application/json"}
                answer = httpx.post(words[2], content=words[-1], headers=headers).json()
            process.send_signal(number)
            rest, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            watchdog.cancel()
            process.kill()

    assert answer["outputs"][0]["shape"] == [1, 4]
    assert (process.returncode, rest, errors) == (0, "stopped\n", "")


def test_busy_port_is_told_before_any_bundle_is_opened(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        with pytest.raises(
            PortBusyError, match=rf"port: expected to listen on 127\.0\.0\.1 port {port}, found .* in use"
        ):
            run_server([BundlePlace(tmp_path / "no-such")], Settings(port=port), print)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a..b", "x" * 64])
def test_host_that_is_none_of_this_machine_is_told_with_what_helps(host, tmp_path):
    with pytest.raises(NoAddressError, match=rf"^host: expected to listen on '{host}' port 0, found .*: --host$"):
        run_server([BundlePlace(tmp_path / "no-such")], Settings(host=host, port=0), print)


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:")])
def test_url_works_on_this_machine(host, url):
    with bind_listener(host, 0) as listener:
        assert re.fullmatch(re.escape(url) + r"\d+", base_url(listener))


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
@pytest.mark.parametrize("host", ["::1", "::"])
def test_url_of_ipv6_has_brackets(host):
    try:
        listener = bind_listener(host, 0)
    except PortBusyError as err:
        pytest.skip(str(err))
    with listener:
        assert base_url(listener).startswith("http://[::1]:")


def test_port_is_free_again_after_a_failed_start(tmp_path):
    with bind_listener("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]

    for _ in range(2):
        with pytest.raises(BundleError):
            run_server([BundlePlace(tmp_path / "no-such")], Settings(port=port, grpc=False), print)


def test_bundle_that_is_not_reproduced_is_not_served(make_network, tmp_path):
    path = make_network("last").write(tmp_path / "last", golden=make_network("last", seed=1).golden())

    with pytest.raises(GoldenMismatchError, match=r"^bundle last: expected the golden cases to be reproduced, found "):
        run_server([BundlePlace(path)], Settings(port=0, device="cpu", threads=1), print)


@pytest.fixture
def model(served_models):
    return Offer(served=served_models["last"], number=0, plan="as it comes").entry()


def test_curl_line_holds_a_short_request_inline(model, served_models):
    words = shlex.split(curl_line(model, "http://h:1", Settings()))

    assert words[:5] == ["curl", "-s", "http://h:1/v2/models/last/infer", "-H", "Content-Type: application/json"]
    assert json.loads(words[-1]) == served_models["last"].example


def test_curl_line_sends_the_file_that_the_settings_name(model):
    line = curl_line(model, "http://h:1", Settings(example_request_path="my request.json"))

    assert shlex.split(line)[-1] == "@my request.json"


def test_model_that_was_never_verified_on_its_device_is_warned_of(model):
    doubted = {**model, "verification": {"holds": False, "statement": "never verified on cuda; run: X"}}

    (line, *others) = model_lines([doubted])

    assert line == "warning: last: never verified on cuda; run: X"
    assert not any(other.startswith("warning") for other in others)


def test_notes_of_the_runtime_are_echoed_once_as_warnings(model):
    noted = {**model, "facts": {**model["facts"], "notes": ["two wheels"]}}

    lines = list(model_lines([noted, noted]))

    assert [line for line in lines if line.startswith("warning")] == ["warning: two wheels"]


def test_workers_are_counted(model):
    line = ready_lines(model, "http://h:1", Settings(workers=3))[0]

    assert line.startswith("workers:      3 processes for HTTP, 1 for the engine; ")


def test_where_the_page_asks_for_a_key_the_start_says_how_a_browser_gets_it():
    model = {"name": "a", "example": {"inputs": []}}
    shut, opened = Settings(api_keys_file="keys"), Settings(api_keys_file="keys", open_paths="health, docs")

    assert ready_lines(model, "http://h:1", shut)[0].endswith("for a browser: --open-paths health,docs")
    assert not any("--open-paths" in line for line in ready_lines(model, "http://h:1", opened))
    assert not any("--open-paths" in line for line in ready_lines(model, "http://h:1", Settings()))


def test_server_outside_the_main_thread_leaves_signals_alone():
    found = []

    def enter():
        with server._signals_stop(None):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(PATIENCE_S)

    assert found == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize("module", ["cellgate.serve.server", "cellgate.serve.processes.supervisor"])
def test_the_supervisor_loads_neither_a_runtime_nor_a_web_framework(module):
    heavy = "onnxruntime fastapi uvicorn starlette pydantic torch grpc"
    code = f"import sys, {module}; print(sorted(set(sys.modules) & set({heavy.split()!r})))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def children_of(pid):
    tasks = pathlib.Path(f"/proc/{pid}/task")
    return [int(word) for task in tasks.iterdir() for word in (task / "children").read_text().split()]


def is_stopped(pid):
    return "State:\tT" in pathlib.Path(f"/proc/{pid}/status").read_text()


def is_pending(pid, number):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("ShdPnd:"):
            return bool(int(line.split()[1], 16) & 1 << (number - 1))
    return False
