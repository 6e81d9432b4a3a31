"""What holds for every test."""

import gc
import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

# What these start counts for coverage; they start everything that there is.
_PROCESSES_COUNT: Final = {Path(__file__).parent / "serve" / "processes", Path(__file__).parent / "command"}
_COMPUTES: Final = Path(__file__).parent / "export"

# A property holds however busy the machine is: Hypothesis' own limit of 200 ms an example would time it.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Put the tests in order, and mark those that need not run where coverage is counted."""
    for item in items:
        covering = item.get_closest_marker("covering")
        if covering is not None and item.callspec.id not in covering.args:
            item.add_marker("no_cover")
    place = _places(items)
    items.sort(key=lambda item: place[item.path])


def _places(items):
    """Return each file's place in the order.

    Those of long tests start first, lest one of them keep a worker busy when all others have ended. Files that compute
    and files that wait for processes and sockets take turns: else all workers wait at once.
    """
    long = {item.path for item in items if item.get_closest_marker("long")}
    kinds = ([], [])
    for path in dict.fromkeys(item.path for item in items):
        kinds[_COMPUTES in path.parents].append(path)
    return {path: (path not in long, at / len(kind)) for kind in kinds for at, path in enumerate(kind)}


def pytest_collection_finish():
    """Let the collector pass over what is there by now and stays: PyTorch's exporters make it look far too often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Let what a test starts run without coverage where others cover it: processes take half as long again with it."""
    is_covered = _PROCESSES_COUNT & set(item.path.parents) and item.get_closest_marker("no_cover") is None
    config = None if is_covered else os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    try:
        return (yield)
    finally:
        if config is not None:
            os.environ["COVERAGE_PROCESS_CONFIG"] = config


def pytest_runtest_setup(item):
    """Skip what needs a GPU where there is none; `make gpu-check`, which is run where there is one, allows no skip."""
    if item.get_closest_marker("gpu") is None:
        return
    from cellgate.serve.runtime.onnx_session import offers_cuda

    if not offers_cuda():
        pytest.skip("this onnxruntime was built without CUDA")
