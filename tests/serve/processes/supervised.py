"""A supervisor in a thread over real processes: what it logs, and how its server is asked."""

import json
import logging
import os
import signal
import socket
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cellgate.serve.listeners import base_url, bind_listener
from cellgate.serve.processes.supervisor import Supervisor
from cellgate.serve.settings import Settings

PATIENCE_S = 30
BODY = {"inputs": [{"name": "x", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
INFER = "/v2/models/steps/infer"
REQUESTS_OK = ("cellgate_requests_total", (("code", "200"), ("model", "steps"), ("protocol", "http")))


class Watched:
    """A supervisor in a thread, and lines that its logger wrote."""

    def __init__(self, supervisor, url):
        self.supervisor, self.url = supervisor, url
        self.up = threading.Event()
        self.hello = None
        self.failure = None
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            self.supervisor.run(self._on_up)
        except Exception as err:  # noqa: BLE001 - the test looks at it
            self.failure = err
        self.up.set()

    def _on_up(self, hello):
        self.hello = hello
        self.up.set()

    def end(self):
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


class Lines(logging.Handler):
    """Waits for a line of the log."""

    def __init__(self):
        super().__init__()
        self.lines, self.changed = [], threading.Condition()

    def emit(self, record):
        with self.changed:
            self.lines.append(record.getMessage())
            self.changed.notify_all()

    def wait_for(self, line):
        with self.changed:
            assert self.changed.wait_for(lambda: line in self.lines, PATIENCE_S), self.lines


@contextmanager
def supervised(place, **settings):
    settings = Settings(device="cpu", threads=1, port=0, **settings)
    listener = bind_listener("127.0.0.1", 0)
    watched = Watched(Supervisor([place], settings, listener), base_url(listener))
    watched.thread.start()
    try:
        assert watched.up.wait(PATIENCE_S)
        yield watched
    finally:
        watched.supervisor.stop()
        watched.end()


def tuple_of(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def is_open(url):
    try:
        socket.create_connection(tuple_of(url), timeout=PATIENCE_S).close()
    except OSError:
        return False
    return True


@contextmanager
def asking(url):
    """Send a request for inference; yields how to read its answer, once the frontend has handed it over."""
    with socket.create_connection(tuple_of(url), timeout=PATIENCE_S) as connection:
        body = json.dumps(BODY).encode()
        head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        httpx.get(f"{url}/v2/health/live", timeout=PATIENCE_S)  # one thread answers: it has read what came before

        def read_answer():
            with connection.makefile("rb") as file:
                return file.read()

        yield read_answer


def scrape(url):
    """Return the samples of a scrape by name and labels."""
    text = httpx.get(f"{url}/metrics", timeout=PATIENCE_S).raise_for_status().text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


@contextmanager
def suspended(pid):
    """Stop a process, and wait until it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            pass
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
