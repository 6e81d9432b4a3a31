"""What the folder offers, and that it is loaded on first use."""

import doctest
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from cellgate import client


@pytest.mark.parametrize("name", client.__all__)
def test_every_offered_name_exists(name):
    assert getattr(client, name).__name__ == name
    assert name in dir(client)


def test_offered_names_are_sorted_and_those_of_the_table():
    assert sorted(client.__all__) == client.__all__ == sorted(client._HOME)


def test_every_error_of_the_page_is_offered():
    rows = re.findall(
        r"^\| (`\w+Error`.*?) \|", (Path(__file__).parents[2] / "docs/client.md").read_text(), re.MULTILINE
    )
    named = {name for row in rows for name in re.findall(r"\w+Error", row)}

    assert len(named) == 7
    assert named <= set(client.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'cellgate.client' has no attribute 'Session'"):
        client.Session  # noqa: B018


def test_the_load_generator_needs_no_httpx():
    code = "import sys, cellgate.client.load; sys.exit('httpx' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["Client", "AsyncClient", "Stream"])
def test_without_httpx_the_clients_name_the_extra_that_brings_it(name):
    code = f"import sys; sys.modules['httpx'] = None; from cellgate.client import RetryPolicy, {name}"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    words = 'cellgate.client needs httpx, which is not installed; run pip install "cellgate[client]"'
    assert done.stderr.splitlines()[-1] == f"ModuleNotFoundError: {words}"
    assert done.stderr.count("Traceback") == 1


def test_an_import_that_is_missing_inside_the_folder_stays_what_it_is(monkeypatch):
    monkeypatch.setitem(client._HOME, "Client", "nowhere")

    with pytest.raises(ModuleNotFoundError, match=r"cellgate\.client\.nowhere"):
        client.Client  # noqa: B018


def test_what_the_makefile_installs_has_the_clients_with_it():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()

    (extras,) = re.findall(r"--editable '\.\[([^]]+)\]'", makefile)
    assert "client" in extras.split(",")


@pytest.mark.parametrize("name", ["arrays", "infer_message", "retry", "stream_position"])
def test_examples_in_docstrings_are_true(name):
    found = doctest.testmod(import_module(f"cellgate.client.{name}"))

    assert found.attempted > 0
    assert found.failed == 0
