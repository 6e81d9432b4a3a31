"""A real server, stopped twice in the middle of full load over every protocol: all that it read has an answer."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "bench" / "stop_under_load.py"
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.tree]
PATIENCE_S = 240


def test_a_server_that_is_stopped_under_load_answers_what_it_read_and_leaves_nothing(bundle_paths, tmp_path):
    options = ["--times", "2", "--clients", "2", "--longest", "0.6", "--log", str(tmp_path / "log")]
    done = subprocess.run(
        [sys.executable, str(BENCH), str(bundle_paths["steps"]), *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr + done.stdout
    assert "2 stops under load" in done.stdout
