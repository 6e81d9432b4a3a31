"""Bundles that are being served, by name and version: what the frontends know of them. No runtime.

Rules of this file: whoever opens the runtimes (`engine.models`) makes the records from what it proved; a frontend in
another process makes the same records from what the engine says (`hello_entry`), and opens no bundle itself: what lies
on the disk may have been replaced meanwhile.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...bundle.manifest import NAME_PATTERN, Manifest
from ...bundle.manifest_json import manifest_from_json, manifest_to_json
from ...bundle.reader import Bundle, read_bundle
from ..errors import shown
from ..runtime.golden_check import GoldenResult, OutputError
from ..runtime.runtime import RuntimeFacts
from ..start_errors import BundleReplacedError, NameConflictError, ServerStartError
from .example_request import example_request
from .verification_state import NOT_ASKED, VerificationState


@dataclass(frozen=True, slots=True)
class BundlePlace:
    """Where a bundle lies, and what it is to be.

    Attributes:
        path: of its folder.
        name: under which to serve it; None: the manifest's.
        digest: of the bundle that must lie there; None: whichever does.
    """

    path: Path
    name: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class ServedBundle:
    """A bundle as it was read, every digest checked, and the name under which to serve it."""

    name: str
    bundle: Bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """One bundle, proved on this machine.

    Attributes:
        name: under which it is served.
        version: the manifest's, as text.
        manifest: what the bundle says about itself.
        digest: sha-256 of its manifest, which names the bundle.
        facts: of the runtime that runs it.
        golden: what the golden check found.
        verification: whether it was verified on this kind of device before.
        example: a request body that works.
    """

    name: str
    version: str
    manifest: Manifest
    digest: str
    facts: RuntimeFacts
    golden: GoldenResult
    verification: VerificationState = NOT_ASKED
    example: dict[str, Any] = field(repr=False)

    @property
    def key(self) -> str:
        """Name and version in one word; a name alone means the version that is current."""
        return f"{self.name}/{self.version}"


def parse_place(text: str) -> BundlePlace:
    """Read `PATH` or `NAME=PATH`, as it stands on the command line.

    What stands before the first `=` is a name only if it could be one, so that `./a=b` is a path.

    Raises:
        ServerStartError: no path.
    """
    name, sign, path = text.partition("=")
    if not sign or not re.fullmatch(NAME_PATTERN, name):
        name, path = "", text
    if not path:
        raise ServerStartError(f"bundle: expected PATH or NAME=PATH, found {shown(text)}")
    return BundlePlace(Path(path), name or None)


def read_served_bundle(place: BundlePlace) -> ServedBundle:
    """Read a bundle and settle its name.

    Raises:
        BundleError: the bundle is damaged or none.
        BundleReplacedError: another one lies there than must.
        ServerStartError: the name is none.
    """
    bundle = read_bundle(place.path)
    if place.digest not in (None, bundle.digest):
        raise BundleReplacedError(str(place.path))
    name = bundle.manifest.name if place.name is None else place.name
    if not re.fullmatch(NAME_PATTERN, name):
        raise ServerStartError(f"model name: expected {NAME_PATTERN}, found {shown(name)}; rename it with NAME=PATH")
    return ServedBundle(name, bundle)


def read_served_bundles(places: Sequence[BundlePlace]) -> list[ServedBundle]:
    """Read every bundle, before any of them is opened.

    Raises:
        BundleError, ServerStartError: as `read_served_bundle`; no bundle at all; two bundles of one name.
    """
    if not places:
        raise ServerStartError("bundles: expected at least one, found none; give PATH or NAME=PATH")
    found = [read_served_bundle(place) for place in places]
    for index, one in enumerate(found):
        same = [str(places[other].path) for other in range(index + 1) if found[other].name == one.name]
        if len(same) > 1:
            raise NameConflictError(one.name, " and ".join(same))
    return found


def make_served_model(
    read: ServedBundle, facts: RuntimeFacts, golden: GoldenResult, verification: VerificationState = NOT_ASKED
) -> ServedModel:
    """Return the record of a bundle that a runtime opened and reproduced."""
    manifest = read.bundle.manifest
    return ServedModel(
        name=read.name,
        version=str(manifest.version),
        manifest=manifest,
        digest=read.bundle.digest,
        facts=facts,
        golden=golden,
        verification=verification,
        example=example_request(manifest.graph, read.bundle.golden),
    )


def hello_entry(model: ServedModel) -> dict[str, Any]:
    """Return what another process must be told of a model, as plain JSON values."""
    golden = asdict(model.golden)
    del golden["passed"]  # of a served model it is true
    return {
        "name": model.name,
        "version": model.version,
        "digest": model.digest,
        "manifest": manifest_to_json(model.manifest).decode(),
        "facts": asdict(model.facts),
        "golden": golden,
        "verification": asdict(model.verification),
        "example": model.example,
    }


def served_model_from_hello(entry: Mapping[str, Any]) -> ServedModel:
    """Return the record of a model that an engine in another process has opened.

    Args:
        entry: of `hello_entry`, through JSON or not.
    """
    return ServedModel(
        name=entry["name"],
        version=entry["version"],
        manifest=manifest_from_json(entry["manifest"].encode()),
        digest=entry["digest"],
        facts=RuntimeFacts.from_plain(entry["facts"]),
        golden=_golden_of(entry["golden"]),
        verification=VerificationState(**entry["verification"]),
        example=entry["example"],
    )


def _golden_of(entry: Mapping[str, Any]) -> GoldenResult:
    outputs = tuple(OutputError(**{**output, "index": tuple(output["index"])}) for output in entry["outputs"])
    return GoldenResult(passed=True, cases=entry["cases"], outputs=outputs, problems=tuple(entry["problems"]))
