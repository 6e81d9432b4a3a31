"""An inference request before it is written down for a wire: what it says, right or wrong.

Rules of this file: nothing is checked; a request may contradict itself, for that is what half of the cases are about.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

DTYPES = {
    "BOOL": np.dtype("?"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}


@dataclass(frozen=True)
class Tensor:
    """An input: what its head says, and the elements that come with it, which may be others."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: np.ndarray

    @classmethod
    def of(cls, name, datatype, array):
        return cls(name, datatype, array.shape, array)


@dataclass(frozen=True)
class Request:
    """An inference request."""

    model: str
    inputs: tuple[Tensor, ...]
    version: str = ""
    id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def with_input(self, wanted, **changes):
        """Return the request with one input changed."""
        changed = [replace(one, **changes) if one.name == wanted else one for one in self.inputs]
        return replace(self, inputs=tuple(changed))

    def with_more(self, *inputs):
        """Return the request with more inputs."""
        return replace(self, inputs=(*self.inputs, *inputs))


@dataclass(frozen=True)
class Answer:
    """What came back, by whatever wire.

    Attributes:
        status: of HTTP as a number, or of gRPC as a name.
        error: the sentence, or None.
        code: the word for programs that this server adds, or None.
        fields: model_name, model_version and id of an answer that is none.
        outputs: arrays by name, in the order of the answer.
    """

    status: int | str
    error: str | None = None
    code: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def is_good(self):
        return self.status in (200, "OK")
