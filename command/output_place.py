"""Where a command may write: nowhere inside of a bundle, which one file more makes unreadable.

Rules of this file: it is asked before any work is done, and nothing is written.
"""

import os
from pathlib import Path
from typing import Final

from ..bundle.manifest import MANIFEST_FILE
from ..bundle.manifest_json import MAX_MANIFEST_BYTES
from ..bundle.strict_json import parse_json
from .errors import UsageError

_MARK: Final = "format_version"  # others have a manifest.json too, as web pages do


def refuse_inside_bundle(option: str, path: Path, *, is_filled: bool = False) -> None:
    """Refuse a file, or a folder, that would be made inside of a bundle.

    Args:
        option: that gave it, for the sentence.
        path: of what is to be written; links are followed, and nothing needs to be there.
        is_filled: whether files are put into it, so that it may be no bundle itself.

    Raises:
        UsageError: names the bundle.
    """
    place = Path(os.path.realpath(path))  # resolve() would raise where links form a loop
    for folder in (place, *place.parents) if is_filled else place.parents:
        if _is_bundle(folder):
            raise UsageError(
                f"{option} {path}: expected a place outside of any bundle, found it inside of {folder}, which no "
                "command can read once anything else lies in it; give a place outside of it"
            )


def _is_bundle(folder: Path) -> bool:
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            top = parse_json(file.read(MAX_MANIFEST_BYTES + 1), max_bytes=MAX_MANIFEST_BYTES)
    except (OSError, ValueError):
        return False
    return isinstance(top, dict) and _MARK in top
