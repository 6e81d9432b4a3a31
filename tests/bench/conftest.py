"""bench/gpu is a folder of scripts; its files import each other by their bare names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "gpu"))
