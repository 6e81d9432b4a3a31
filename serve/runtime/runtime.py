"""The narrow interface between serving and whatever runs the graph.

Rules of this file: no onnxruntime, no HTTP. The implementation in this process is `onnx_runtime`; one in a child
process can take its place without any other file noticing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...bundle.manifest import GraphSignature, TensorSpec
from ..arrays import Array, Arrays
from .bound_graph import BoundRuns, DeviceTensor
from .placement import Placement


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeFacts:
    """What a runtime says about itself.

    Attributes:
        device: "cpu" or "cuda".
        provider: the runtime's own word for the device, such as CPUExecutionProvider.
        threads: threads inside one run.
        version: version of the runtime.
        reason: why this device, as a sentence for people.
        notes: further things that an operator should read, such as clashing installations.
        precision: of the arithmetic: "float32", "float16", or "tf32" where float32 products may be rounded to TF32.
        graph: name of the bundle's file that it runs.
        placement: which provider runs how many nodes.
    """

    device: str
    provider: str
    threads: int
    version: str
    reason: str
    notes: tuple[str, ...] = ()
    precision: str = "float32"
    graph: str = "model.onnx"
    placement: Placement = field(default_factory=Placement)

    @classmethod
    def from_plain(cls, entry: Mapping[str, Any]) -> "RuntimeFacts":
        """Return the record that `dataclasses.asdict` made plain, through JSON or not."""
        placement = Placement.from_plain(entry["placement"])
        return cls(**{**entry, "notes": tuple(entry["notes"]), "placement": placement})


class Runtime(Protocol):
    """Runs one graph. `run` may be called from several threads at once."""

    @property
    def signature(self) -> GraphSignature:
        """Names, dtypes and shapes of the graph."""
        ...

    @property
    def facts(self) -> RuntimeFacts:
        """What the runtime says about itself."""
        ...

    @property
    def provider(self) -> str:
        """The runtime's own word for the device."""
        ...

    @property
    def device(self) -> str:
        """The device: "cpu" or "cuda"."""
        ...

    def run(self, feeds: Arrays) -> dict[str, Array]:
        """Run the graph once.

        Args:
            feeds: every input of the signature, in its dtype and shape, C-contiguous, finite, no dimension zero, each
                length in 1..T: `input_check` and `value_check` see to it, for the runtime itself crashes or answers
                nonsense.

        Returns:
            Every output of the signature by name.

        Raises:
            EngineError: the runtime refused the batch, or is closed.
        """
        ...

    def close(self) -> None:
        """Give everything back. Closing twice is fine."""
        ...


class StatePlaces(Protocol):
    """The states of all lanes on a device; see `DeviceStates`."""

    def grow(self, slots: int) -> None:
        """Know more slots beside the zero one."""
        ...

    def put(self, slot: int, given: Sequence[Array | None], row: int) -> None:
        """Give a slot the row of the states that a request brought, or zeros."""
        ...

    def take(self, slots: NDArray[np.int64]) -> dict[str, DeviceTensor]:
        """Return the states of a run, in its order, by input name."""
        ...

    def returned(self, tensors: dict[str, DeviceTensor], rows: int) -> None:
        """Hold what a run returned."""
        ...

    def keep(self, slots: NDArray[np.int64], ended: int) -> None:
        """Say whose the returned rows from `ended` on are."""
        ...


@runtime_checkable
class DeviceRuntime(Runtime, Protocol):
    """A runtime that can leave tensors on its device between runs."""

    def bound(self) -> BoundRuns:
        """Return a way to run the graph with tensors left on the device; good until `close`."""
        ...

    def states(self, tensors: Sequence[tuple[TensorSpec, str]], slots: int) -> StatePlaces:
        """Return places for the states of lanes, beside the graph of `bound`; good until `close`.

        Args:
            tensors: (spec of the graph's input, name of its output) for each state tensor.
            slots: beside the zero one.

        Raises:
            ServerStartError: what moves them does not open.
        """
        ...
