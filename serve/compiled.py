"""Whether the modules on a request's way are compiled ones (`setup.py`), or Python's.

Rules of this file: it imports none of them.
"""

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec


def is_compiled() -> bool:
    """Return whether the engine that is imported here is a compiled one; all of them are, or none is."""
    found = find_spec(".engine.engine", __package__)
    return found is not None and str(found.origin).endswith(tuple(EXTENSION_SUFFIXES))
