"""A step of the check in a process of its own: it may abort, hang, or load libraries that another step must not see.

Rules of this file: the step prints one JSON document on stdout; however it ends, the parent gets a record.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
_LAST_CHARACTERS = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a step ended.

    Attributes:
        how: "done", "exit status N", "died of SIGABRT", or "no end within N s".
        answer: the JSON it printed; None where it printed none.
        last_words: the end of its stderr.
    """

    how: str
    answer: Any
    last_words: str

    @property
    def is_done(self) -> bool:
        """Whether it ended in order, with an answer."""
        return self.how == "done" and self.answer is not None


def run_step(script: str, words: Sequence[str], *, patience_s: float, extra: Mapping[str, str] | None = None) -> Ended:
    """Run one of this folder's scripts with this interpreter.

    Args:
        script: name of the file.
        words: its arguments.
        patience_s: after which it is killed.
        extra: variables added to the environment.
    """
    environ = {**os.environ, **(extra or {})}
    try:
        done = subprocess.run(
            [sys.executable, str(HERE / script), *words],
            capture_output=True,
            text=True,
            timeout=patience_s,
            env=environ,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        return Ended(how=f"no end within {patience_s:g} s", answer=None, last_words=_last(err.stderr))
    return Ended(how=how_ended(done.returncode), answer=_parsed(done.stdout), last_words=_last(done.stderr))


def how_ended(status: int) -> str:
    """Say an exit status in words; negative ones are signals."""
    if status == 0:
        return "done"
    if status > 0:
        return f"exit status {status}"
    try:
        return f"died of {signal.Signals(-status).name}"
    except ValueError:
        return f"died of signal {-status}"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _last(text: str | bytes | None) -> str:
    words = text.decode(errors="replace") if isinstance(text, bytes) else text or ""
    return words.strip()[-_LAST_CHARACTERS:]
