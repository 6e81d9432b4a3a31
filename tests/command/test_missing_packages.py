"""What is not installed is told with the extra that brings it, and the rest works without."""

import pytest

from cellgate.command.errors import MissingExtraError, UsageError
from cellgate.command.extras import load

from .interpreter import python

pytestmark = pytest.mark.long

WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from cellgate.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "words", "extras"),
    [
        ("torch", ["export", "a.py:b", "--out", "c"], "export,cpu"),
        ("onnxruntime", ["export", "a.py:b", "--out", "c"], "export,cpu"),
        ("onnxruntime", ["verify", "a"], "cpu"),
        ("fastapi", ["serve", "a"], "serve,cpu"),
        ("onnxruntime", ["serve", "a"], "serve,cpu"),
        ("prometheus_client", ["serve", "a"], "serve,cpu"),
        ("opentelemetry.sdk", ["serve", "a", "--otel-endpoint", "http://c/"], "serve,otel,cpu"),
        ("orjson", ["predict", "a", "--input", "b"], "serve,cpu"),
        ("torch", ["inspect", "{networks}/lstm.pt"], "export"),
        ("torch", ["verify", "a", "--source", "b"], "export,cpu"),
    ],
)
def test_a_missing_package_is_answered_with_its_extra(networks, package, words, extras):
    done = python("-c", WITHOUT, package, *(word.format(networks=networks) for word in words))
    option = next((word for word in words if word in ("--source", "--otel-endpoint")), "")
    what = f"{words[0]} {option}".rstrip()
    gpu = "; on a machine with an NVIDIA GPU, gpu in the place of cpu" if "cpu" in extras else ""

    assert done.returncode == 2
    assert done.stderr == (
        f'cellgate: {what} needs {package}, which is not installed; run pip install "cellgate[{extras}]"{gpu}\n'
    )


@pytest.mark.slow
def test_without_torch_a_bundle_is_inspected_verified_and_predicted(classifier, tmp_path):
    (tmp_path / "x.csv").write_text("1,2,3\n4,5,6\n", encoding="utf-8")
    weights = classifier.path.parents[1] / "weights.safetensors"
    for words in (
        ["inspect", classifier.path],
        ["inspect", weights],
        ["verify", classifier.path, "--no-record", "--device", "cpu"],
        ["predict", classifier.path, "--input", tmp_path / "x.csv"],
    ):
        done = python("-c", WITHOUT, "torch", *words)

        assert done.returncode == 0, done.stderr


def test_a_module_that_is_missing_for_another_reason_stays_a_fault():
    with pytest.raises(ModuleNotFoundError):
        load("cellgate.command.absent", "export")


def test_a_broken_package_is_told_as_one(tmp_path, monkeypatch):
    (tmp_path / "broken_package_of_a_test.py").write_text("raise ImportError('libx.so: not found\\nmore')")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(UsageError, match=r"^export: expected its packages to load, found: libx.so: not found; install"):
        load("broken_package_of_a_test", "export")


def test_a_missing_extra_is_wrong_use():
    assert MissingExtraError("export", "torch", "export").status == 2
