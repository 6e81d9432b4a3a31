"""How many connections a process takes where the system lets it have few files open."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from cellgate.serve.processes.open_files import connections_of

PATIENCE_S = 30
FILES, ROOM = 300, 150
PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
from cellgate.serve.server import run_server
from cellgate.serve.models.served_model import parse_place
from cellgate.serve.settings import Settings
settings = Settings(port=0, device="cpu", threads=1, grpc=False)
run_server([parse_place(sys.argv[1])], settings, lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize(
    ("files", "wanted", "found"),
    [(4352, 4096, 4096), (4351, 4096, 4095), (1024, 4096, 768), (400, 4096, 200), (400, 10, 10), (1, 10, 1)],
)
def test_so_many_connections_as_leave_files_for_all_else(files, wanted, found):
    assert connections_of(files, wanted) == found


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def read_all(port):
    with connect(port) as connection, connection.makefile("rb") as file:
        return file.read()


def test_where_there_are_too_few_files_it_is_said_and_who_is_one_too_many_is_told(bundle_paths):
    command = [sys.executable, "-c", PROGRAM, str(bundle_paths["steps"])]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        ExitStack() as opened,
    ):
        opened.callback(process.kill)
        lines = []
        while not lines or not lines[-1].startswith("stop with"):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        (page,) = [line for line in lines if line.startswith("OpenAPI page:")]
        port = int(page.rpartition(":")[2].partition("/")[0])
        held = [opened.enter_context(connect(port)) for _ in range(ROOM)]
        answers = [read_all(port) for _ in range(FILES)]
        for connection in held:
            connection.close()
        os.kill(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE_S)[1]

    assert {json.loads(answer.partition(b"\r\n\r\n")[2])["code"] for answer in answers} == {"too_many_connections"}
    assert said.startswith(
        "frontend 0: max_connections: expected open files for 4096 connections of a process, found some for 150"
    )
    assert said.count("\n") == 1
