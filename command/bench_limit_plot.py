"""The plot of a bundle's limit: a bar for each way, as a share of the floor.

Rules of this file: pure, rows in and a file's text out.
"""

from collections.abc import Sequence
from typing import Final

from ..client.svg import WIDTH, bar, line, page, picture, short, text
from ..serve.engine.limit import LimitRow

_LEFT, _RIGHT = 350.0, WIDTH - 150.0
_TOP, _PITCH = 26.0, 30.0
_KINDS: Final = {"lanes": "one", "floor": "three"}
_COLUMNS: Final = ("how", "of the floor", "sequences/s", "us a row and step", "padding")


def plot_limit(rows: Sequence[LimitRow], names: Sequence[str], title: str, *, html: bool) -> str:
    """Return the text of an .svg file, or of an .html file with the numbers beside the picture.

    Args:
        rows: what was measured.
        names: of the rows, for people.
        title: what was measured and where.
        html: whether the file is a page.
    """
    bottom = _TOP + _PITCH * len(rows)
    widest = max(1.0, *(row.floor_share for row in rows))
    scale = (_RIGHT - _LEFT) / widest
    body = [text(16, 8, "Speed as a share of the floor; at the right sequences a second", "quiet")]
    for share in (0.0, 0.5, 1.0):
        place = _LEFT + share * scale
        body += [line(place, _TOP - 4, place, bottom), text(place, bottom + 18, f"{share:.0%}", "quiet", "middle")]
    for place, (row, name) in enumerate(zip(rows, names, strict=True)):
        top, length = _TOP + place * _PITCH, row.floor_share * scale
        label = name.replace(", the whole set known", "").replace(", nothing to pack", "")
        body.append(text(_LEFT - 10, top + 15, label, "head" if row.way == "lanes" else "", "end"))
        body.append(bar(_LEFT, top, length, _PITCH - 9, _KINDS.get(row.way, "two")))
        body.append(text(_LEFT + length + 6, top + 15, f"{row.floor_share:.0%}", "head"))
        body.append(text(WIDTH - 16, top + 15, short(row.sequences_per_s), "quiet", "end"))
    words = "; ".join(f"{name}: {row.floor_share:.0%}" for row, name in zip(rows, names, strict=True))
    drawn = picture(title, f"Share of the floor. {words}.", bottom + 34, body)
    return (
        page(title, drawn, _COLUMNS, [_cells(row, name) for row, name in zip(rows, names, strict=True)])
        if html
        else drawn
    )


def _cells(row: LimitRow, name: str) -> list[str]:
    padding = f"{max(0.0, row.padding_share):.0%}"
    return [name, f"{row.floor_share:.0%}", short(row.sequences_per_s), short(row.step_s * 1e6), padding]
