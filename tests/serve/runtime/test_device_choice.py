"""Which device is taken, and why. A CUDA build on a machine without a GPU is played by the CPU provider."""

from dataclasses import replace
from importlib import metadata

import pytest

from cellgate.bundle.manifest import Variant
from cellgate.serve.runtime import device_choice
from cellgate.serve.runtime.device_choice import clashing_wheels, open_runtime
from cellgate.serve.runtime.onnx_runtime import OnnxRuntime
from cellgate.serve.runtime.placement import CPU_PROVIDER, CUDA_PROVIDER, PlacedNode, placement_of
from cellgate.serve.start_errors import DeviceUnavailableError, ServerStartError


class PretendedCuda(OnnxRuntime):
    """The real runtime on the CPU that says it is CUDA, and may compute something else."""

    spoil = False
    left_to_the_cpu = ()

    def __init__(self, *args, device, **options):
        super().__init__(*args, device="cpu", **options)
        self._pretended = device
        if device == "cuda":
            left = [PlacedNode(operator, "n", CPU_PROVIDER) for operator in self.left_to_the_cpu]
            nodes = [PlacedNode("Transpose", "t", CUDA_PROVIDER), *left]
            self._facts = replace(self._facts, placement=placement_of(nodes, CUDA_PROVIDER))

    @property
    def provider(self):
        return CUDA_PROVIDER if self._pretended == "cuda" else super().provider

    def run(self, feeds):
        found = super().run(feeds)
        return {name: array + 1 for name, array in found.items()} if self.spoil and self._pretended == "cuda" else found


@pytest.fixture
def cuda_build(monkeypatch):
    monkeypatch.setattr(device_choice, "offers_cuda", lambda: True)


@pytest.fixture
def no_cuda_build(monkeypatch):
    monkeypatch.setattr(device_choice, "offers_cuda", lambda: False)


def test_cpu_is_taken_when_asked_for(bundles):
    runtime = open_runtime(bundles["steps"], device="cpu", threads=2)

    assert (runtime.device, runtime.facts.reason, runtime.facts.threads) == ("cpu", "asked for", 2)


def test_threads_are_the_cpus_of_this_process_unless_said(bundles, monkeypatch):
    monkeypatch.setattr(device_choice, "usable_cpus", lambda: 3)

    assert open_runtime(bundles["steps"], device="cpu").facts.threads == 3


@pytest.mark.usefixtures("no_cuda_build")
def test_auto_takes_the_cpu_where_the_build_has_no_cuda_and_says_so(bundles):
    runtime = open_runtime(bundles["steps"])

    assert runtime.device == "cpu"
    assert runtime.facts.reason == "this onnxruntime has no CUDA"


@pytest.mark.usefixtures("no_cuda_build")
def test_cuda_by_name_is_refused_where_the_build_has_none(bundles):
    with pytest.raises(
        DeviceUnavailableError, match="device: expected cuda, found an onnxruntime without CUDA; install"
    ):
        open_runtime(bundles["steps"], device="cuda")


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_cuda_by_name_is_refused_where_the_library_falls_back_without_a_word(bundles):
    with pytest.raises(DeviceUnavailableError, match="expected cuda, found onnxruntime on CPUExecutionProvider"):
        open_runtime(bundles["steps"], device="cuda")


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_takes_the_cpu_where_cuda_does_not_open_and_says_why(bundles):
    runtime = open_runtime(bundles["steps"])

    assert runtime.device == "cpu"
    assert "CUDA did not open (device: expected cuda, found onnxruntime on CPU" in runtime.facts.reason


@pytest.mark.usefixtures("cuda_build")
def test_auto_takes_cuda_where_it_reproduces_the_golden_cases(bundles, monkeypatch):
    monkeypatch.setattr(device_choice, "OnnxRuntime", PretendedCuda)

    runtime = open_runtime(bundles["steps"])

    assert (runtime.provider, runtime.facts.reason) == (CUDA_PROVIDER, "CUDA reproduced the golden cases")


@pytest.mark.usefixtures("cuda_build")
def test_auto_takes_the_cpu_where_cuda_computes_something_else(bundles, monkeypatch):
    monkeypatch.setattr(device_choice, "OnnxRuntime", PretendedCuda)
    monkeypatch.setattr(PretendedCuda, "spoil", True)

    runtime = open_runtime(bundles["steps"])

    assert runtime.provider == "CPUExecutionProvider"
    assert "CUDA did not reproduce the golden cases (" in runtime.facts.reason


@pytest.mark.usefixtures("cuda_build")
def test_cuda_by_name_is_taken_where_it_opens(bundles, monkeypatch):
    monkeypatch.setattr(device_choice, "OnnxRuntime", PretendedCuda)

    assert open_runtime(bundles["steps"], device="cuda").provider == CUDA_PROVIDER


