"""What would be written inside of a bundle is refused before any work, and the bundle stays as it was."""

import shutil

import pytest

from cellgate.bundle.reader import read_bundle


@pytest.fixture
def copy(classifier, tmp_path):
    return shutil.copytree(classifier.path, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["export", "none.py:none", "--out", "bundle/sub"], "--out bundle/sub"),
        (["export", "none.py:none", "--out", "bundle/sub/deep"], "--out bundle/sub/deep"),
        (["export", "none.py:none", "--out", "link/sub"], "--out link/sub"),
        (["predict", "none", "--input", "none.npy", "--output", "bundle/y.npy"], "--output bundle/y.npy"),
        (["verify", "none", "--source", "none.py:none", "--report", "bundle/report"], "--report bundle/report"),
        (["verify", "none", "--source", "none.py:none", "--report", "bundle"], "--report bundle"),
        (["bench", "none", "--plot", "bundle/p.svg"], "--plot bundle/p.svg"),
        (["bench", "http://127.0.0.1:1", "--plot", "bundle/p.html"], "--plot bundle/p.html"),
    ],
)
def test_nothing_is_written_into_a_bundle(run, copy, tmp_path, monkeypatch, words, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(copy)
    done = run(*words)

    assert done.status == 2
    assert done.out == ""
    assert done.err == (
        f"cellgate: {place}: expected a place outside of any bundle, found it inside of {copy.resolve()}, which no "
        "command can read once anything else lies in it; give a place outside of it\n"
    )
    read_bundle(copy)


def test_beside_a_bundle_and_beside_the_manifest_of_a_web_page_is_a_place(run, copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "page", "start_url": "/"}', encoding="utf-8")
    done = run("predict", "none", "--input", "none.npy", "--output", "y.npy")

    assert "none: expected the folder of a bundle, found: nothing there" in done.err
