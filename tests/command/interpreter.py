"""A fresh interpreter for the commands."""

import subprocess
import sys


def python(*words, **options):
    """Run Python with these words; return what it said and its status."""
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
