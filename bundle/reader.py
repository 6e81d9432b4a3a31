"""From a folder to a bundle in memory, every byte checked before anybody uses it.

Rules of this file: bytes are read once, hashed, and the hashed bytes are handed on, so nothing on the disk can change
in between. Refusal is the rule: what the manifest does not list must not be there.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .errors import BundleError, DigestError, GraphError, ManifestError, NotABundleError, StrayFileError
from .golden import GoldenCase, unpack_golden
from .graph_check import check_agreement, check_graph
from .manifest import MANIFEST_FILE, VARIANT_FILES, FileEntry, Manifest
from .manifest_json import MAX_MANIFEST_BYTES, manifest_from_json
from .plain_file import NotPlainError, hash_chunks, list_names, open_folder, open_plain, read_whole

INSTEAD: Final = "name one of them"
"""How the refusal of a folder of bundles ends, for who takes such a folder in another way."""
_KEPT = frozenset(
    {"model.onnx", "golden.safetensors", *VARIANT_FILES}
)  # the rest is for people; model.ts is code and stays on the disk


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A bundle whose every file was checked.

    Attributes:
        path: the folder, absolute, without links.
        manifest: what the bundle says about itself.
        digest: sha-256 of manifest.json, 64 hex digits; as the manifest holds the other digests, it names the whole.
        model: the bytes of model.onnx; give these to the runtime, never the file.
        golden: inputs and expected outputs, sorted by id.
        variants: the bytes of the manifest's variants, by file name.
    """

    path: Path
    manifest: Manifest
    digest: str
    model: bytes
    golden: tuple[GoldenCase, ...]
    variants: Mapping[str, bytes] = field(default_factory=dict)

    def graph_for(self, device: str) -> tuple[str, bytes]:
        """Return the file name and the bytes of the graph that a device runs."""
        for variant in self.manifest.variants:
            if variant.device == device:
                return variant.file, self.variants[variant.file]
        return "model.onnx", self.model


def read_bundle(path: Path) -> Bundle:
    """Read a bundle, or say why it is none.

    The path itself may lead through links, for it is the caller's; inside the folder nothing may be one.

    Raises:
        NotABundleError: missing, cannot be read, not a folder, or without manifest.json.
        ManifestError: see manifest_json.
        StrayFileError: something beside the listed files, or one that is not a plain file with one name.
        DigestError: a listed file is missing, or its size or sha-256 differs.
        GraphError: model.onnx holds what serving refuses, or is not what the manifest says.
        GoldenError: the golden cases do not fit the signature.
    """
    try:
        resolved = Path(path).resolve(strict=True)
        with open_folder(resolved) as folder:
            return _read(resolved, folder)
    except BundleError as err:
        raise type(err)(f"{path}: {err}") from err
    except (OSError, RuntimeError, ValueError) as err:  # the last two: a loop of links, and a NUL in the path
        raise NotABundleError(f"{path}: expected the folder of a bundle, found: {_words_of(err)}") from err


def read_manifest(path: Path) -> Manifest:
    """Read what a bundle says about itself, and nothing else: no other file of it is looked at.

    Raises:
        NotABundleError, ManifestError: as read_bundle.
    """
    try:
        with open_folder(Path(path).resolve(strict=True)) as folder:
            return manifest_from_json(_read_manifest(folder))
    except BundleError as err:
        raise type(err)(f"{path}: {err}") from err
    except (OSError, RuntimeError, ValueError) as err:
        raise NotABundleError(f"{path}: expected the folder of a bundle, found: {_words_of(err)}") from err


def check_contents(manifest: Manifest, contents: Mapping[str, bytes]) -> tuple[GoldenCase, ...]:
    """Hold model.onnx, its variants and golden.safetensors against the manifest; reader and writer do it alike.

    Returns:
        The golden cases.

    Raises:
        GraphError, GoldenError: as read_bundle.
    """
    check_agreement(check_graph(contents["model.onnx"], manifest.operators), manifest)
    for variant in manifest.variants:
        try:
            check_agreement(check_graph(contents[variant.file], variant.operators), manifest)
        except GraphError as err:
            raise GraphError(f"{variant.file}: {err}") from err
    return unpack_golden(contents["golden.safetensors"], manifest.graph)


def _read(path: Path, folder: int) -> Bundle:
    data = _read_manifest(folder)
    manifest = manifest_from_json(data)
    for name in list_names(folder):
        if name != MANIFEST_FILE and name not in manifest.files:
            raise StrayFileError(f"{name[:255]!r}: expected only the files in the manifest; move it elsewhere")
    kept = {name: _read_listed(folder, name, entry) for name, entry in manifest.files.items()}
    contents = {name: content for name, content in kept.items() if content is not None}
    return Bundle(
        path=path,
        manifest=manifest,
        digest=hashlib.sha256(data).hexdigest(),
        model=contents["model.onnx"],
        golden=check_contents(manifest, contents),
        variants={name: contents[name] for name in VARIANT_FILES & contents.keys()},
    )


def _read_manifest(folder: int) -> bytes:
    try:
        with open_plain(folder, MANIFEST_FILE) as (file, size_bytes):
            if size_bytes > MAX_MANIFEST_BYTES:
                raise ManifestError(f"{MANIFEST_FILE}: expected at most {MAX_MANIFEST_BYTES} bytes, found {size_bytes}")
            return read_whole(file, MAX_MANIFEST_BYTES)
    except NotPlainError as err:
        raise StrayFileError(f"{MANIFEST_FILE}: expected a plain file, found {err}") from err
    except FileNotFoundError as err:
        inside = [name for name in list_names(folder) if _is_bundle(folder, name)]
        more = f", but bundles: {', '.join(map(repr, inside[:3]))}; {INSTEAD}"
        raise NotABundleError(f"expected a bundle, found no {MANIFEST_FILE} in it{more if inside else ''}") from err


def _is_bundle(folder: int, name: str) -> bool:
    return os.access(f"{name}/{MANIFEST_FILE}", os.F_OK, dir_fd=folder)


def _words_of(error: Exception) -> str:
    """Say what was found in the place of a bundle's folder, or which file of it could not be read."""
    if isinstance(error, FileNotFoundError):
        return "nothing there"
    if isinstance(error, NotADirectoryError):
        return "a file"
    return f"{error.strerror}: {error.filename!r}" if isinstance(error, OSError) and error.filename else str(error)


def _read_listed(folder: int, name: str, entry: FileEntry) -> bytes | None:
    """Check one file; return its bytes where somebody needs them."""
    try:
        with open_plain(folder, name) as (file, size_bytes):
            _compare(name, "bytes", entry.size_bytes, size_bytes)
            if name not in _KEPT:
                content = None
                count, digest = hash_chunks(file, entry.size_bytes)
            else:
                content = read_whole(file, entry.size_bytes)
                count, digest = len(content), hashlib.sha256(content).hexdigest()
    except NotPlainError as err:
        raise StrayFileError(f"{name}: expected a plain file of its own, found {err}; copy the bundle anew") from err
    except FileNotFoundError as err:
        raise DigestError(f"{name}: expected the file, found it missing; copy the bundle anew") from err
    _compare(name, "bytes", entry.size_bytes, count)
    _compare(name, "sha-256", entry.sha256, digest)
    return content


def _compare(name: str, what: str, expected: object, found: object) -> None:
    if expected != found:
        raise DigestError(f"{name}: expected {what} {expected}, found {found}; copy the bundle anew or export it again")
