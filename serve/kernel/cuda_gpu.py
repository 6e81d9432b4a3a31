"""A GPU through NVIDIA's own bindings.

Rules of this file: the only one that imports cuda.bindings. The first visible GPU, in the primary context, which
is onnxruntime's too.
"""

import ctypes
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np
from cuda.bindings import driver, nvrtc

from ..arrays import Array
from .gpu import Address, GpuError

_PINNED_BYTES: Final = 2**23
_ALIGNED_BYTES: Final = 256


class CudaGpu:
    """`Gpu` for the first visible one.

    Raises:
        GpuError: there is none, or it cannot be used.
    """

    def __init__(self) -> None:
        _call(driver.cuInit, 0)
        self._device = _call(driver.cuDeviceGet, 0)
        self._context = _call(driver.cuDevicePrimaryCtxRetain, self._device)
        self.enter()
        self._stream = _call(driver.cuStreamCreate, driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        self._pinned = int(_call(driver.cuMemHostAlloc, _PINNED_BYTES, 0))
        self._pinned_used = 0
        self._owned: set[Address] = set()
        self._modules: list[Any] = []
        self._compiled: dict[Any, dict[str, Any]] = {}
        self._arriving: list[tuple[Address, Array]] = []  # in pinned memory, and where they belong
        attribute = driver.CUdevice_attribute
        self.multiprocessors = self._ask(attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        self.shared_bytes = self._ask(attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
        self.capability = (
            self._ask(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            self._ask(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        )

    @property
    def stream(self) -> int:
        """The stream's handle, for others who queue work on it."""
        return int(self._stream)

    def enter(self) -> None:
        """Make the GPU the calling thread's; every thread does so before it calls anything else here."""
        _call(driver.cuCtxSetCurrent, self._context)

    def allocate(self, size_bytes: int) -> Address:
        """Return new memory, all zero."""
        address = _call(driver.cuMemAlloc, max(size_bytes, 1))
        self._owned.add(int(address))
        _call(driver.cuMemsetD8Async, address, 0, max(size_bytes, 1), self._stream)
        return int(address)

    def free(self, address: Address) -> None:
        """Give memory back when what is queued is done with it."""
        self._owned.remove(address)
        _call(driver.cuMemFree, address)

    def clear(self, address: Address, words: int) -> None:
        """Set 32-bit words to zero."""
        _call(driver.cuMemsetD32Async, address, 0, words, self._stream)

    def upload(self, array: Array, address: Address) -> None:
        """Copy a contiguous array to the device; it may change at once afterwards.

        From pinned memory, for a copy from any other waits until the stream is empty.
        """
        place = self._pin(array.nbytes)
        if place is not None:
            ctypes.memmove(place, array.ctypes.data, array.nbytes)
        _call(driver.cuMemcpyHtoDAsync, address, place or array.ctypes.data, array.nbytes, self._stream)

    def download(self, address: Address, array: Array) -> None:
        """Copy to a contiguous array; it is there after `synchronize`.

        Through pinned memory, for a copy to any other waits until the stream is empty.
        """
        place = self._pin(array.nbytes)
        if place is None:
            _call(driver.cuMemcpyDtoHAsync, array.ctypes.data, address, array.nbytes, self._stream)
            return
        _call(driver.cuMemcpyDtoHAsync, place, address, array.nbytes, self._stream)
        self._arriving.append((place, array))

    def copy(self, given: Address, found: Address, size_bytes: int) -> None:
        """Copy on the device."""
        _call(driver.cuMemcpyDtoDAsync, found, given, size_bytes, self._stream)

    def store(self, array: Array) -> Address:
        """Return new memory with a copy of the array."""
        made = np.ascontiguousarray(array)
        address = self.allocate(made.nbytes)
        self.upload(made, address)
        self.synchronize()
        return address

    def synchronize(self) -> None:
        """Wait until all that is queued is done."""
        _call(driver.cuStreamSynchronize, self._stream)
        for place, array in self._arriving:
            ctypes.memmove(array.ctypes.data, place, array.nbytes)
        self._arriving.clear()
        self._pinned_used = 0  # what lay there has been sent

    def close(self) -> None:
        """As `Gpu.close`; a GPU that has failed gives back what it still can."""
        if self._pinned == 0:
            return
        with suppress(GpuError):
            self.enter()
            self.synchronize()
        for address in list(self._owned):
            with suppress(GpuError):
                self.free(address)
        gone = [(driver.cuModuleUnload, module) for module in self._modules]
        gone += [(driver.cuMemFreeHost, self._pinned), (driver.cuStreamDestroy, self._stream)]
        for give_back, what in [*gone, (driver.cuDevicePrimaryCtxRelease, self._device)]:
            with suppress(GpuError):
                _call(give_back, what)
        self._pinned = 0
        self._compiled.clear()

    def free_bytes(self) -> int:
        """Return how much of the device's memory is free."""
        free, _ = _call(driver.cuMemGetInfo)
        return int(free)

    def compile(self, name: str, source: str, macros: Mapping[str, int], shared: Mapping[str, int]) -> dict[str, Any]:
        """As `Gpu.compile`."""
        key = (name, frozenset(macros.items()))
        if key not in self._compiled:
            module = _call(driver.cuModuleLoadData, _binary(name, source, self.capability, macros))
            self._modules.append(module)
            self._compiled[key] = {kernel: _kernel(module, kernel, size_bytes) for kernel, size_bytes in shared.items()}
        return self._compiled[key]

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
        """As `Gpu.launch`."""
        addresses = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(value) for value in arguments))
        start = driver.cuLaunchCooperativeKernel if together else driver.cuLaunchKernel
        words = [kernel, grid[0], grid[1], 1, threads, 1, 1, shared_bytes, self._stream, ctypes.addressof(addresses)]
        _call(start, *words, *([] if together else [0]))

    def _pin(self, size_bytes: int) -> Address | None:
        """Return pinned memory that is free until `synchronize`, or None for more than there is at all."""
        if self._pinned == 0:
            raise GpuError("expected the GPU open, found it closed")
        if size_bytes > _PINNED_BYTES:
            return None
        if self._pinned_used + size_bytes > _PINNED_BYTES:
            self.synchronize()
        place = self._pinned + self._pinned_used
        self._pinned_used += -(-size_bytes // _ALIGNED_BYTES) * _ALIGNED_BYTES
        return place

    def _ask(self, attribute: Any) -> int:
        return int(_call(driver.cuDeviceGetAttribute, attribute, self._device))


def _kernel(module: Any, name: str, shared_bytes: int) -> Any:
    kernel = _call(driver.cuModuleGetFunction, module, name.encode())
    if shared_bytes:
        limit = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _call(driver.cuFuncSetAttribute, kernel, limit, shared_bytes)
    return kernel


def _binary(name: str, source: str, capability: tuple[int, int], macros: Mapping[str, int]) -> bytes:
    program = _call(nvrtc.nvrtcCreateProgram, source.encode(), name.encode(), 0, [], [])
    words = ["--std=c++17", f"--gpu-architecture=sm_{capability[0]}{capability[1]}"]
    words += [f"-D{macro}={value}" for macro, value in macros.items()]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(words), [word.encode() for word in words])
    if int(status) != 0:
        log = bytearray(_call(nvrtc.nvrtcGetProgramLogSize, program))
        _call(nvrtc.nvrtcGetProgramLog, program, log)
        raise GpuError(f"{name}: expected NVRTC to compile it, found {log.decode(errors='replace').strip(chr(0))}")
    binary = bytearray(_call(nvrtc.nvrtcGetCUBINSize, program))
    _call(nvrtc.nvrtcGetCUBIN, program, binary)
    return bytes(binary)


def _call(function: Any, *arguments: Any) -> Any:
    """Call, and return what comes after the status; an error is raised with the library's own name for it."""
    try:
        found = function(*arguments)
    except Exception as err:  # the bindings raise their own classes where a library is missing
        raise GpuError(f"{getattr(function, '__name__', function)}: {err}") from err
    if found[0]:
        raise GpuError(f"{getattr(function, '__name__', function)}: expected success, found {found[0].name}")
    return found[1] if len(found) == 2 else found[1:] or None  # noqa: PLR2004 - a status, and what was asked for
