"""Compiles the modules on a request's way where CELLGATE_COMPILE=1 asks for it; all else stands in pyproject.toml.

    CELLGATE_COMPILE=1 pip install .     needs a C compiler and Python's headers

mypyc, which comes with mypy, makes C of the modules that pyproject.toml lists under [tool.cellgate]. Their sources stay
beside them in the wheel, which is then for one version of Python and one kind of machine. Without the variable nothing
is compiled.

Rules of this file: it compiles into wheels only. An editable installation runs the sources, or else modules that were
compiled from what the sources were would run in their place.
"""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from setuptools import setup

ROOT = Path(__file__).parent
STAGE = Path("build", "compiled")
NEEDS = ["mypy>=2.4", "numpy>=1.26"]  # numpy for its types
# What the modules import from others is not there while a wheel is built, and has no types then.
OPTIONS = ["--config-file=", "--explicit-package-bases", "--ignore-missing-imports", "--cache-dir=/dev/null"]


def compiled_modules() -> list[Any]:
    """Return the extensions that setuptools is to build."""
    from mypyc.build import mypycify  # noqa: PLC0415 - there only where it was asked for

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["cellgate"]["compiled"]
    tree = STAGE / "tree" / "cellgate"  # mypy calls a module by the folders over it
    files = [str(tree.joinpath(*name.split(".")).with_suffix(".py")) for name in listed]
    tree.parent.mkdir(parents=True, exist_ok=True)
    tree.unlink(missing_ok=True)
    tree.symlink_to(ROOT.resolve())
    os.environ["MYPYPATH"] = str(tree.parent)
    try:
        return mypycify(
            [*OPTIONS, *files], opt_level="2", debug_level="0", group_name="cellgate", target_dir=str(STAGE / "c")
        )
    finally:
        tree.unlink()


asked: dict[str, Any] = {}
if os.environ.get("CELLGATE_COMPILE", "") not in ("", "0"):
    asked = {"setup_requires": NEEDS, "ext_modules": compiled_modules() if "bdist_wheel" in sys.argv else []}
setup(script_name=__file__, **asked)  # so that this file does not go into the wheel
