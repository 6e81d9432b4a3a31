"""What holds for every test."""

import gc
import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

# What these start counts for coverage; they start everything that there is.
_PROCESSES_COUNT: Final = {Path(__file__).parent / "serve" / "processes", Path(__file__).parent / "command"}

# A property holds however busy the machine is: Hypothesis' own limit of 200 ms an example would time it.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items):
    """Let files of long tests start first, lest one of them keep a worker busy when all others have ended."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


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
