"""A graph that is run with some of its tensors left where they are: on the device.

Rules of this file: no onnxruntime import; a device tensor is opaque here and to everybody else, but for `to_host`.
Outputs of onnxruntime are new memory in every run: a state that is bound in place as input and output was wrong where
it runs a graph more than once (its issue 32243, under CUDA graphs, which are not used here). Those of the project's own
kernels are good until the next run.
"""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from ..arrays import Array, Arrays
from ..errors import EngineError

DeviceTensor = Any  # onnxruntime.OrtValue, or kernel.memory.Placed


class BoundRuns(Protocol):
    """Runs a graph with tensors bound."""

    def run(
        self, feeds: Arrays, kept: Mapping[str, DeviceTensor], wanted: Collection[str]
    ) -> tuple[dict[str, Array], dict[str, DeviceTensor]]:
        """Run the graph once.

        Args:
            feeds: inputs on the host, as for `Runtime.run`.
            kept: the other inputs, on the device, as an earlier run returned them.
            wanted: outputs to bring to the host; the others stay.

        Returns:
            (the wanted outputs, the others) by name. The arrays have their values after `wait`, and not before.

        Raises:
            EngineError: refused.
        """
        ...

    def wait(self) -> None:
        """Wait until the last run is done."""
        ...


class BoundGraph:
    """`BoundRuns` over an onnxruntime session.

    Args:
        session: open, on the device.
        device: "cpu" or "cuda".
    """

    def __init__(self, session: Any, device: str) -> None:
        self._session = session
        self._device = device
        self._outputs = [tensor.name for tensor in session.get_outputs()]

    def run(
        self, feeds: Arrays, kept: Mapping[str, DeviceTensor], wanted: Collection[str]
    ) -> tuple[dict[str, Array], dict[str, DeviceTensor]]:
        """As `BoundRuns.run`."""
        for array in feeds.values():
            if 0 in array.shape:  # as in `Runtime.run`: it would take the whole process down
                raise EngineError(f"runtime: expected no dimension to be zero, found {_shapes(feeds)}")
        try:
            binding = self._session.io_binding()
            for name, array in feeds.items():
                binding.bind_cpu_input(name, array)
            for name, tensor in kept.items():
                binding.bind_ortvalue_input(name, tensor)
            for name in self._outputs:
                binding.bind_output(name, "cpu" if name in wanted else self._device)
            self._session.run_with_iobinding(binding)
            found = dict(zip(self._outputs, binding.get_outputs(), strict=True))
            host = {name: to_host(found[name]) for name in wanted}
        except Exception as err:  # onnxruntime raises a dozen unrelated classes
            raise EngineError(f"runtime: expected it to run the batch, found it refused ({_shapes(feeds)})") from err
        return host, {name: tensor for name, tensor in found.items() if name not in wanted}

    def wait(self) -> None:
        """Nothing: a run of onnxruntime is done when it returns."""


def to_host(tensor: DeviceTensor) -> Array:
    """Copy a device tensor to the host."""
    array: Array = tensor.numpy()
    return array


def _shapes(feeds: Arrays) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
