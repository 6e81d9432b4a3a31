"""What a model says of itself in its metadata, and good requests made from it.

Rules of this file: it knows the protocol's metadata, and of this server's additions the properties `optional_inputs`,
`outputs_on_request`, `vocabulary_size` and `least_steps`, without which every input is sent and every output expected.
"""

import json
from dataclasses import dataclass

import numpy as np

from .request import DTYPES, Request, Tensor

ROWS, STEPS = 2, 5


@dataclass(frozen=True)
class ModelFacts:
    """One model.

    Attributes:
        name, version: of it; version is empty where the server names none.
        inputs: metadata by name.
        outputs: likewise.
        sequence: name of the first input that must be sent.
        optional: names of the inputs that may be left out.
        on_request: names of the outputs that come only when asked for.
        vocabulary: number of tokens, or None.
        least: fewest steps of a row.
    """

    name: str
    version: str
    inputs: dict
    outputs: dict
    sequence: str
    optional: tuple
    on_request: tuple
    vocabulary: int | None
    least: int = 1

    @classmethod
    def of(cls, metadata):
        properties = metadata.get("properties", {})
        optional = tuple(json.loads(properties.get("optional_inputs", "[]")))
        inputs = {tensor["name"]: tensor for tensor in metadata["inputs"]}
        return cls(
            name=metadata["name"],
            version=(metadata.get("versions") or [""])[-1],
            inputs=inputs,
            outputs={tensor["name"]: tensor for tensor in metadata["outputs"]},
            sequence=next(name for name in inputs if name not in optional),
            optional=optional,
            on_request=tuple(json.loads(properties.get("outputs_on_request", "[]"))),
            vocabulary=int(properties["vocabulary_size"]) if "vocabulary_size" in properties else None,
            least=int(properties.get("least_steps", "1")),
        )

    @property
    def datatype(self):
        """Of the sequence."""
        return self.inputs[self.sequence]["datatype"]

    @property
    def lengths(self):
        """Name of the optional input that is one integer a row, or None."""
        return next((name for name in self.optional if len(self.inputs[name]["shape"]) == 1), None)

    @property
    def states(self):
        """Names of the optional inputs that are not lengths."""
        return tuple(name for name in self.optional if name != self.lengths)

    def tensor(self, name, rows=ROWS, steps=STEPS, seed=0):
        """Return good values for an input: the first free dimension of a sequence is rows, of a state rows too."""
        facts = self.inputs[name]
        free = iter((rows, steps))
        shape = tuple(next(free) if axis == -1 else axis for axis in facts["shape"])
        values, dtype = np.random.default_rng(seed), DTYPES[facts["datatype"]]
        if name == self.lengths:
            array = np.full(shape, steps)
        elif dtype.kind == "f":
            array = values.normal(size=shape)
        else:
            array = values.integers(0, self.vocabulary or 2, size=shape)
        return Tensor.of(name, facts["datatype"], array.astype(dtype))

    def request(self, rows=ROWS, steps=STEPS, **more):
        """Return a good request with what must be sent."""
        needed = [name for name in self.inputs if name not in self.optional]
        return Request(self.name, tuple(self.tensor(name, rows, steps) for name in needed), **more)
