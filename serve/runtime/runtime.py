"""The narrow interface between serving and whatever runs the graph.

Rules of this file: no onnxruntime, no HTTP. The implementation in this process is `onnx_runtime`; one in a child
process can take its place without any other file noticing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from ...bundle.manifest import GraphSignature
from ..arrays import Array, Arrays
from .bound_graph import BoundRuns
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
                length in 1..T: `input_check` sees to it, for the runtime itself crashes or answers nonsense.

        Returns:
            Every output of the signature by name.

        Raises:
            EngineError: the runtime refused the batch, or is closed.
        """
        ...

    def close(self) -> None:
        """Give everything back. Closing twice is fine."""
        ...


@runtime_checkable
class DeviceRuntime(Runtime, Protocol):
    """A runtime that can leave tensors on its device between runs."""

    def bound(self) -> BoundRuns:
        """Return a way to run the graph with tensors left on the device; good until `close`."""
        ...

    def open_beside(self, model: bytes) -> BoundRuns:
        """Open another, small graph on the same device; good until `close`.

        Raises:
            ServerStartError: it does not open.
        """
        ...
