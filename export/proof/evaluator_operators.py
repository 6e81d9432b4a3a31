"""Operators that the evaluator of the onnx package has, but not for every size or value: computed as they are meant.

The evaluator finds each by the name of its class.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

from .compare import Array


class GatherElements(OpRun):
    """Without the limit on the axis: numpy.choose takes 63 steps."""

    op_domain = ""

    def _run(self, data: Array, indices: NDArray[np.int64], axis: int = 0) -> tuple[Array]:
        return (np.take_along_axis(data, indices, axis),)


class LogSoftmax(OpRun):
    """As x - max - log(sum(exp(x - max))): the logarithm of a softmax is -inf where that underflows."""

    op_domain = ""

    def _run(self, X: Array, axis: int = -1) -> tuple[Array]:
        shifted = X - X.max(axis=axis, keepdims=True)
        found: Array = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        return (found.astype(X.dtype),)


OPERATORS: Final[list[Any]] = [GatherElements, LogSoftmax]
