"""A real Redis server, in a process of its own."""

import socket
import subprocess
from contextlib import closing

PATIENCE_S = 30


class RedisServer:
    """A real server on a Unix socket of its own; can be killed and started again."""

    def __init__(self, folder, *options):
        self.folder, self.options = folder, options
        self.socket = f"{folder}/redis.sock"
        self.url = f"unix://{self.socket}"
        self.process = None

    def start(self):
        command = ["redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", str(self.folder), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if ("accept connections" in line and "unix" in line.lower()) or "ready to accept connections at" in line:
                return self
        raise AssertionError(f"redis-server ended with {self.process.wait()}")

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()

    def ping(self):
        with closing(socket.socket(socket.AF_UNIX)) as wire:
            wire.connect(self.socket)
            wire.sendall(b"PING\r\n")
            return wire.recv(64)
