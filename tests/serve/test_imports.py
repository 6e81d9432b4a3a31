"""What serving loads, in a fresh interpreter."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
import cellgate.serve.app, cellgate.serve.server
print(json.dumps(sorted(sys.modules)))
"""
OPENING = """
import builtins, pickle, sys
from pathlib import Path
def refuse(*_args, **_options):
    raise SystemExit("something unpickled")
pickle.loads = pickle.load = pickle.Unpickler = refuse
from cellgate.serve.engine.models import open_engine_models
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.settings import Settings
open_engine_models([BundlePlace(Path(sys.argv[1]))], Settings(device="cpu"))
print("opened")
"""


def run_fresh(program, *args):
    command = [sys.executable, "-W", "error", "-c", program, *args]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)


@pytest.fixture(scope="module")
def loaded():
    return set(json.loads(run_fresh(PROGRAM).stdout))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "torch",
        "onnx",
        "onnxscript",
        "multipart",
        "python_multipart",
        "pandas",
        "cellgate.model",
        "cellgate.export",
        "cellgate.command",
    ],
)
def test_serving_never_loads(loaded, name):
    assert "cellgate.serve.app" in loaded
    assert name not in loaded


@pytest.mark.slow
def test_opening_a_bundle_unpickles_nothing_and_prints_nothing(bundle_paths):
    done = run_fresh(OPENING, str(bundle_paths["last"]))

    assert (done.stdout, done.stderr) == ("opened\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("process", ["engine_child", "rpc_frontend"])
def test_processes_that_speak_no_http_load_no_framework_for_it(process):
    program = f"import json, sys, cellgate.serve.processes.{process}; print(json.dumps(sorted(sys.modules)))"

    assert {"fastapi", "pydantic", "uvicorn"}.isdisjoint(json.loads(run_fresh(program).stdout))
