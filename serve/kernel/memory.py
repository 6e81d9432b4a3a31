"""Device memory that stays from run to run.

Rules of this file: memory grows to the largest need and is given back when the GPU is closed; whoever asks for more
while something is queued on the old one waits for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np

from ..arrays import Array
from .gpu import Address, Gpu

_NUMBER_BYTES: Final = 4
_SMALLEST_BYTES: Final = 2**12


class Scratch:
    """Memory that several may use, one after the other; new memory is all zero."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._address: Address = 0
        self._size_bytes = 0

    def at_least(self, size_bytes: int) -> Address:
        """Return memory of so many bytes; its content is what was left there."""
        if size_bytes > self._size_bytes:
            wanted_bytes = max(size_bytes, _SMALLEST_BYTES, 2 * self._size_bytes)
            self.forget()
            self._address = self._gpu.allocate(wanted_bytes)
            self._size_bytes = wanted_bytes  # only now: where there is no room, there is no memory either
        return self._address

    def forget(self) -> None:
        """Give the memory back."""
        if self._address:
            self._gpu.synchronize()
            self._gpu.free(self._address)
        self._address = self._size_bytes = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """Float32 values on the device: where, their shape, and what keeps the memory alive, if that is anybody else's."""

    gpu: Gpu
    address: Address
    shape: tuple[int, ...]
    keeps: Any = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the values."""
        return _NUMBER_BYTES * prod(self.shape)

    def part(self, first: int, shape: Sequence[int]) -> "Placed":
        """Return values of another shape that begin so many numbers later."""
        return Placed(self.gpu, self.address + _NUMBER_BYTES * first, tuple(shape), self.keeps)

    def numpy(self) -> Array:
        """Copy the values to the host and wait for them."""
        array = np.empty(self.shape, dtype=np.float32)
        self.gpu.enter()
        self.gpu.download(self.address, array)
        self.gpu.synchronize()
        return array


class RowOrder:
    """Lengths of rows, and the rows by falling length, on the device."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._memory = Scratch(gpu)
        self._there = np.zeros(0, dtype=np.int32)
        self.order: Address = 0
        self.lengths: Address = 0
        self.shortest = 0

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self._there)

    def put(self, lengths: Array) -> None:
        """Take the lengths of the coming run, int32 [B]; what is there already is not sent again."""
        if np.array_equal(lengths, self._there):
            return
        self._there = self._there[:0]  # until all of it has been sent
        order = np.argsort(-lengths, kind="stable").astype(np.int32)
        both = np.concatenate([order, lengths[order].astype(np.int32)])
        self.order = self._memory.at_least(both.nbytes)
        self.lengths = self.order + order.nbytes
        self.shortest = int(lengths.min())
        self._gpu.upload(both, self.order)
        self._there = lengths.copy()
