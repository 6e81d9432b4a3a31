"""Processes of this machine and their children, as the system tells."""

from contextlib import suppress
from pathlib import Path


def children_of(pid):
    """Return the numbers of a process's children, whichever of its threads started them."""
    found = set()
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found |= {int(word) for word in (task / "children").read_text().split()}
    return found


def runs(pid, module):
    """Whether a process runs this module of the server's processes."""
    with suppress(OSError):
        return f"cellgate.serve.processes.{module}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def trial_of(engine_pid):
    """Wait until an engine's trial is a program of its own, and return its number."""
    while True:
        for pid in children_of(engine_pid):
            if runs(pid, "trial_child"):
                return pid


def is_there(pid):
    """Whether a process still runs; one that only waits to be counted does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
