"""Which modules are compiled: all that pyproject.toml lists, or none. `compiled_test.sh` runs this where they are."""

import importlib
import tomllib
from pathlib import Path

from cellgate.serve.compiled import is_compiled

ROOT = Path(__file__).parents[2]


def test_all_listed_modules_are_compiled_or_none_is():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cellgate"]["compiled"]
    files = {name: importlib.import_module(f"cellgate.{name}").__file__ for name in listed}
    compiled = {name for name, file in files.items() if not file.endswith(".py")}

    assert compiled == (set(listed) if is_compiled() else set())
    assert all(Path(file).with_name(f"{name.rpartition('.')[2]}.py").exists() for name, file in files.items())
