"""A GPU as the rest of this folder needs it: memory, copies, compiled kernels, launches, on one stream.

Rules of this file: no library; `cuda_gpu` is the real one. All is queued on the stream, and nothing waits but
`synchronize`. One thread at a time.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..arrays import Array

Address = int  # of device memory


class GpuError(Exception):
    """A call failed; says which, and how."""


class Gpu(Protocol):
    """One GPU.

    Attributes:
        multiprocessors: that run blocks.
        shared_bytes: most shared memory of a block.
    """

    multiprocessors: int
    shared_bytes: int

    def enter(self) -> None:
        """Make the GPU the calling thread's; every thread does so before it calls anything else here."""
        ...

    def allocate(self, size_bytes: int) -> Address:
        """Return new memory, all zero."""
        ...

    def free(self, address: Address) -> None:
        """Give memory back that nothing queued reads or writes."""
        ...

    def clear(self, address: Address, words: int) -> None:
        """Set 32-bit words to zero."""
        ...

    def upload(self, array: Array, address: Address) -> None:
        """Copy a contiguous array to the device; it may change at once afterwards."""
        ...

    def download(self, address: Address, array: Array) -> None:
        """Copy to a contiguous array; it is there after `synchronize`."""
        ...

    def copy(self, given: Address, found: Address, size_bytes: int) -> None:
        """Copy on the device."""
        ...

    def store(self, array: Array) -> Address:
        """Return new memory with a copy of the array."""
        ...

    def synchronize(self) -> None:
        """Wait until all that is queued is done."""
        ...

    def close(self) -> None:
        """Give everything back: memory, kernels, the stream. Closing twice is fine."""
        ...

    def compile(self, name: str, source: str, macros: Mapping[str, int], shared: Mapping[str, int]) -> dict[str, Any]:
        """Compile CUDA C++ for this GPU.

        Args:
            name: of the file, for messages.
            source: its text.
            macros: to define.
            shared: name -> bytes of dynamic shared memory that a launch of this kernel may ask for.

        Returns:
            The kernels named in `shared`.

        Raises:
            GpuError: with the compiler's own words.
        """
        ...

    def launch(
        self,
        kernel: Any,
        grid: tuple[int, int],
        threads: int,
        arguments: Sequence[Any],
        *,
        shared_bytes: int = 0,
        together: bool = False,
    ) -> None:
        """Queue a kernel.

        Args:
            kernel: of `compile`.
            grid: blocks in x and y.
            threads: of a block.
            arguments: ctypes values or structures.
            shared_bytes: dynamic shared memory of a block.
            together: all blocks run at the same time, or the launch is refused.
        """
        ...