@pytest.mark.usefixtures("cuda_build")
def test_cuda_that_leaves_the_recurrence_to_the_cpu_is_refused_by_name(bundles, monkeypatch):
    monkeypatch.setattr(device_choice, "OnnxRuntime", PretendedCuda)
    monkeypatch.setattr(PretendedCuda, "left_to_the_cpu", ("LSTM", "Shape"))

    with pytest.raises(
        DeviceUnavailableError, match="expected cuda, found LSTM n left to another provider; CUDA has no"
    ):
        open_runtime(bundles["steps"], device="cuda")


@pytest.mark.usefixtures("cuda_build")
def test_of_many_misplaced_nodes_some_are_named(bundles, monkeypatch):
    monkeypatch.setattr(device_choice, "OnnxRuntime", PretendedCuda)
    monkeypatch.setattr(PretendedCuda, "left_to_the_cpu", ("LSTM", "GRU", "Scan", "MatMul", "Tanh"))

    with pytest.raises(DeviceUnavailableError, match="found GRU n, LSTM n, MatMul n and 2 more nodes left"):
        open_runtime(bundles["steps"], device="cuda")


@pytest.mark.usefixtures("cuda_build")
def test_auto_takes_the_cpu_where_cuda_leaves_the_recurrence_to_it(bundles, monkeypatch):
    monkeypatch.setattr(device_choice, "OnnxRuntime", PretendedCuda)
    monkeypatch.setattr(PretendedCuda, "left_to_the_cpu", ("Scan",))

    runtime = open_runtime(bundles["steps"])

    assert runtime.provider == CPU_PROVIDER
    assert "CUDA did not open (device: expected cuda, found Scan n left" in runtime.facts.reason


@pytest.mark.usefixtures("cuda_build")
def test_cuda_may_leave_shapes_to_the_cpu(bundles, monkeypatch):
    monkeypatch.setattr(device_choice, "OnnxRuntime", PretendedCuda)
    monkeypatch.setattr(PretendedCuda, "left_to_the_cpu", ("Shape", "Range"))

    assert open_runtime(bundles["steps"], device="cuda").facts.placement.elsewhere == ("Range n", "Shape n")


@pytest.mark.usefixtures("cuda_build")
def test_each_device_gets_its_own_graph(bundles, monkeypatch):
    monkeypatch.setattr(device_choice, "OnnxRuntime", PretendedCuda)
    bundle = bundles["steps"]
    other = Variant(
        file="model.scan.onnx",
        device="cuda",
        operators=bundle.manifest.operators,
        bitwise_rows=True,
        bitwise_chunks=True,
    )
    both = replace(
        bundle,
        model=b"not for cuda",
        variants={"model.scan.onnx": bundle.model},
        manifest=replace(bundle.manifest, variants=(other,)),
    )

    assert open_runtime(both, device="cuda").facts.graph == "model.scan.onnx"
    assert open_runtime(bundle, device="cpu").facts.graph == "model.onnx"
    with pytest.raises(ServerStartError, match="expected onnxruntime to load it"):
        open_runtime(both, device="cpu")


def _install(monkeypatch, *names):
    def find(name):
        if name not in names:
            raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", find)


@pytest.mark.parametrize("names", [(), ("onnxruntime",), ("onnxruntime-gpu",)])
def test_one_wheel_is_no_clash(monkeypatch, names):
    _install(monkeypatch, *names)

    assert clashing_wheels() is None


def test_both_wheels_are_warned_of(bundles, monkeypatch):
    _install(monkeypatch, "onnxruntime", "onnxruntime-gpu")

    runtime = open_runtime(bundles["steps"], device="cpu", threads=1)

    assert runtime.facts.notes == (clashing_wheels(),)
    assert "both installed and overwrite each other" in runtime.facts.notes[0]


def test_model_that_does_not_open_at_all_is_an_error_on_every_device(bundles, monkeypatch):
    def refuse(*_args, **_options):
        raise ServerStartError("no")

    monkeypatch.setattr(device_choice, "OnnxRuntime", refuse)

    with pytest.raises(ServerStartError, match="no"):
        open_runtime(bundles["steps"])


@pytest.mark.gpu
def test_cuda_reproduces_the_golden_cases(bundles):
    runtime = open_runtime(bundles["steps"], device="auto")
    if runtime.device != "cuda":
        pytest.skip(runtime.facts.reason)

    assert runtime.provider == CUDA_PROVIDER
    assert runtime.facts.precision == "float32"
    assert runtime.facts.placement.misplaced == ()
