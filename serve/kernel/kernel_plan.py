"""How a layer is laid out over a GPU for the project's own LSTM kernel (`lstm.cu`).

The recurrent weights R, 4H x H float32, stay in registers from the first step to the last: reading them again at every
step is what other kernels spend their time on. A block holds those of some hidden units, and as many blocks as hold all
of R form a group. A group takes its share of the rows through all steps; its blocks meet once a step, to exchange h.
Groups never meet.

Rules of this file: pure. A block has a multiprocessor to itself, so a layer fits where R fits: up to H = 1,024 on the
132 multiprocessors of an H100.
"""

from dataclasses import dataclass
from typing import Final

_MOST_THREADS: Final = 512  # with 128 registers each: all of a multiprocessor's
_SEGMENTS: Final = (4, 8, 16, 32, 64)
_K_MOST: Final = 16  # weights of a gate in a thread; its four gates take 64 registers
_VECTOR: Final = 4
_TILE_MOST: Final = 16
_UNITS_OF_WARP: Final = 8
_NUMBER_BYTES: Final = 4
_INTEGERS: Final = 2  # of a row: its length, and which row it is


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelPlan:
    """Sizes of one layer, by the names of the macros in `lstm.cu`.

    Attributes:
        hidden: H.
        segments: threads of a hidden unit.
        padded: H rounded up to what the segments hold.
        units: hidden units of a block.
        members: blocks of a group.
        tile: rows that are computed between two meetings of a block's threads.
        threads: of a block.
    """

    hidden: int
    segments: int
    padded: int
    units: int
    members: int
    tile: int
    threads: int

    def macros(self) -> dict[str, int]:
        """Return what the source is compiled with."""
        return {
            "HIDDEN": self.hidden,
            "SEGMENTS": self.segments,
            "PADDED": self.padded,
            "UNITS": self.units,
            "MEMBERS": self.members,
            "TILE": self.tile,
            "THREADS": self.threads,
        }

    def shared_bytes(self, rows_each: int) -> int:
        """Return the dynamic shared memory of a block whose group has so many rows."""
        resident = rows_each if self.members == 1 else self.tile * (1 if self.few(rows_each) else 2)
        sums = self.segments * self.tile * self.units
        return _NUMBER_BYTES * (resident * self.padded + sums + rows_each * (self.units + _INTEGERS))

    def few(self, rows_each: int) -> bool:
        """Whether a group of so many rows exchanges h word by word, instead of meeting once a step."""
        return rows_each <= self.tile

    def groups(self, rows: int, multiprocessors: int) -> int:
        """Return how many groups share so many rows."""
        return min(rows, multiprocessors // self.members)

    def most_rows(self, multiprocessors: int, shared_bytes: int) -> int:
        """Return the rows that one launch can take, a block having so much shared memory."""
        some = self.tile + 1
        each_bytes = self.shared_bytes(some + 1) - self.shared_bytes(some)
        free_bytes = shared_bytes - self.shared_bytes(some)
        return (some + max(free_bytes // each_bytes, -1)) * (multiprocessors // self.members)


def plan_kernel(hidden: int, multiprocessors: int) -> KernelPlan | None:
    """Lay a layer of this H out over so many multiprocessors; None where it does not fit."""
    for segments in _SEGMENTS:
        k_each = -(-hidden // (segments * _VECTOR)) * _VECTOR
        if k_each > _K_MOST:
            continue
        most_units = _MOST_THREADS // segments
        members = -(-hidden // most_units)
        if members > multiprocessors:
            return None
        units = -(-hidden // (members * _UNITS_OF_WARP)) * _UNITS_OF_WARP
        threads = units * segments
        return KernelPlan(
            hidden=hidden,
            segments=segments,
            padded=segments * k_each,
            units=units,
            members=members,
            tile=min(_TILE_MOST, threads // units),
            threads=threads,
        )
    return None
