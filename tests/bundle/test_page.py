"""docs/bundle.md leaves out no field, no file and no error."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from cellgate.bundle import errors
from cellgate.bundle.manifest import FILE_RULES, FORMAT_VERSION, GraphSignature, Manifest, SessionOptions

_PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text()
_FIELDS = [field.name for field in fields(Manifest)] + [f"graph.{field.name}" for field in fields(GraphSignature)]
_ERRORS = [name for name, kind in vars(errors).items() if isinstance(kind, type)]


@pytest.mark.parametrize(
    "name", [*_FIELDS, *(field.name for field in fields(SessionOptions)), *FILE_RULES, *_ERRORS, "SESSION_CONFIG_KEYS"]
)
def test_name_is_on_the_page(name):
    if name == "graph":
        name = "graph.inputs"

    assert f"`{name}`" in _PAGE


def test_version_on_the_page_is_the_current_one():
    assert re.search(r"`format_version` is (\d+)", _PAGE)[1] == str(FORMAT_VERSION)
