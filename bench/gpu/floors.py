"""What no LSTM can be faster than: its operations over the device's peak, its bytes over the device's bandwidth.

Rules of this file: pure. Peaks are measured on the same device by whoever calls (`fused_lstm`), for data sheets count
what nobody reaches. Weights are counted as read once: that is a floor, for a step may have to read them again.
"""

from dataclasses import dataclass

_GATES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """One layer's work: B rows, T steps, I features in, H out, bytes of a number."""

    B: int
    T: int
    I: int
    H: int
    number_bytes: int

    @property
    def operations(self) -> int:
        """Multiplications and additions of the two products; the rest is less than a hundredth at H=256."""
        return 2 * self.B * self.T * _GATES * self.H * (self.I + self.H)

    @property
    def moved_bytes(self) -> int:
        """Input, output, weights and states, each once."""
        weights = _GATES * self.H * (self.I + self.H + 2)
        numbers = self.B * self.T * (self.I + self.H) + weights + 4 * self.B * self.H
        return self.number_bytes * numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class Peaks:
    """What the device was seen to do: operations a second in one precision, bytes a second read and written."""

    operations_per_s: float
    bytes_per_s: float


def floor_s(size: Size, peaks: Peaks) -> float:
    """Return the seconds that the work takes at least: whichever of the two is longer."""
    return max(size.operations / peaks.operations_per_s, size.moved_bytes / peaks.bytes_per_s)
