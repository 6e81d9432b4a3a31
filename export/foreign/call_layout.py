"""How a foreign module wants its sequence and lays out its answer, beside this house's [B, T, I], [B, T, O] and [B, O].

A layout is a text of axes in the module's own order: B rows, T steps, I or O features, 1 an axis that holds one. A
module whose input has no B takes one sequence at a time, as the tagger of PyTorch's own tutorial does.

Rules of this file: pure shapes; which layout a module has is found out on runs (input_probe.py, output_probe.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor

_TOKENS: Final = ("BT", "TB", "T", "1T", "T1")
_FEATURES: Final = ("BTI", "TBI", "BIT", "TI", "T1I", "1TI")
_ONE_FEATURE: Final = ("BT", "TB", "T")
_ANSWERS: Final = ("BTO", "TBO", "BOT", "BT", "TB", "BO", "B", "1BO", "B1O")
_ANSWERS_TO_ONE: Final = ("TO", "T1O", "1TO", "OT", "T", "O", "1O", "11O", "")
# Where one answer is a table of two or three axes, in the place of O.
_TABLES: Final = ("BTO", "TBO", "BO")
_TABLES_TO_ONE: Final = ("TO", "O")
_TABLE_AXES: Final = (2, 3)


@dataclass(frozen=True, slots=True)
class InputLayout:
    """The axes of the sequence as a module takes it.

    Attributes:
        axes: such as "BTI", "TBI", "BIT" (channels first), "BT" (tokens, or numbers without an axis for features),
            "TI" or "T1I" (one sequence at a time).
    """

    axes: str

    @property
    def one_at_a_time(self) -> bool:
        """Whether the module takes a single sequence."""
        return "B" not in self.axes

    @property
    def time_first(self) -> bool:
        """Whether steps come before rows."""
        return self.axes.find("T") < self.axes.find("B")

    def hand_over(self, x: Tensor) -> Tensor:
        """Return x [B, T, I], or tokens [B, T], as the module takes it; B is 1 where it takes one at a time."""
        names, order = "BTI"[: x.dim()], self.axes.replace("1", "B")
        for absent in [name for name in names if name not in order]:
            x = x.squeeze(names.index(absent))
            names = names.replace(absent, "")
        places = [names.index(axis) for axis in order]
        return x if places == sorted(places) else x.permute(places)


@dataclass(frozen=True, slots=True)
class OutputLayout:
    """The axes of a module's output.

    Attributes:
        axes: such as "BTO", "TBO", "BO", "B" (one number a row); rows and steps may also be one flat axis.
        sizes: (O,), or the sizes of a table that stands in the place of O, such as (K, O).
    """

    axes: str
    sizes: tuple[int, ...]

    @property
    def per_step(self) -> bool:
        """Whether there is an output for each step."""
        return "T" in self.axes

    def to_house(self, y: Tensor, rows: int, steps: int) -> Tensor:
        """Return y as [B, T, O] or [B, O], also where a squeeze() took away an axis that happened to hold one."""
        if len(self.sizes) > 1:
            y = y if "B" in self.axes else y.unsqueeze(0)
            return y.transpose(0, 1) if self.axes.startswith("TB") else y
        sizes = {"B": rows, "T": steps, "O": self.sizes[0], "1": 1}
        if y.dim() != len(self.axes) or "1" in self.axes:
            y = y.reshape([sizes[axis] for axis in self.axes if axis != "1"])
        names = self.axes.replace("1", "")
        for k, axis in enumerate("BTO" if self.per_step else "BO"):
            if axis not in names:
                y, names = y.unsqueeze(k), names[:k] + axis + names[k:]
        places = [names.index(axis) for axis in ("BTO" if self.per_step else "BO")]
        return y if places == sorted(places) else y.permute(places)


def input_layouts(*, takes_tokens: bool, width: int) -> Iterator[InputLayout]:
    """Yield what may be tried, the most usual first and one sequence at a time last."""
    several = (*_FEATURES, *(_ONE_FEATURE if width == 1 else ()))
    layouts = [InputLayout(axes) for axes in (_TOKENS if takes_tokens else several)]
    yield from sorted(layouts, key=lambda layout: layout.one_at_a_time)


def output_layouts(
    taken: InputLayout, shapes: Sequence[Sequence[int]], steps: Sequence[int], rows: int
) -> list[OutputLayout]:
    """Return the layouts that fit what a module returned for each number of steps, the most usual first."""
    single = taken.one_at_a_time
    found = _fitting(_ANSWERS_TO_ONE if single else _ANSWERS, (1,), shapes, steps, rows)
    if not found:
        found = _fitting(_TABLES_TO_ONE if single else _TABLES, _TABLE_AXES, shapes, steps, rows)
    if taken.time_first and not single:
        found.sort(key=lambda layout: layout.axes.startswith("B"))
    return found


def _fitting(
    every: Sequence[str], table: Sequence[int], shapes: Sequence[Sequence[int]], steps: Sequence[int], rows: int
) -> list[OutputLayout]:
    """Return those whose O is as many axes as one of ``table`` says."""
    tried = [(axes, _sizes_of(axes, count, shapes, steps, rows)) for axes in every for count in table]
    return [OutputLayout(axes, sizes) for axes, sizes in tried if sizes is not None]


def _sizes_of(
    axes: str, count: int, shapes: Sequence[Sequence[int]], steps: Sequence[int], rows: int
) -> tuple[int, ...] | None:
    """Return the ``count`` sizes of O where every shape is laid out so, rows and steps also as one axis; else None."""
    found = set()
    for shape, T in zip(shapes, steps, strict=True):
        due = [{"B": rows, "T": T, "1": 1}.get(axis) for axis in axes.replace("O", "O" * count)]
        if "B" in axes[:2] and "T" in axes[:2] and count == 1 and len(shape) == len(axes) - 1:
            due = [rows * T, *due[2:]]
        if len(shape) != len(due) or any(size not in {None, n} for size, n in zip(due, shape, strict=True)):
            return None
        found.add(tuple(n for size, n in zip(due, shape, strict=True) if size is None) or (1,))
    return found.pop() if len(found) == 1 else None
