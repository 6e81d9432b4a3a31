"""The manifest as JSON bytes, and back: strict in both directions.

Rules of this file: it is pure (no disk). What manifest_to_json returns, manifest_from_json accepts; every record
becomes an object with exactly the record's fields, and None is null.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from .axes import AXIS_PATTERN
from .columns import COLUMN_NAME, VALUES, ColumnSpec
from .errors import ManifestError
from .json_field import JsonField
from .manifest import (
    FILE_RULES,
    FORMAT_VERSIONS,
    NAME_PATTERN,
    SESSION_CONFIG_KEYS,
    VARIANT_FILES,
    WITH_COLUMNS,
    WITH_FEWER_STEPS,
    WITH_LEAST_STEPS,
    WITH_MOST_STEPS,
    DType,
    FileEntry,
    GraphSignature,
    Manifest,
    SessionOptions,
    StatePair,
    TensorSpec,
    Variant,
)
from .manifest_coherence import check_coherence
from .strict_json import StrictJsonError, dump_json, parse_json

MAX_MANIFEST_BYTES = 4 * 2**20
_OPERATOR_PATTERN = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
_MAX_INT32 = 2**31 - 1  # sizes of axes, versions of operator sets, vocabularies


def manifest_to_json(manifest: Manifest) -> bytes:
    """Render the manifest as UTF-8 JSON with sorted keys and a trailing newline; equal manifests give equal bytes.

    Raises:
        ManifestError: manifest_from_json would refuse the result; the message names the field.
    """
    try:
        data = dump_json(_plain_manifest(manifest))
    except StrictJsonError as err:
        raise ManifestError(f"manifest.json: {err}") from err
    manifest_from_json(data)
    return data


def manifest_from_json(data: bytes) -> Manifest:
    """Read a manifest, refusing whatever this version does not know.

    Args:
        data: the bytes of manifest.json, at most MAX_MANIFEST_BYTES.

    Raises:
        ManifestError: no strict JSON (see strict_json), another format version, a field missing, unknown or of the
            wrong form, or fields that contradict each other; the message names the field, expected and found.
    """
    try:
        top = JsonField(parse_json(data, max_bytes=MAX_MANIFEST_BYTES), "")
    except StrictJsonError as err:
        raise ManifestError(f"manifest.json: {err}") from err
    # The version comes first: another version may have other fields, and "unknown field" would mislead.
    version = top.mapping().get("format_version")
    if version is None or type(version.value) is not int or version.value not in FORMAT_VERSIONS:
        found = "none" if version is None else repr(version.value)[:80]
        known = f"{', '.join(map(str, FORMAT_VERSIONS[:-1]))} or {FORMAT_VERSIONS[-1]}"
        raise ManifestError(
            f"manifest.json: format_version: expected {known}, found {found}; export the bundle again "
            "with this version of cellgate, or read it with the one that wrote it"
        )
    manifest = _manifest(top.record(Manifest), version.value)
    check_coherence(manifest)
    if manifest.format_version != version.value:
        expected = f"{manifest.format_version}, the oldest that can say the rest"
        raise ManifestError(f"manifest.json: format_version: expected {expected}, found {version.value}")
    return manifest


def _plain_manifest(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest's fields as its version of the format has them."""
    plain: dict[str, Any] = _plain(manifest)
    if manifest.format_version < WITH_LEAST_STEPS:
        del plain["graph"]["least_steps"]
    if manifest.format_version < WITH_COLUMNS:
        del plain["graph"]["columns"]
    if manifest.format_version < WITH_MOST_STEPS:
        del plain["graph"]["most_steps"]
    return plain


def _plain(value: Any) -> Any:
    """Turn records, mappings and tuples into what the json module renders."""
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(member) for member in value]
    return value


def _manifest(top: dict[str, JsonField], version: int) -> Manifest:
    labels, normalisation = top["labels"], top["normalisation"]
    top["network"].mapping()
    return Manifest(
        name=top["name"].text(NAME_PATTERN),
        version=top["version"].integer(1),
        network=top["network"].value,
        graph=_signature(top["graph"], version),
        opset=top["opset"].integer(1, _MAX_INT32),
        operators=_operators(top["operators"]),
        streamable=top["streamable"].flag(),
        bitwise_rows=top["bitwise_rows"].flag(),
        bitwise_chunks=top["bitwise_chunks"].flag(),
        precision=top["precision"].choice(("float32", "float16")),
        tolerances={name: field.number() for name, field in top["tolerances"].mapping().items()},
        session=_session(top["session"]),
        tools=_texts(top["tools"]),
        files=_files(top["files"]),
        labels=None if labels.value is None else tuple(item.text() for item in labels.items(least=1)),
        normalisation=None if normalisation.value is None else _normalisation(normalisation),
        variants=tuple(_variant(item) for item in top["variants"].items()),
    )


def _variant(field: JsonField) -> Variant:
    member = field.record(Variant)
    return Variant(
        file=member["file"].choice(sorted(VARIANT_FILES)),
        device=member["device"].choice(("cuda",)),
        operators=_operators(member["operators"]),
        bitwise_rows=member["bitwise_rows"].flag(),
        bitwise_chunks=member["bitwise_chunks"].flag(),
    )


