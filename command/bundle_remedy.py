"""What to do where a bundle was expected and something else, or nothing, is there: the command that makes one.

Rules of this file: light, and nothing is opened: what somebody meant is read off the words.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..bundle.errors import NotABundleError
from ..bundle.reader import INSTEAD

_EXPECTED: Final = ": expected the folder of a bundle, found: "
_SOURCE: Final = re.compile(r"(?P<stem>[^/:]+)\.(?:onnx|safetensors|pt|pth|ckpt|py)(?P<factory>:\w+)?$")


@contextmanager
def telling_how_to_make(paths: Sequence[Path], *, takes_repository: bool = False) -> Iterator[None]:
    """Add to the refusal of what is no bundle how one is made.

    Args:
        paths: that were given for bundles' folders.
        takes_repository: whether the command has an option for a folder of bundles.

    Raises:
        NotABundleError: as inside, with the remedy.
    """
    try:
        yield
    except NotABundleError as err:
        if takes_repository and str(err).endswith(INSTEAD):
            raise NotABundleError(f"{err}, or the folder with --repository") from err
        told = next((path for path in paths if str(err).startswith(f"{path}{_EXPECTED}")), None)
        if told is None:
            raise
        raise NotABundleError(f"{err}; make one first: {export_line(str(told))}") from err


def export_line(text: str) -> str:
    """Return the command that makes a bundle of what was given for one, or at the place that was given."""
    source = _SOURCE.search(text)
    if source is None:
        return f"cellgate export SOURCE --out {'bundles/NAME' if Path(text).exists() else shlex.quote(text)}"
    factory = ":FACTORY" if text.endswith(".py") else ""
    return f"cellgate export {shlex.quote(text)}{factory} --out {shlex.quote('bundles/' + source['stem'])}"
