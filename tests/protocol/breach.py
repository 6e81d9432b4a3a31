"""What a server may do after which nothing can be compared: told in one sentence, not as a fault of the kit.

Rules of this file: a breach fails the test that found it; what leaves nothing to ask ends the run.
"""

import pytest

_SHOWN = 200  # characters of an answer that a sentence repeats


def breach(what, expected, found):
    """Fail, and say how the protocol is broken."""
    pytest.fail(f"{what}: expected {expected}, found {shown(found)}", pytrace=False)


def give_up(what, expected, found, remedy):
    """End the run: there is no server, or no model, that could be asked."""
    pytest.exit(f"{what}: expected {expected}, found {shown(found)}; {remedy}", returncode=pytest.ExitCode.USAGE_ERROR)


def shown(found):
    """Return the beginning of what was found, in one line."""
    text = found if isinstance(found, str) else repr(found)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
