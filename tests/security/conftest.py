"""Real servers in processes of their own, asked over sockets, and watched: what they may not do is written down."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.serve.small_network import Network

PATIENCE_S = 30
KEY, OTHER_KEY = "a-key-of-the-tests-0001", "a-key-of-the-tests-0002"
LAST_LINE = "stop with Ctrl+C or SIGTERM"
X = {"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
BODY = json.dumps({"inputs": [X]}).encode()

# Put before everything else into every process of a server: it writes down what no server may ever do.
WATCH = """
import os, sys
def watch(event, args):
    if event == "socket.connect" and isinstance(args[1], (str, bytes)):
        return
    if event == "subprocess.Popen" and "cellgate.serve.processes" in str(args[1]):
        return
    spawns = ("os.system", "os.exec", "subprocess.Popen", "os.posix_spawn")
    if event in ("pickle.find_class", "socket.connect", *spawns) or (
        event == "import" and args[0].split(".")[0] in ("torch", "yaml")
    ):
        with open(os.environ["CELLGATE_TEST_WATCH"], "a") as file:
            file.write(f"{event} {args!r}\\n")
sys.addaudithook(watch)
"""
PROGRAM = """
import sys
from cellgate.__main__ import main
sys.exit(main())
"""


def bundle_of(name, path):
    """Write a small real bundle, one of the serving tests'."""
    return Network(name).write(path)


class Server:
    """A running `cellgate serve`."""

    def __init__(self, process, lines, stderr, watched):
        self.process, self.lines, self.stderr, self.watched = process, lines, stderr, watched
        self.url = re.search(r"https?://\S+(?=/docs)", "\n".join(lines))[0]
        self.port = int(self.url.rpartition(":")[2])

    @property
    def pids(self):
        """The supervisor, then the engine and the frontends."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return [
            self.process.pid,
            *(int(pid) for one in tasks.iterdir() for pid in (one / "children").read_text().split()),
        ]

    def modules(self):
        """Process numbers of the children by what they run."""
        found = {}
        for pid in self.pids[1:]:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            found.setdefault(words[words.index("-m") + 1].rpartition(".")[2], []).append(pid)
        return found

    def rss_bytes(self):
        """Resident memory of the frontends."""
        total = 0
        for pid in self.modules()["frontend"]:
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
        return total

    def logged(self):
        return self.stderr.read_text()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def send(self, data):
        """Send bytes on a connection of their own; return all that comes until the server closes."""
        with self.connect() as connection:
            try:
                connection.sendall(data)
                return read_all(connection)
            except ConnectionError:
                return read_all(connection)

    def ask(self, data):
        """Send one request that closes its connection; return its status, headers and body."""
        (found,) = responses(self.send(data))
        return found

    def is_alive(self):
        status, _, _ = self.ask(request("GET", "/v2/health/ready"))
        return status == 200


def read_all(connection):
    found = b""
    while True:
        try:
            chunk = connection.recv(2**16)
        except ConnectionError:  # closed with bytes of ours unread
            return found
        if not chunk:
            return found
        found += chunk


def responses(data):
    """Cut a connection's bytes into (status, headers, body)."""
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, head
        lines = head.split(b"\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(b": ")
            headers[name.decode()] = value.decode()
        status = int(lines[0].split()[1])
        if status == 100:
            continue
        size = 0 if status == 204 else int(headers["content-length"])
        found.append((status, headers, data[:size]))
        data = data[size:]
    return found


def request(method="POST", path="/v2/models/steps/infer", *lines, body=b"", host="127.0.0.1", close=True):
    """Return the bytes of a request."""
    head = [f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), *lines]
    if body or method in ("POST", "PUT", "PATCH"):
        head.append(f"Content-Length: {len(body)}")
    if close:
        head.append("Connection: close")
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def chunked(chunks, *lines, path="/v2/models/steps/infer"):
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", "Transfer-Encoding: chunked", *lines]
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body + b"0\r\n\r\n"


def check_error(found, *statuses):
    """The answer is an error object without anything of the inside."""
    status, headers, body = found
    assert status in statuses, (status, body)
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    error = json.loads(body)
    assert {"error", "code"} <= set(error) <= {"error", "code", "request_id"}
    for inside in (
        "Traceback",
        "File ",
        ".py",
        "site-packages",
        "/home",
        "/root",
        "/tmp",
        " at 0x",
        "uvicorn",
        "starlette",
    ):
        assert inside not in error["error"], error
    return error["code"]


@contextmanager
def serving(folder, bundle, *options):
    """Run a server; at the end, it has ended in order and done nothing that it may not."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(WATCH)
    watched, stderr = folder / "watched.txt", folder / "stderr.txt"
    watched.write_text("")
    environ = {**os.environ, "CELLGATE_TEST_WATCH": str(watched), "OMP_NUM_THREADS": "1"}
    environ["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [environ.get("PYTHONPATH", "")])])
    options = ("--port", "0", "--device", "cpu", "--threads", "1", *options)
    command = [sys.executable, "-c", PROGRAM, "serve", str(bundle), *options]
    with (
        stderr.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environ) as process,
    ):
        watchdog = threading.Timer(240, process.kill)
        watchdog.start()
        try:
            lines = []
            while not lines or lines[-1] not in (LAST_LINE, ""):
                lines.append(process.stdout.readline().rstrip("\n"))
            assert lines[-1] == LAST_LINE, (lines, stderr.read_text())
            yield Server(process, lines, stderr, watched)
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
        finally:
            watchdog.cancel()
            process.kill()
    assert process.returncode == 0
    assert watched.read_text() == ""
    assert "Traceback" not in stderr.read_text()


@pytest.fixture(scope="session")
def security_bundle(tmp_path_factory):
    return bundle_of("steps", tmp_path_factory.mktemp("security") / "steps")


@pytest.fixture(scope="session")
def keys_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"# of the tests\nrobot:{KEY}\n\nphone:{OTHER_KEY}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory, security_bundle):
    """An open server with small limits that writes an access log."""
    limits = ("--max-body-bytes", "4096", "--max-chunks", "1000", "--max-headers", "20", "--max-head-bytes", "4096")
    times = ("--head-timeout-s", "1", "--body-timeout-s", "2", "--max-connections", "30")
    with serving(tmp_path_factory.mktemp("open"), security_bundle, "--access-log", *limits, *times) as server:
        yield server


@pytest.fixture(scope="module", params=["hot", "asgi"])
def locked(request, tmp_path_factory, security_bundle, keys_file):
    """A server that asks for a key, with the hot route and without."""
    options = ("--api-keys-file", str(keys_file), "--hot-route" if request.param == "hot" else "--no-hot-route")
    with serving(tmp_path_factory.mktemp(request.param), security_bundle, *options) as server:
        yield server
