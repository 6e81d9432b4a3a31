"""What holds for every test."""

import os

import pytest
from hypothesis import settings

# A property holds however busy the machine is: Hypothesis' own limit of 200 ms an example would time it.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items):
    """Let files of long tests start first, lest one of them keep a worker busy when all others have ended."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Let what a test starts run without coverage, too, where the test counts none: it repeats what others cover."""
    is_uncovered = item.get_closest_marker("no_cover") is not None
    config = os.environ.pop("COVERAGE_PROCESS_CONFIG", None) if is_uncovered else None
    try:
        return (yield)
    finally:
        if config is not None:
            os.environ["COVERAGE_PROCESS_CONFIG"] = config


def pytest_runtest_setup(item):
    """Skip what needs a GPU where there is none; `make gpu-check`, which is run where there is one, allows no skip."""
    if item.get_closest_marker("gpu") is None:
        return
    from cellgate.serve.onnx_runtime import offers_cuda

    if not offers_cuda():
        pytest.skip("this onnxruntime was built without CUDA")
