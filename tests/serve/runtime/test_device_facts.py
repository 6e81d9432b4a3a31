"""What a machine says about its devices, and what is made of machines that say nothing."""

import pytest

from cellgate.serve.runtime import device_facts as asked
from cellgate.serve.runtime.device_facts import DeviceFacts, cpu_from_info, device_facts, gpu_from_listing

LISTING = """\
0, GPU-11aa, NVIDIA H100 80GB HBM3, 580.65.06
1, GPU-22bb, NVIDIA A100-SXM4-40GB, 580.65.06
"""
H100 = DeviceFacts(name="NVIDIA H100 80GB HBM3", driver="580.65.06")
A100 = DeviceFacts(name="NVIDIA A100-SXM4-40GB", driver="580.65.06")
UNKNOWN = DeviceFacts(name=None, driver=None)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("", H100), ("0", H100), ("1", A100), ("1,0", A100), ("GPU-22", A100), ("7", UNKNOWN), ("GPU-33", UNKNOWN)],
)
def test_first_visible_gpu_is_named(visible, expected):
    assert gpu_from_listing(LISTING, visible) == expected


@pytest.mark.parametrize("text", ["", "NVIDIA-SMI has failed because it couldn't communicate with the driver\n"])
def test_no_listing_is_no_name(text):
    assert gpu_from_listing(text, "") == UNKNOWN


def test_name_of_the_cpu_is_its_first_model_name():
    assert cpu_from_info("processor\t: 0\nmodel name\t: AMD EPYC\nprocessor\t: 1\nmodel name\t: other\n") == "AMD EPYC"
    assert cpu_from_info("model name\t:\n") is None


def test_this_cpu_has_a_name_and_no_driver():
    found = device_facts("cpu", {})

    assert found.name
    assert found.driver is None


def test_machine_without_the_driver_tells_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(asked, "_NVIDIA_SMI", (str(tmp_path / "nvidia-smi"),))
    monkeypatch.setattr(asked, "_CPU_INFO", tmp_path / "cpuinfo")

    assert device_facts("cuda", {}) == UNKNOWN
    assert device_facts("cpu", {}).name


def test_listing_is_read_from_the_command(monkeypatch, tmp_path):
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\ncat <<'END'\n{LISTING}END\n")
    command.chmod(0o755)
    monkeypatch.setattr(asked, "_NVIDIA_SMI", (str(command),))

    assert device_facts("cuda", {"CUDA_VISIBLE_DEVICES": "1"}) == A100
