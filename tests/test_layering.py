"""The house: who may import whom, what must not be loaded, and that the wheel holds every folder."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cellgate

PACKAGE = Path(cellgate.__file__).parent
ROOT = Path(__file__).parents[1]
# folder -> the folders that it may import besides itself
MAY_IMPORT = {
    "model": set(),
    "bundle": set(),
    "export": {"model", "bundle"},
    "serve": {"bundle"},
    "client": set(),
    "command": {"model", "export", "bundle", "serve", "client"},
}
# folder -> third-party packages that it must not name anywhere
MUST_NOT_NAME = {
    "model": {"onnx", "onnxruntime", "onnxscript", "fastapi", "starlette", "uvicorn"},
    "bundle": {"torch", "onnx", "onnxruntime", "onnxscript", "fastapi", "starlette", "uvicorn"},
    "export": {"fastapi", "starlette", "uvicorn"},
    "serve": {"torch", "onnx", "onnxscript"},
    "export/foreign": {"onnx", "onnxruntime", "onnxscript"},
    "export/loops": {"onnx", "onnxruntime", "onnxscript"},
    "export/steps": {"onnx", "onnxruntime", "onnxscript"},
    "export/report_page": {"torch", "onnx", "onnxruntime", "onnxscript"},
    "serve/engine": {"torch", "onnx", "onnxscript", "fastapi", "starlette", "uvicorn"},
    "serve/streams": {"torch", "onnx", "onnxscript", "fastapi", "starlette", "uvicorn", "asyncio", "pickle"},
    "client": {"torch", "onnx", "onnxruntime", "onnxscript", "fastapi", "starlette", "uvicorn"},
}
# a folder inside a folder -> the neighbours that it builds on
BUILDS_ON = {
    "export/foreign": {"graph", "loops"},
    "export/graph": {"proof"},
    "export/loops": {"foreign", "graph", "steps"},
    "export/proof": {"foreign", "graph"},
    "export/report_page": {"proof"},
    "export/steps": {"foreign"},
    "serve/connection": {"engine", "infer", "observe"},
    "serve/engine": {"models", "observe", "runtime"},
    "serve/gate": set(),
    "serve/infer": {"engine", "models", "observe", "runtime", "streams"},
    "serve/kernel": set(),
    "serve/models": {"infer", "runtime"},
    "serve/observe": {"engine", "infer", "models"},
    "serve/processes": {"connection", "engine", "gate", "models", "observe", "routes", "rpc", "streams"},
    "serve/routes": {"connection", "engine", "infer", "models", "observe"},
    "serve/rpc": {"engine", "gate", "infer", "models", "observe"},
    "serve/runtime": {"kernel"},
    "serve/streams": {"engine", "infer", "models"},
}


def imports_of(file: Path) -> set[tuple[str, str]]:
    """Every import of a file as ("house", folder), ("inside", what lies in the same top folder) or others."""
    found = set()
    depth = len(file.relative_to(PACKAGE).parts)  # dots that lead to the house
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {("third", alias.name.split(".")[0]) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(("third", (node.module or "").split(".")[0]))
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            kind = {depth: "house", depth - 1: "inside"}.get(node.level, "beside")
            found |= {(kind, str(name).split(".")[0]) for name in names}
    return found


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_only_what_the_way_of_the_data_allows(folder):
    for file in sorted((PACKAGE / folder).rglob("*.py")):
        house = {name for kind, name in imports_of(file) if kind == "house"} - {"__version__"}

        assert house - {folder} <= MAY_IMPORT[folder], file.name


@pytest.mark.parametrize("folder", MUST_NOT_NAME)
def test_a_folder_names_no_package_that_it_must_not_know(folder):
    for file in sorted((PACKAGE / folder).rglob("*.py")):
        third = {name for kind, name in imports_of(file) if kind == "third"}

        assert not third & MUST_NOT_NAME[folder], file.name


def folders_inside(top: str) -> set[str]:
    return {file.parent.name for file in (PACKAGE / top).glob("*/__init__.py")}


@pytest.mark.parametrize("folder", BUILDS_ON)
def test_a_folder_inside_a_folder_builds_on_few_of_its_neighbours(folder):
    neighbours = folders_inside(folder.split("/")[0])
    for file in sorted((PACKAGE / folder).glob("*.py")):
        inside = {name for kind, name in imports_of(file) if kind == "inside"}

        assert inside & neighbours <= BUILDS_ON[folder], file.name


def test_no_folder_inside_a_folder_is_left_out():
    assert {f"{top}/{folder}" for top in ("export", "serve") for folder in folders_inside(top)} == set(BUILDS_ON)


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        pytest.param("cellgate.serve.app", "torch onnx onnxscript pickle5 multipart", id="serving-without-torch"),
        pytest.param(
            "cellgate.serve.processes.engine_child", "torch onnx fastapi uvicorn", id="the-engine-without-http"
        ),
        pytest.param(
            "cellgate.serve.processes.rpc_frontend", "torch onnx onnxruntime uvicorn multipart", id="grpc-without-http"
        ),
        pytest.param("cellgate.bundle.reader", "torch onnx onnxruntime fastapi", id="bundle-without-runtimes"),
        pytest.param("cellgate.model.reference", "torch onnx onnxruntime", id="reference-without-torch"),
        pytest.param("cellgate.__main__", "torch onnx onnxruntime fastapi", id="command-line-starts-light"),
    ],
)
def test_a_fresh_interpreter_does_not_load(module, unwanted):
    code = f"import sys, {module}; print(sorted(set(sys.modules) & set({unwanted.split()!r})))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_telemetry_of_onnxruntime_is_off_before_its_first_import():
    code = "import os; os.environ.pop('ORT_DISABLE_TELEMETRY', None); import cellgate; "
    code += "print(os.environ['ORT_DISABLE_TELEMETRY'])"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "1"


@pytest.mark.tree
def test_every_folder_with_code_is_in_the_wheel():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    files = [file.relative_to(ROOT) for deep in ("*", "*/*") for file in ROOT.glob(f"{deep}/__init__.py")]
    folders = {".".join(file.parts[:-1]) for file in files if not file.parts[0].startswith((".", "build", "tests"))}

    assert set(listed) == {"cellgate"} | {f"cellgate.{folder}" for folder in folders}


@pytest.mark.tree
def test_no_file_at_the_root_slips_into_the_wheel():
    built = {"setup.py"}  # leaves itself out, which compiled_test.sh looks for
    assert {file.name for file in ROOT.glob("*.py")} - built == {"__init__.py", "__main__.py"}
