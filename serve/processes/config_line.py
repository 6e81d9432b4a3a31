"""A child's configuration on its way: in the first line that it reads, or in a file in memory that the line names.

    {"places": …, …}             short enough for a pipe to take it at once, whatever the child does
    {"configuration_file": 9}    longer; the file is inherited under that number and holds it all

So the supervisor never waits for a child to read: one that stands still before it did would hold up all the others.

Rules of this file: standard library only; both sides of the way are here and nowhere else.
"""

import json
import os
import select
from typing import Any, Final

MOST_CONFIG_BYTES: Final = 2**26  # its longest part, the hello, came as a report, which may be as long
_PIPE_BYTES: Final = select.PIPE_BUF  # what every empty pipe takes, also where a user has many of them
_FILE: Final = "configuration_file"


def config_line(config: Any) -> tuple[bytes, int | None]:
    """Return the line, and the number of the file that the child must inherit; None: it is all in the line.

    Args:
        config: JSON value.

    Raises:
        OSError: it is too long, or there is no memory or no number left for a file.
    """
    text = json.dumps(config).encode()
    if len(text) < _PIPE_BYTES:
        return text + b"\n", None
    if len(text) > MOST_CONFIG_BYTES:
        raise OSError(
            f"a configuration of {len(text)} bytes, of which it takes {MOST_CONFIG_BYTES} at most; serve fewer models"
        )
    file = os.memfd_create("cellgate-configuration")
    try:
        with open(file, "wb", closefd=False) as whole:
            whole.write(text)
    except OSError:
        os.close(file)
        raise
    return json.dumps({_FILE: file}).encode() + b"\n", file


def config_of_line(line: bytes) -> Any:
    """Return the configuration that a line holds or names; the file is closed."""
    found = json.loads(line)
    if not isinstance(found, dict) or found.keys() != {_FILE}:
        return found
    with open(found[_FILE], "rb") as whole:  # noqa: PTH123 - it has no path
        whole.seek(0)  # the place in it is shared with whoever wrote it
        return json.loads(whole.read())
