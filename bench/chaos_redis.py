"""A Redis server of one's own, and what is done to it: `stream_chaos` takes these in turn.

Rules of this file: every harm ends by itself before its method returns.
"""

import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PAUSE_S = 0.02


class RedisProcess:
    """It waits for its disk before it answers.

    Args:
        folder: for its files and its socket.
        seed: of the dice that say how long each harm lasts.
        program: redis-server or valkey-server.

    Attributes:
        url: of the server.
        harms: what can be done to it, each for so many seconds at most.
    """

    def __init__(self, folder: Path, seed: int = 0, program: str = "redis-server") -> None:
        self._folder, self._program = folder, program
        self._dice = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self.url = f"unix://{folder}/redis.sock"
        self.harms = {
            "store killed": self.kill_and_start,
            "store stopped for a while": self.stop_for_a_while,
            "store cut off": self.cut_off,
            "store full": self.fill,
            "store a replica": self.demote,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it listens when this returns."""
        options = ["--port", "0", "--unixsocket", f"{self._folder}/redis.sock", "--dir", str(self._folder)]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._process = subprocess.Popen([self._program, *options, *durable], stdout=subprocess.DEVNULL)
        while not self._is_there():
            if self._process.poll() is not None:
                raise SystemExit(f"{self._program}: expected it to start, found it ended")
            time.sleep(PAUSE_S)

    def kill(self) -> None:
        """End it now, and leave what it had on the disk."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_and_start(self, longest_s: float) -> None:
        """End it and start it again."""
        self.kill()
        self._wait(longest_s)
        self.start()

    def stop_for_a_while(self, longest_s: float) -> None:
        """Let it stand still: its connections stay, and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._wait(longest_s)
        self._process.send_signal(signal.SIGCONT)

    def cut_off(self, longest_s: float) -> None:
        """Cut all connections, again and again."""
        end_s = time.monotonic() + longest_s * self._dice.random()
        while time.monotonic() < end_s:
            self._do("CLIENT", "KILL", "TYPE", "normal")
            time.sleep(PAUSE_S)

    def fill(self, longest_s: float) -> None:
        """Let it have no memory for more, and then as much as it likes."""
        self._do("CONFIG", "SET", "maxmemory", "1")
        self._wait(longest_s)
        self._do("CONFIG", "SET", "maxmemory", "0")

    def demote(self, longest_s: float) -> None:
        """Let it take no writes, as a replica of nobody who is there, and then take over again."""
        self._do("REPLICAOF", "127.0.0.1", "1")
        self._wait(longest_s)
        self._do("REPLICAOF", "NO", "ONE")

    def _wait(self, longest_s: float) -> None:
        time.sleep(longest_s * self._dice.random())

    def _do(self, *words: str) -> None:
        import redis  # noqa: PLC0415 - only where it is asked for

        with redis.Redis.from_url(self.url) as client:
            client.execute_command(*words)

    def _is_there(self) -> bool:
        import redis  # noqa: PLC0415 - likewise

        with suppress(redis.RedisError), redis.Redis.from_url(self.url) as client:
            return bool(client.ping())
        return False
