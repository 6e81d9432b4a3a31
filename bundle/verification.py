"""Records of later checks on other devices: `BUNDLE.verified/<device>.json`, beside the bundle and bound to its digest.

Rules of this file: the bundle itself is never touched. A record of another digest is a record of another bundle, and
is passed over.
"""

import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import VerificationError
from .manifest import NAME_PATTERN
from .plain_file import NotPlainError, list_names, open_folder, open_plain, read_whole, write_new
from .reader import Bundle
from .strict_json import StrictJsonError, dump_json, parse_json

MAX_RECORD_BYTES = 4 * 2**20
_FORMAT_VERSION = 1


def write_verification(bundle: Bundle, device: str, record: Mapping[str, Any]) -> Path:
    """Write what a check found; an older record of the device is replaced in one step.

    Args:
        bundle: as read_bundle gave it.
        device: NAME_PATTERN, for example "cpu" or "cuda".
        record: plain JSON.

    Returns:
        The path of the record.

    Raises:
        VerificationError: the device's name does not fit, or the record is not plain JSON or too long.
        OSError: the disk refuses; an older record stays.
    """
    if re.fullmatch(NAME_PATTERN, device) is None:
        raise VerificationError(f"device {device[:80]!r}: expected a name of the form {NAME_PATTERN}")
    try:
        content = {"format_version": _FORMAT_VERSION, "digest": bundle.digest, "device": device, "record": dict(record)}
        data = dump_json(content)
        parse_json(data, max_bytes=MAX_RECORD_BYTES)
    except StrictJsonError as err:
        raise VerificationError(f"the record for {device}: {err}") from err
    path = _folder(bundle)
    path.mkdir(mode=0o755, exist_ok=True)
    temporary = f".{secrets.token_hex(8)}.tmp"
    with open_folder(path) as folder:
        try:
            write_new(folder, temporary, data)
            os.replace(temporary, f"{device}.json", src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)
    return path / f"{device}.json"


def read_verifications(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return the records that hold for exactly this bundle, by device, sorted.

    Files that are no records by name, leftovers of a crash among them, and records of another digest are passed over.

    Raises:
        VerificationError: a file that is a record by name is none by content, is a link, or cannot be read.
    """
    path = _folder(bundle)
    found: dict[str, dict[str, Any]] = {}
    try:
        with open_folder(path) as folder:
            for name in list_names(folder):
                match = re.fullmatch(rf"({NAME_PATTERN})\.json", name)
                if match is None:
                    continue
                content = _read(folder, name, match[1])
                if content["digest"] == bundle.digest:
                    found[match[1]] = content["record"]
    except FileNotFoundError:
        return found
    except VerificationError as err:
        raise VerificationError(f"{path}: {err}; delete it and verify again") from err
    except OSError as err:
        raise VerificationError(f"{path}: expected a folder of records, found: {err}") from err
    return found


def _folder(bundle: Bundle) -> Path:
    return bundle.path.with_name(bundle.path.name + ".verified")


def _read(folder: int, name: str, device: str) -> dict[str, Any]:
    try:
        with open_plain(folder, name) as (file, _):
            content = parse_json(read_whole(file, MAX_RECORD_BYTES), max_bytes=MAX_RECORD_BYTES)
    except (NotPlainError, StrictJsonError) as err:
        raise VerificationError(f"{name}: expected a record, found: {err}") from err
    expected = {"device": device, "format_version": _FORMAT_VERSION}
    if (
        not isinstance(content, dict)
        or content.keys() != {*expected, "digest", "record"}
        or any(type(content[key]) is not type(value) or content[key] != value for key, value in expected.items())
        or not isinstance(content["digest"], str)
        or not isinstance(content["record"], dict)
    ):
        raise VerificationError(f"{name}: expected a record with {expected}, a digest and a record")
    return content
