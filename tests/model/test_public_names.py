"""What the folder offers, and that it is loaded on first use."""

import subprocess
import sys

import pytest

from cellgate import model


@pytest.mark.parametrize("name", model.__all__)
def test_every_offered_name_exists(name):
    assert getattr(model, name).__name__ == name


def test_offered_names_are_sorted_and_those_of_the_table():
    assert sorted(model.__all__) == sorted(model._HOME)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'cellgate.model' has no attribute 'RNNCell'"):
        model.RNNCell  # noqa: B018


def test_importing_the_folder_loads_no_torch():
    code = "import sys, cellgate.model; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
