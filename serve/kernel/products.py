"""Products with weights that stay on the GPU, and a transposition: the kernels of `products.cu`.

Rules of this file: addresses and sizes; whose memory it is, the caller knows. Nothing waits.
"""

import ctypes
from math import prod
from typing import Any, Final

from ..arrays import Array
from .gpu import Address, Gpu
from .sources import source

_FILE: Final = "products.cu"
_FEW, _MANY = 64, 128  # rows and columns of a tile
_THREADS: Final = 256
_MOVE_BLOCKS: Final = 512


MovedShapes = tuple[int, int, int, int]


class Places(ctypes.Structure):
    """`Places` of products.cu: where rows of numbers lie."""

    _fields_ = [  # as ctypes wants it
        ("inner", ctypes.c_int),
        ("outer_step", ctypes.c_longlong),
        ("inner_step", ctypes.c_longlong),
    ]


class Products:
    """The compiled kernels.

    Args:
        gpu: where.

    Raises:
        GpuError: they cannot be compiled.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        names = ("project_few", "project_many", "swap", "move")
        self._kernels = gpu.compile(_FILE, source(_FILE), {}, dict.fromkeys(names, 0))

    def swap(self, given: Address, shape: tuple[int, int, int], found: Address) -> None:
        """Queue [A, B, C] to [B, A, C]."""
        arguments = [ctypes.c_void_p(given), ctypes.c_void_p(found), *map(ctypes.c_int, shape)]
        self._gpu.launch(self._kernels["swap"], self._blocks(prod(shape)), _THREADS, arguments)

    def move(self, given: Address, found: Address, rows: tuple[Address, Address, int], shapes: "MovedShapes") -> None:
        """Queue copies of rows of a state tensor.

        Args:
            given: float32 [L, from_rows, H].
            found: float32 [L, to_rows, H].
            rows: where the numbers of the rows are that are read, and of those that are written, int32, and how many.
            shapes: L, from_rows, to_rows and H.
        """
        layers, from_rows, to_rows, hidden = shapes
        sizes = (layers, rows[2], from_rows, to_rows, hidden)
        arguments: list[Any] = [ctypes.c_void_p(address) for address in (given, found, *rows[:2])]
        arguments += map(ctypes.c_int, sizes)
        self._gpu.launch(self._kernels["move"], self._blocks(layers * rows[2] * hidden), _THREADS, arguments)

    def multiply(self, weights: "Weights", x: Address, rows: int, z: Address, *, places: Places | None = None) -> None:
        """Queue z [rows, O] = x [rows, I] times the weights, plus b; places: of x's rows, else one after another."""
        blocks = -(-rows // _MANY) * -(-weights.outputs // _MANY)
        name, tile = ("project_many", _MANY) if blocks >= self._gpu.multiprocessors else ("project_few", _FEW)
        arguments: list[Any] = [ctypes.c_void_p(x), places or Places(1, weights.inputs, 0)]
        arguments += [ctypes.c_void_p(address) for address in (weights.w, weights.b, z)]
        arguments += [ctypes.c_int(size) for size in (rows, weights.inputs, weights.outputs)]
        grid = (-(-weights.outputs // tile), -(-rows // tile))
        self._gpu.launch(self._kernels[name], grid, _THREADS, arguments)

    @staticmethod
    def _blocks(count: int) -> tuple[int, int]:
        return min(-(-count // _THREADS), _MOVE_BLOCKS), 1


class Weights:
    """w [O, I] and b [O], float32, on the GPU."""

    def __init__(self, gpu: Gpu, w: Array, b: Array) -> None:
        self.outputs, self.inputs = w.shape
        self.w, self.b = gpu.store(w), gpu.store(b)
