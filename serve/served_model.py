"""Bundles that are being served, by name and version: what the frontends know of them. No runtime.

Rules of this file: whoever opens the runtimes (`engine.models`) makes the records from what it proved; a frontend in
another process makes the same records from the bundle on the disk and from what the engine says (`hello_entry`), and
refuses where the two are not of one bundle.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..bundle.manifest import NAME_PATTERN, Manifest
from ..bundle.reader import Bundle, read_bundle
from .errors import NameConflictError, ServerStartError, UnknownModel, shown
from .example_request import example_request
from .golden_check import GoldenResult, OutputError
from .runtime import RuntimeFacts
from .verification_state import NOT_ASKED, VerificationState


@dataclass(frozen=True, slots=True)
class BundlePlace:
    """Where a bundle lies and under which name to serve it; no name means the manifest's."""

    path: Path
    name: str | None = None


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
        ServerStartError: the name is none.
    """
    bundle = read_bundle(place.path)
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
    identity = {"name": model.name, "version": model.version, "digest": model.digest}
    verification = asdict(model.verification)
    return {**identity, "facts": asdict(model.facts), "golden": golden, "verification": verification}


def served_model_from_hello(place: BundlePlace, entry: Mapping[str, Any]) -> ServedModel:
    """Return the record of a model that an engine in another process has opened.

    Args:
        place: where the engine read it.
        entry: of `hello_entry`, through JSON or not.

    Raises:
        BundleError: the bundle is damaged or gone.
        ServerStartError: another bundle lies there now, or it is served under another name.
    """
    read = read_served_bundle(place)
    found = {"name": read.name, "version": str(read.bundle.manifest.version), "digest": read.bundle.digest}
    for key, value in found.items():
        if value != entry[key]:
            remedy = "the bundle was replaced meanwhile: start again"
            found_words = f"expected the {key} {entry[key]} of the engine, found {value}"
            raise ServerStartError(f"{place.path}: {found_words}; {remedy}")
    facts, verification = RuntimeFacts.from_plain(entry["facts"]), VerificationState(**entry["verification"])
    return make_served_model(read, facts, _golden_of(entry["golden"]), verification)


def _golden_of(entry: Mapping[str, Any]) -> GoldenResult:
    outputs = tuple(OutputError(**{**output, "index": tuple(output["index"])}) for output in entry["outputs"])
    return GoldenResult(passed=True, cases=entry["cases"], outputs=outputs, problems=tuple(entry["problems"]))


class ModelTable:
    """Served models by name, each in one version.

    Args:
        models: with unique names.
    """

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self._models = {model.name: model for model in models}

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """All models, in the order of the command line."""
        return tuple(self._models.values())

    def find(self, name: str, version: str | None) -> ServedModel:
        """Return the model of this name, and version where one is asked for.

        Raises:
            UnknownModel: there is none.
        """
        model = self._models.get(name)
        if model is None or version not in (None, model.version):
            served = ", ".join(f"{model.name} version {model.version}" for model in self._models.values())
            raise UnknownModel(name, version, served)
        return model
