"""The API key that commands send to a server, from the environment: a command line can be read by others.

Rules of this file: the key stands in no text that is shown.
"""

from collections.abc import Mapping
from typing import Final

from ..serve.settings import PREFIX
from .errors import UsageError

_NAME: Final = f"{PREFIX}API_KEY"


def api_key_of(environ: Mapping[str, str]) -> str | None:
    """Return the key, or None where there is none, which an empty one means too.

    Raises:
        UsageError: it could not stand in a header.
    """
    key = environ.get(_NAME) or None
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise UsageError(
            f"{_NAME}: expected visible ASCII characters, found others; give the key as the keys' file has it"
        )
    return key
