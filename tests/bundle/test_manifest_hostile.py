"""Hostile manifests in bundles that are valid otherwise: bounded before they are parsed, of one version and meaning."""

import json
import os

import pytest

from cellgate.bundle.errors import ManifestError, NotABundleError
from cellgate.bundle.manifest_json import MAX_MANIFEST_BYTES
from cellgate.bundle.reader import read_bundle

_HEX = "0" * 64


def test_huge_manifest(forge):
    """Valid JSON of 5 MiB, and a sparse file of a terabyte."""
    path = forge(edit=lambda top: top["network"].update(padding="x" * MAX_MANIFEST_BYTES))
    with pytest.raises(ManifestError, match="expected at most 4194304 bytes"):
        read_bundle(path)

    os.truncate(path / "manifest.json", 2**40)
    with pytest.raises(ManifestError, match=f"found {2**40}"):
        read_bundle(path)


def test_deep_manifest(forge):
    """A parser that recurses would end the process, not raise."""
    path = forge()
    (path / "manifest.json").write_bytes(b'{"network":' + b"[" * 100_000 + b"]" * 100_000 + b"}")

    with pytest.raises(ManifestError, match="at most 32 levels"):
        read_bundle(path)


@pytest.mark.parametrize("version", [0, 1, 8, "2", None, 2.0, True])
def test_unknown_version(forge, version):
    with pytest.raises(ManifestError, match="format_version: expected 2, 3, 4, 5, 6 or 7"):
        read_bundle(forge(edit=lambda top: top.update(format_version=version)))


def test_duplicate_key(forge):
    """Two readers may keep different ones: one checks the first digest, the other loads by the second."""
    path = forge()
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"sha256"', f'"sha256": "{_HEX}", "sha256"', 1))

    with pytest.raises(ManifestError, match="'sha256' twice"):
        read_bundle(path)


def test_truncated_manifest(forge):
    path = forge()
    os.truncate(path / "manifest.json", (path / "manifest.json").stat().st_size // 2)

    with pytest.raises(ManifestError, match="expected UTF-8 JSON"):
        read_bundle(path)


def test_empty_manifest(forge):
    path = forge()
    os.truncate(path / "manifest.json", 0)

    with pytest.raises(ManifestError):
        read_bundle(path)


def test_no_manifest(forge):
    path = forge()
    (path / "manifest.json").unlink()

    with pytest.raises(NotABundleError, match=r"no manifest\.json"):
        read_bundle(path)


@pytest.mark.parametrize(
    "key", ["session.optimized_model_filepath", "ep.context_file_path", "session.collect_node_memory_stats_to_file"]
)
def test_option_of_the_runtime_that_writes_a_file(forge, key):
    """The runtime would write wherever the bundle says, with the server's rights."""
    with pytest.raises(ManifestError, match="not an entry for a bundle"):
        read_bundle(forge(edit=lambda top: top["session"]["config"].update({key: "/tmp/x"})))


def test_error_text_stays_short(forge):
    """A name of a megabyte is not echoed into a log."""
    path = forge(edit=lambda top: top.update({"x" * 2**20: 1, "name": "y" * 2**20}))

    with pytest.raises(ManifestError) as caught:
        read_bundle(path)

    assert len(str(caught.value)) < 2000


def test_manifest_json_is_what_the_digest_names(forge):
    """Whitespace changes the digest: two manifests never share one, however alike they read."""
    path = forge()
    first = read_bundle(path).digest
    (path / "manifest.json").write_text(json.dumps(json.loads((path / "manifest.json").read_text()), indent=1))

    assert read_bundle(path).digest != first
