"""`cellgate unload`: the same order as `cellgate load`, under its other name."""

from .load_command import run

__all__ = ["run"]