def _signature(field: JsonField, version: int) -> GraphSignature:
    names = [field.name for field in dataclasses.fields(GraphSignature)]
    if version < WITH_LEAST_STEPS:
        names.remove("least_steps")
    if version < WITH_COLUMNS:
        names.remove("columns")
    if version < WITH_MOST_STEPS:
        names.remove("most_steps")
    member = field.members(names)
    lengths, vocabulary_size = member["lengths"], member["vocabulary_size"]
    axes = AXIS_PATTERN if version >= WITH_FEWER_STEPS else "[BT]"
    return GraphSignature(
        inputs=tuple(_tensor(item, "[BT]") for item in member["inputs"].items(least=1)),
        outputs=tuple(_tensor(item, axes) for item in member["outputs"].items(least=1)),
        sequence=member["sequence"].text(NAME_PATTERN),
        lengths=None if lengths.value is None else lengths.text(NAME_PATTERN),
        state=tuple(
            StatePair(**{part: name.text(NAME_PATTERN) for part, name in item.record(StatePair).items()})
            for item in member["state"].items()
        ),
        vocabulary_size=None if vocabulary_size.value is None else vocabulary_size.integer(1, _MAX_INT32),
        least_steps=_least_steps(member["least_steps"], version) if "least_steps" in member else 1,
        columns=_columns(member["columns"], version) if "columns" in member else (),
        most_steps=member["most_steps"].integer(1, _MAX_INT32) if "most_steps" in member else None,
    )


def _columns(field: JsonField, version: int) -> tuple[ColumnSpec, ...]:
    return tuple(_column(item) for item in field.items(least=1 if version == WITH_COLUMNS else 0))


def _column(field: JsonField) -> ColumnSpec:
    member = field.record(ColumnSpec)
    return ColumnSpec(
        name=member["name"].text(COLUMN_NAME),
        width=member["width"].integer(1, _MAX_INT32),
        values=member["values"].choice(VALUES),
        counts=tuple(item.integer(1, _MAX_INT32) for item in member["counts"].items()),
    )


def _least_steps(field: JsonField, version: int) -> int:
    return field.integer(2 if version == WITH_LEAST_STEPS else 1, _MAX_INT32)


def _tensor(field: JsonField, axes: str) -> TensorSpec:
    member = field.record(TensorSpec)
    return TensorSpec(
        name=member["name"].text(NAME_PATTERN),
        dtype=member["dtype"].choice(get_args(DType)),
        shape=tuple(
            axis.text(axes) if isinstance(axis.value, str) else axis.integer(1, _MAX_INT32)
            for axis in member["shape"].items(least=1)
        ),
    )


def _operators(field: JsonField) -> tuple[str, ...]:
    names = tuple(item.text(_OPERATOR_PATTERN) for item in field.items(least=1))
    if list(names) != sorted(set(names)):
        field.refuse("operator names sorted, each once")
    return names


def _session(field: JsonField) -> SessionOptions:
    member = field.record(SessionOptions)
    levels: tuple[Literal["disable", "basic", "extended", "all"], ...] = ("disable", "basic", "extended", "all")
    return SessionOptions(
        graph_optimization_level=member["graph_optimization_level"].choice(levels),
        execution_mode=member["execution_mode"].choice(("sequential", "parallel")),
        config=_config(member["config"]),
    )


def _config(field: JsonField) -> dict[str, str]:
    entries = _texts(field)
    for name in entries.keys() - SESSION_CONFIG_KEYS:
        expected = ", ".join(sorted(SESSION_CONFIG_KEYS))
        raise ManifestError(f"manifest.json: {field.place}.{name[:80]}: not an entry for a bundle; expected {expected}")
    return entries


def _texts(field: JsonField) -> dict[str, str]:
    return {name: member.text() for name, member in field.mapping().items()}


def _files(field: JsonField) -> dict[str, FileEntry]:
    """Only known names pass, so no path of the manifest's making ever reaches the disk (`../x`, `/etc/passwd`)."""
    members = field.mapping()
    for name in members.keys() - FILE_RULES.keys():
        raise ManifestError(
            f"manifest.json: files.{name[:80]!r}: expected only {', '.join(FILE_RULES)}; a bundle holds nothing else"
        )
    for name, rule in FILE_RULES.items():
        if rule.required and name not in members:
            raise ManifestError(f"manifest.json: files.{name}: expected the file, found it missing")
    entries = {}
    for name, entry in members.items():
        member = entry.record(FileEntry)
        size_bytes = member["size_bytes"].integer(0, FILE_RULES[name].max_bytes)
        entries[name] = FileEntry(size_bytes=size_bytes, sha256=member["sha256"].text("[0-9a-f]{64}"))
    return entries


def _normalisation(field: JsonField) -> dict[str, tuple[float, ...]]:
    members = field.members(("mean", "std"))
    return {name: tuple(item.number() for item in member.items(least=1)) for name, member in members.items()}
