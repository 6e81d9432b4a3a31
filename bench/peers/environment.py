"""An environment of its own for each peer: made once, made again when its requirements change."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from peers import OURS, Peer

_REQUIREMENTS: Final = Path(__file__).parent / "requirements"


class InstallError(Exception):
    """A peer's packages cannot be installed; gives the installer's last line."""


def programs_of(peer: Peer, work: Path) -> Path:
    """Return the folder of the peer's programs, installed now unless it is there.

    Raises:
        InstallError: see there.
    """
    if peer.name == OURS:
        return Path(sys.executable).parent
    wanted = (_REQUIREMENTS / f"{peer.name}.txt").read_text()
    folder = work / peer.name
    stamp = folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"{peer.name}: installing", file=sys.stderr, flush=True)
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(folder / "bin" / "pip"), "install", "--quiet", "-r", str(_REQUIREMENTS / f"{peer.name}.txt"))
        stamp.write_text(wanted)
    return folder / "bin"


def version_of(peer: Peer, programs: Path) -> dict[str, str]:
    """Return the versions of the peer, of its runtime and of its interpreter."""
    code = (
        "import platform, sys; from importlib.metadata import version;"
        "print(platform.python_version(), *map(version, sys.argv[1:]))"
    )
    packages = [peer.package, "onnxruntime", "numpy"]
    python = str(programs / "python")
    found = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(["python", *packages], found, strict=True))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise InstallError(lines[-1])
