"""A real server of Redis or Valkey, in a process of its own."""

import os
import re
import shutil
import socket
import subprocess
from contextlib import closing

PATIENCE_S = 30
NO_SERVER = "the system's package redis-server or valkey-server is not installed"
PROGRAMS = tuple(name for name in ("redis-server", "valkey-server") if shutil.which(name))


def version_of(program):
    """Return the first two numbers of a program's version."""
    told = subprocess.run([program, "--version"], capture_output=True, check=True, text=True).stdout
    return tuple(map(int, re.search(r" v=(\d+)\.(\d+)", told).groups()))


class RedisServer:
    """A real server on a Unix socket of its own; can be killed and started again."""

    def __init__(self, program, folder, *options, preload=None):
        self.program, self.folder, self.options = program, folder, options
        self.environment = os.environ | ({} if preload is None else {"LD_PRELOAD": str(preload)})
        self.socket = f"{folder}/redis.sock"
        self.url = f"unix://{self.socket}"
        self.process = None

    def start(self):
        command = [self.program, "--port", "0", "--unixsocket", self.socket, "--dir", str(self.folder), *self.options]
        self.process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in self.process.stdout:
            if ("accept connections" in line and "unix" in line.lower()) or "ready to accept connections at" in line:
                return self
        raise AssertionError(f"{self.program} ended with {self.process.wait()}")

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()

    def ping(self):
        with closing(socket.socket(socket.AF_UNIX)) as wire:
            wire.connect(self.socket)
            wire.sendall(b"PING\r\n")
            return wire.recv(64)
