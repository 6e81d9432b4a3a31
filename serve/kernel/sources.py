"""The CUDA sources that lie in this folder."""

from importlib import resources


def source(name: str) -> str:
    """Return a file's text."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
