"""One LSTM layer on the GPU by the project's own kernel (`lstm.cu`): weights there for good, runs queued on the stream.

Rules of this file: addresses and sizes; whose memory it is, the caller knows. Nothing waits.
"""

import ctypes
from collections.abc import Sequence
from typing import Final

from ..arrays import Array
from .gpu import Address, Gpu
from .kernel_plan import KernelPlan
from .memory import RowOrder, Scratch
from .products import Places, Products, Weights
from .sources import source

_FILE: Final = "lstm.cu"
_Z_BYTES: Final = 2**28  # of the products of the inputs; a longer sequence is done in parts
_NUMBER_BYTES: Final = 4
_TAGGED_BYTES: Final = 8
_ALIGNED_BYTES: Final = 256
_MOST_TAG: Final = 2**32 - 1


class _Rows(ctypes.Structure):
    """`Rows` of lstm.cu."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("z", "r", "h0", "c0", "y", "h_n", "c_n", "order", "lengths")),
        *((name, ctypes.c_void_p) for name in ("tagged", "plain", "arrivals")),
        *((name, ctypes.c_int) for name in ("B", "first_step", "steps", "groups", "rows_each")),
        ("tag", ctypes.c_uint),
    ]


class LstmKernel:
    """A layer.

    Attributes:
        most_rows: of a run.

    Args:
        products: of the GPU.
        plan: of the layer's H on this GPU.
        weights: input weights w, float32 [4H, I], gates i, o, f, c as in ONNX; recurrent weights r, [4H, H]; the sum of
            both biases, [4H].
        scratch: shared with other layers.

    Raises:
        GpuError: it cannot be compiled or does not fit.
    """

    def __init__(
        self, gpu: Gpu, products: Products, plan: KernelPlan, weights: Sequence[Array], scratch: Scratch
    ) -> None:
        self._gpu = gpu
        self._products = products
        self._plan = plan
        self._scratch = scratch
        w, r, b = weights
        self._input = Weights(gpu, w, b)
        self._r = gpu.store(r)
        self.most_rows = plan.most_rows(gpu.multiprocessors, gpu.shared_bytes)
        self._words, self._numbers = Scratch(gpu), Scratch(gpu)
        self._layouts: dict[int, tuple[int, int, int]] = {}
        self._next_tag = 1  # new memory is zero
        kernels = gpu.compile(_FILE, source(_FILE), plan.macros(), {"advance": gpu.shared_bytes})
        self._kernel = kernels["advance"]

    def run(
        self,
        x: Address,
        size: tuple[int, int],
        order: RowOrder,
        states: Sequence[Address],
        outputs: Sequence[Address],
        *,
        batch_first: bool = False,
        clears: bool = True,
    ) -> None:
        """Queue a run.

        Args:
            x: float32 [T, B, I].
            size: T and B.
            order: of the rows; a length beyond T counts as T.
            states: h0 and c0, float32 [B, H] each; 0 for zeros.
            outputs: y, float32 [T, B, H], or 0 if nobody wants it; h_n and c_n, [B, H] each.
            batch_first: x is [B, T, I].
            clears: y is zero from a row's length on; else it is anything there.
        """
        steps, rows = size
        width = _NUMBER_BYTES * rows * self._plan.hidden  # of a step of y
        inputs = self._input.inputs
        places = Places(rows, inputs, steps * inputs) if batch_first else Places(1, inputs, 0)
        step_bytes = _NUMBER_BYTES * inputs * (1 if batch_first else rows)  # from a step of x to the next
        y, h_n, c_n = outputs
        if y and clears and order.shortest < steps:
            self._gpu.clear(y, steps * rows * self._plan.hidden)
        at_once = max(_Z_BYTES // (4 * width), 1)
        for first in range(0, steps, at_once):
            count = min(at_once, steps - first)
            z = self._scratch.at_least(4 * width * count)
            self._products.multiply(self._input, x + first * step_bytes, count * rows, z, places=places)
            begin = states if first == 0 else (h_n, c_n)
            self._advance(z, (first, count, rows), order, begin, (y and y + first * width, h_n, c_n))

    def _advance(
        self,
        z: Address,
        size: tuple[int, int, int],
        order: RowOrder,
        states: Sequence[Address],
        outputs: Sequence[Address],
    ) -> None:
        plan, gpu = self._plan, self._gpu
        first, steps, rows = size
        groups, rows_each, shared_bytes = self._layouts.get(rows) or self._lay_out(rows)
        few = plan.few(rows_each)
        tagged, tag = self._tagged(groups * rows_each, steps) if few else (0, 0)
        plain, arrivals = (0, 0) if few else self._plain(groups * rows_each)
        y, h_n, c_n = outputs
        described = _Rows(
            z=z,
            r=self._r,
            h0=states[0],
            c0=states[1],
            y=y,
            h_n=h_n,
            c_n=c_n,
            order=order.order,
            lengths=order.lengths,
            tagged=tagged,
            plain=plain,
            arrivals=arrivals,
            B=rows,
            first_step=first,
            steps=steps,
            groups=groups,
            rows_each=rows_each,
            tag=tag,
        )
        blocks = (groups * plan.members, 1)
        gpu.launch(self._kernel, blocks, plan.threads, [described], shared_bytes=shared_bytes, together=True)

    def _lay_out(self, rows: int) -> tuple[int, int, int]:
        """Return groups, most rows of a group, and a block's shared memory."""
        groups = self._plan.groups(rows, self._gpu.multiprocessors)
        rows_each = -(-rows // groups)
        found = self._layouts[rows] = (groups, rows_each, self._plan.shared_bytes(rows_each))
        return found

    def _tagged(self, rows: int, steps: int) -> tuple[Address, int]:
        """Return memory for two tagged h of so many rows, and the tag of the first of so many steps."""
        if self._next_tag + steps >= _MOST_TAG:  # after weeks: tags of long ago must not come again
            self._words.forget()
            self._next_tag = 1
        tag = self._next_tag
        self._next_tag += steps + 1
        return self._words.at_least(_TAGGED_BYTES * 2 * rows * self._plan.padded), tag

    def _plain(self, rows: int) -> tuple[Address, Address]:
        """Return memory for two h of so many rows, and for a count of each group, which is zero."""
        counts_bytes = _NUMBER_BYTES * self._gpu.multiprocessors
        counts_bytes += -counts_bytes % _ALIGNED_BYTES
        arrivals = self._numbers.at_least(counts_bytes + _NUMBER_BYTES * 2 * rows * self._plan.padded)
        self._gpu.clear(arrivals, self._gpu.multiprocessors)
        return arrivals + counts_bytes, arrivals
