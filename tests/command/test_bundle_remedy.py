"""Where a bundle was expected, the command that makes one is told, and no other refusal is changed."""

import shlex

import pytest

from cellgate.bundle.errors import NotABundleError
from cellgate.bundle.reader import read_bundle
from cellgate.command.bundle_remedy import telling_how_to_make
from cellgate.command.parser import make_parser

FILES = ("x.onnx", "weights.pt", "a b.safetensors", "net.py", "notes.txt")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    return tmp_path


def refusal(folder, text):
    path = folder.relative_to(folder) / text
    with pytest.raises(NotABundleError) as found, telling_how_to_make([folder, path]):
        read_bundle(path)
    return str(found.value)


@pytest.mark.parametrize(
    ("given", "found", "source", "out"),
    [
        ("x.onnx", "a file", "x.onnx", "bundles/x"),
        ("weights.pt", "a file", "weights.pt", "bundles/weights"),
        ("a b.safetensors", "a file", "a b.safetensors", "bundles/a b"),
        ("net.py", "a file", "net.py:FACTORY", "bundles/net"),
        ("net.py:Tagger", "nothing there", "net.py:Tagger", "bundles/net"),
        ("sub/net.py:Tagger", "nothing there", "sub/net.py:Tagger", "bundles/net"),
        ("bundles/tagger", "nothing there", "SOURCE", "bundles/tagger"),
        ("notes.txt", "a file", "SOURCE", "bundles/NAME"),
    ],
)
def test_the_command_that_makes_a_bundle_is_told_and_can_be_copied(folder, given, found, source, out):
    sentence, _, command = refusal(folder, given).partition("; make one first: ")

    assert sentence == f"{given}: expected the folder of a bundle, found: {found}"
    program, *words = shlex.split(command)
    arguments = make_parser().parse(words)
    assert (program, arguments.command, arguments.source, arguments.out) == ("cellgate", "export", source, out)


def test_a_folder_that_is_no_bundle_keeps_its_own_remedy(folder):
    assert "make one first" not in refusal(folder, "empty")


@pytest.mark.parametrize("command", [["predict", "--input", "x.npy"], ["bench"], ["serve", "--port", "0"]])
def test_every_command_that_takes_a_bundle_tells_it(run, folder, command):
    done = run(command[0], "x.onnx", *command[1:])

    assert done.status == 2
    assert done.sentence.endswith("; make one first: cellgate export x.onnx --out bundles/x")


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (["predict", "--input", "x.npy"], "name one of them"),
        (["inspect"], "name one of them"),
        (["verify"], "name one of them"),
        (["bench"], "name one of them"),
        (["serve", "--port", "0"], "name one of them, or the folder with --repository"),
    ],
)
def test_a_folder_of_bundles_is_answered_with_the_options_that_the_command_has(run, folder, command, remedy):
    (folder / "bundles" / "a").mkdir(parents=True)
    (folder / "bundles" / "a" / "manifest.json").write_bytes(b"{}")
    done = run(command[0], "bundles", *command[1:])

    assert done.status == 2
    assert done.sentence == f"bundles: expected a bundle, found no manifest.json in it, but bundles: 'a'; {remedy}"
