"""From a manifest and contents to a folder: written beside, read back, then renamed.

Rules of this file: at `out` there is at every moment nothing, the old bundle or the new one, never a half; nothing is
deleted that is not a bundle's file.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from .errors import BundleExistsError, ManifestError, NotABundleError
from .manifest import FILE_RULES, MANIFEST_FILE, FileEntry, Manifest
from .manifest_json import MAX_MANIFEST_BYTES, manifest_to_json
from .plain_file import list_names, open_folder, open_plain, read_whole, write_new
from .reader import check_contents, read_bundle
from .strict_json import parse_json

_PREFIX = ".cellgate-"  # beside the target; a crash may leave one, which hinders nobody and may be deleted


def write_bundle(
    out: Path, manifest_fields: Manifest, contents: Mapping[str, bytes], *, overwrite: bool = False
) -> Manifest:
    """Write a bundle so that a crash leaves no half of one.

    Files are synchronised to the disk in a temporary folder beside `out`, read back as any reader would, and the folder
    is renamed. With overwrite the old bundle is renamed away first: a crash between the two renames leaves nothing at
    `out` and the old bundle whole beside it, as `.cellgate-…-old`.

    Args:
        out: the folder to make; its parent is made where it is missing.
        manifest_fields: everything but `files`, which is computed and may be empty.
        contents: bytes by file name: every required file of FILE_RULES, and optional ones.
        overwrite: replace a bundle that is there. A folder with anything else in it is never touched.

    Returns:
        The manifest as written, `files` filled.

    Raises:
        BundleExistsError: something is at `out`, and overwrite is false.
        NotABundleError: something is at `out` that is not a bundle.
        ManifestError, GraphError, GoldenError: a reader would refuse the result; nothing was written.
        OSError: the disk refuses; nothing is left behind. Should only the parent's last synchronisation fail, the new
            bundle stands and the old one stays beside.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - resolve() would follow a link at `out`, and it must be seen
    manifest = replace(manifest_fields, files=_entries(contents))
    files = {**contents, MANIFEST_FILE: manifest_to_json(manifest)}
    check_contents(manifest, contents)
    out.parent.mkdir(parents=True, exist_ok=True)
    check_target(out, overwrite=overwrite)
    temporary = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=out.parent))
    try:
        _fill(temporary, files)
        written = read_bundle(temporary).manifest
        _publish(temporary, out, overwrite=overwrite)
    except BaseException:
        _remove(temporary)
        raise
    return written


def _entries(contents: Mapping[str, bytes]) -> dict[str, FileEntry]:
    required = {name for name, rule in FILE_RULES.items() if rule.required}
    if not required <= contents.keys() <= FILE_RULES.keys():
        raise ManifestError(
            f"contents: expected {', '.join(sorted(required))} and at most "
            f"{', '.join(sorted(FILE_RULES.keys() - required))}, found {', '.join(sorted(contents)) or 'nothing'}"
        )
    return {
        name: FileEntry(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in contents.items()
    }


def check_target(out: Path, *, overwrite: bool) -> bool:
    """Refuse to replace anything but a bundle; return whether there is one.

    A bundle here is a folder that holds a bundle's names only, manifest.json among them and with a format version:
    damaged ones and those of other versions may be replaced, and no file of anybody else can be lost. Whoever has long
    work to do before writing may ask beforehand.

    Raises:
        BundleExistsError, NotABundleError: as ``write_bundle``.
    """
    if not os.path.lexists(out):
        return False
    if not overwrite:
        raise BundleExistsError(f"{out}: expected nothing there, found something; choose another place or overwrite it")
    try:
        with open_folder(out) as folder:
            strays = set(list_names(folder)) - {MANIFEST_FILE, *FILE_RULES}
            with open_plain(folder, MANIFEST_FILE) as (file, _):
                top = parse_json(read_whole(file, MAX_MANIFEST_BYTES), max_bytes=MAX_MANIFEST_BYTES)
    except FileNotFoundError as err:
        raise NotABundleError(f"{out}: expected a bundle to overwrite, found no {MANIFEST_FILE} in it") from err
    except (OSError, ValueError) as err:
        raise NotABundleError(f"{out}: expected a bundle to overwrite, found: {err}") from err
    if strays or not isinstance(top, dict) or "format_version" not in top:
        found = f"also {min(strays)!r}" if strays else "a manifest.json that is none"
        raise NotABundleError(f"{out}: expected a bundle to overwrite, found {found}; remove it yourself")
    return True


def _fill(temporary: Path, files: Mapping[str, bytes]) -> None:
    with open_folder(temporary) as folder:
        os.fchmod(folder, 0o755)  # mkdtemp makes 0700, and another user may serve what this one exports
        for name, data in files.items():
            write_new(folder, name, data)
        os.fsync(folder)


def _publish(temporary: Path, out: Path, *, overwrite: bool) -> None:
    """Put the folder in its place; an old bundle moves aside first, and back if that fails."""
    old = temporary.with_name(f"{temporary.name}-old")
    replaces = check_target(out, overwrite=overwrite)  # again: writing took its time
    if replaces:
        out.rename(old)
    try:
        temporary.rename(out)
    except BaseException:
        if replaces:
            old.rename(out)
        raise
    with open_folder(out.parent) as parent:
        os.fsync(parent)
    if replaces:
        _remove(old)


def _remove(folder: Path) -> None:
    """Delete a bundle's files and the folder, and nothing else: a stranger's file in it keeps it alive."""
    with suppress(OSError):
        for name in (MANIFEST_FILE, *FILE_RULES):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
