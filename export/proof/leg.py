"""A leg: one implementation of a network, which runs every case that it can.

Rules of this file: a leg takes and gives NumPy arrays by the signature's names; what a leg cannot do it says, with the
reason, and nothing is skipped in silence. The legs themselves are in torch_legs.py and graph_legs.py.
"""

from collections.abc import Mapping
from typing import Protocol

from ...bundle.manifest import GraphSignature
from .compare import Array


class LegUnableError(Exception):
    """A leg met something that it cannot judge; its ``complaint`` says what."""


class Leg(Protocol):
    """One implementation.

    Attributes:
        name: for reports.
        complaint: why the leg cannot run at all; empty where it can.
        output_names: the outputs that it gives, all of the signature's or fewer.
    """

    name: str
    complaint: str
    output_names: tuple[str, ...]

    def rows_for(self, inputs: Mapping[str, Array]) -> int:
        """Return how many of the case's rows, from the first, this leg runs; 0 skips the case."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a case and return every output by name, in the signature's order."""


def names_of(signature: GraphSignature) -> tuple[str, ...]:
    """Return the names of the outputs, in order."""
    return tuple(spec.name for spec in signature.outputs)
