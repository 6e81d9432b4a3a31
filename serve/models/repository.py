"""Where bundles that may be loaded are looked for: the places of the command line, and one folder of bundles.

    FOLDER/ANY/manifest.json        a bundle
    FOLDER/ANY/ANY/manifest.json    likewise, as in FOLDER/NAME/VERSION

Names and versions are the manifests'; those of the folders mean nothing. So nothing that a client says ever becomes
part of a path, and no bundle comes from elsewhere.

Rules of this file: it reads manifests and opens nothing; what lies there is looked at anew at each question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...bundle.errors import BundleError
from ...bundle.manifest import MANIFEST_FILE
from ...bundle.reader import read_manifest
from ..errors import LoadRefused, NotInRepository
from ..start_errors import ServerStartError
from .served_model import BundlePlace


@dataclass(frozen=True, slots=True)
class FoundBundle:
    """A bundle that may be loaded: where it lies, and what its manifest says."""

    place: BundlePlace
    name: str
    version: int


class Repository:
    """The bundles that may be loaded.

    Args:
        places: of the command line.
        folder: of further bundles; None: there are none.
    """

    def __init__(self, places: Sequence[BundlePlace], folder: Path | None = None) -> None:
        self._places = tuple(places)
        self._folder = folder

    def find(self, name: str, version: str | None) -> BundlePlace:
        """Return where a model lies: in the folder, else at its place of the command line.

        Args:
            name: of the model.
            version: None: the highest in the folder, else the one at its place.

        Raises:
            NotInRepository: nowhere.
            LoadRefused: it lies in two folders.
        """
        in_folder = [found for found in self._in_folder() if found.name == name]
        at_place = [found for found in self._at_places() if found.name == name]
        for bundles in (in_folder, at_place):
            fitting = [found for found in bundles if version in (None, str(found.version))]
            if fitting:
                return _only(_highest(fitting)).place
        raise NotInRepository(name, version, sorted({found.version for found in (*in_folder, *at_place)}))

    def newest(self) -> list[BundlePlace]:
        """Return the highest version of each name in the folder, by name.

        Raises:
            ServerStartError: there is no bundle in the folder, or no such folder; one lies in two folders.
        """
        of_name: dict[str, list[FoundBundle]] = {}
        for found in self._in_folder():
            of_name.setdefault(found.name, []).append(found)
        if not of_name:
            there = "none in it" if self._folder is not None and self._folder.is_dir() else "no such folder"
            raise ServerStartError(f"repository {self._folder}: expected a folder of bundles, found {there}")
        try:
            return [_only(_highest(of_name[name])).place for name in sorted(of_name)]
        except LoadRefused as err:
            raise ServerStartError(str(err)) from err

    def _at_places(self) -> Iterator[FoundBundle]:
        for place in self._places:
            yield from _found_at(place)

    def _in_folder(self) -> Iterator[FoundBundle]:
        if self._folder is None:
            return
        for first in _folders_in(self._folder):
            inside = [first] if _has_manifest(first) else _folders_in(first)
            for folder in inside:
                yield from _found_at(BundlePlace(folder))


def _highest(bundles: Sequence[FoundBundle]) -> list[FoundBundle]:
    highest = max(found.version for found in bundles)
    return [found for found in bundles if found.version == highest]


def _only(bundles: Sequence[FoundBundle]) -> FoundBundle:
    """Return the one bundle there is; which of several of one version would be served were chance."""
    first, *others = bundles
    if others:
        folders = " and ".join(str(found.place.path) for found in bundles)
        raise LoadRefused(
            f"model {first.name} version {first.version}",
            "one bundle of it in the repository",
            folders,
            "move one away, or export it with another --model-version",
        )
    return first


def _found_at(place: BundlePlace) -> Iterator[FoundBundle]:
    """Yield the bundle of a place; what is none, or of another format, is passed over."""
    try:
        manifest = read_manifest(place.path)
    except BundleError:
        return
    name = manifest.name if place.name is None else place.name
    yield FoundBundle(BundlePlace(place.path, name), name, manifest.version)


def _has_manifest(folder: Path) -> bool:
    try:
        return (folder / MANIFEST_FILE).exists()
    except OSError:  # it may not be looked into, as `lost+found` of a volume
        return False


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []
