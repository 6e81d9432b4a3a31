"""The timeout in the text of a JSON head, taken out: heads that differ in nothing else are the same head.

A client that counts the time which it has left sends another number with every request, and each head would have to be
parsed and judged anew.

Rules of this file: pure. Only a whole number that stands there once is taken; whether it is the request's own timeout,
and no other member of that name, shows when the text is read with the number 1 in its place.
"""

import re
from typing import Final

TIMEOUT: Final = b'"timeout"'
STAND_IN_S: Final = 1e-6  # what the text says when the number has been taken
_NUMBER: Final = re.compile(TIMEOUT + rb"[ \t\r\n]*:[ \t\r\n]*([1-9][0-9]{0,14})(?=[ \t\r\n,}])")


def take_timeout(text: bytes) -> tuple[bytes, float] | None:
    """Return the text with a timeout of one microsecond, and the timeout that stood there, in seconds.

    Args:
        text: JSON.

    Returns:
        None where there is no such number, or it stands there twice.
    """
    found = _NUMBER.search(text)
    if found is None or text.count(TIMEOUT) != 1:
        return None
    begin, end = found.span(1)
    return text[:begin] + b"1" + text[end:], int(text[begin:end]) / 1e6
