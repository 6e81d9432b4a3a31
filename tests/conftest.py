"""What holds for every test."""

import pytest


def pytest_runtest_setup(item):
    """Skip what needs a GPU where there is none; `make gpu-check`, which is run where there is one, allows no skip."""
    if item.get_closest_marker("gpu") is None:
        return
    from cellgate.serve.onnx_runtime import offers_cuda

    if not offers_cuda():
        pytest.skip("this onnxruntime was built without CUDA")
