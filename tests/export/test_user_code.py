"""What code that the caller names sees of the command that runs it, and what it may not change for it."""

import sys
from pathlib import Path

import pytest
import torch

from cellgate.export.source import load_source
from cellgate.model import SequenceModel

from .source_files import GOOD, refusal

pytestmark = pytest.mark.usefixtures("path_as_before")

ARGPARSE = """
import argparse
import sys
from cellgate.model import SequenceModel

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=4)
at_import = parser.parse_args()


def make():
    return SequenceModel(3, at_import.threads, parser.parse_args().threads + 1)


def tells():
    raise ValueError(sys.argv)
"""


@pytest.fixture
def words(monkeypatch):
    words = ["cellgate", "export", "--threads", "2"]
    monkeypatch.setattr(sys, "argv", words)
    return words


def test_a_file_with_a_parser_of_its_own_sees_no_words_of_the_command_line(file, words):
    file.write_text(ARGPARSE, encoding="utf-8")
    network = load_source(f"{file}:make").network

    assert network.describe()["hidden_dim"] == [4]
    assert network.output_dim == 5
    assert sys.argv is words
    assert f"ValueError: ['{file}']" in refusal(f"{file}:tells")
    assert sys.argv is words


@pytest.mark.usefixtures("words")
def test_a_module_sees_no_words_of_the_command_line(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    (file.parent / "parses_of_a_test.py").write_text(ARGPARSE, encoding="utf-8")

    assert load_source("parses_of_a_test:make").network.output_dim == 5
    del sys.modules["parses_of_a_test"]


def test_what_a_file_still_needs_on_its_command_line_is_told(file):
    file.write_text(ARGPARSE.replace("default=4", "required=True"), encoding="utf-8")

    assert "failed to import: it called sys.exit(2); guard what runs with if __name__" in refusal(f"{file}:make")


MOVES = """
import os
from pathlib import Path

os.chdir(Path(__file__).parent / "data")


def moves():
    os.chdir("..")
    return SequenceModel(3, int(Path("data/width.txt").read_text()))


def moves_and_fails():
    os.chdir("/")
    raise ValueError("there")
"""


def test_a_file_that_changes_the_working_folder_moves_no_path_of_the_caller(file, tmp_path, monkeypatch):
    (file.parent / "data").mkdir()
    (file.parent / "data" / "width.txt").write_text("5", encoding="utf-8")
    file.write_text(GOOD + MOVES, encoding="utf-8")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    torch.save(SequenceModel(3, 5).state_dict(), "weights.pt")

    assert load_source(f"{file}:moves", "weights.pt").weights == "weights.pt"
    assert Path.cwd() == here
    assert "failed when called: ValueError: there" in refusal(f"{file}:moves_and_fails")
    assert Path.cwd() == here
    assert "there are: " in refusal(file)
    assert Path.cwd() == here
