"""Bundles that are being served, by name and version: opened, checked against their golden cases, closed.

Rules of this file: a bundle is served only after this machine reproduced its golden cases; either every bundle opens or
none stays open.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bundle.manifest import NAME_PATTERN, Manifest
from ..bundle.reader import read_bundle
from .device_choice import open_runtime
from .errors import GoldenMismatchError, NameConflictError, ServerStartError, UnknownModel, shown
from .example_request import example_request
from .golden_check import GoldenResult, check_golden
from .runtime import Runtime
from .settings import Settings


@dataclass(frozen=True, slots=True)
class BundlePlace:
    """Where a bundle lies and under which name to serve it; no name means the manifest's."""

    path: Path
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """One bundle, open and proved.

    Attributes:
        name: under which it is served.
        version: the manifest's, as text.
        manifest: what the bundle says about itself.
        digest: sha-256 of its manifest, which names the bundle.
        runtime: open; closed by whoever opened the model.
        golden: what the golden check found.
        example: a request body that works.
    """

    name: str
    version: str
    manifest: Manifest
    digest: str
    runtime: Runtime
    golden: GoldenResult
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


def open_model(place: BundlePlace, settings: Settings) -> ServedModel:
    """Read a bundle, open its graph and run its golden cases.

    Raises:
        BundleError: the bundle is damaged or none.
        ServerStartError: the name is none, the device does not work, or the golden cases are not reproduced.
    """
    bundle = read_bundle(place.path)
    name = bundle.manifest.name if place.name is None else place.name
    if not re.fullmatch(NAME_PATTERN, name):
        raise ServerStartError(f"model name: expected {NAME_PATTERN}, found {shown(name)}; rename it with NAME=PATH")
    runtime = open_runtime(bundle, device=settings.device, threads=settings.threads)
    golden = check_golden(runtime, bundle)
    if not golden.passed:
        runtime.close()
        raise GoldenMismatchError(name, golden.summary())
    return ServedModel(
        name=name,
        version=str(bundle.manifest.version),
        manifest=bundle.manifest,
        digest=bundle.digest,
        runtime=runtime,
        golden=golden,
        example=example_request(bundle.manifest.graph, bundle.golden),
    )


def open_models(places: Sequence[BundlePlace], settings: Settings) -> list[ServedModel]:
    """Open every bundle, or close those already open and raise.

    Raises:
        BundleError, ServerStartError: as `open_model`; no bundle at all; two bundles of one name.
    """
    if not places:
        raise ServerStartError("bundles: expected at least one, found none; give PATH or NAME=PATH")
    models: list[ServedModel] = []
    with ExitStack() as opened:
        for place in places:
            model = open_model(place, settings)
            opened.callback(model.runtime.close)
            models.append(model)
            same = [str(places[index].path) for index, other in enumerate(models) if other.name == model.name]
            if len(same) > 1:
                raise NameConflictError(model.name, " and ".join(same))
        opened.pop_all()
    return models


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

    def close(self) -> None:
        """Close every runtime, the last opened first."""
        for model in reversed(self.models):
            model.runtime.close()
