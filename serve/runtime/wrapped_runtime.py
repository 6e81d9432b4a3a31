"""What a runtime that stands before another one says of itself: what that one does."""

from typing import Generic, TypeVar

from ...bundle.manifest import GraphSignature
from .runtime import Runtime, RuntimeFacts

Inner = TypeVar("Inner", bound=Runtime)


class WrappedRuntime(Generic[Inner]):
    """The base of a runtime that stands before another one; how it runs is its own.

    Args:
        runtime: open.
    """

    def __init__(self, runtime: Inner) -> None:
        self._runtime = runtime

    @property
    def signature(self) -> GraphSignature:
        """Names, dtypes and shapes of the graph."""
        return self._runtime.signature

    @property
    def facts(self) -> RuntimeFacts:
        """What the runtime says about itself."""
        return self._runtime.facts

    @property
    def provider(self) -> str:
        """The runtime's own word for the device."""
        return self._runtime.provider

    @property
    def device(self) -> str:
        """The device: "cpu" or "cuda"."""
        return self._runtime.device
