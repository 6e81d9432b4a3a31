"""The served models as a frontend looks them up: by name, and by version where one is asked for.

Rules of this file: pure. A table is never changed: whoever has a newer one puts it in the place of the old.
"""

from collections.abc import Iterable

from ..errors import UnknownModel
from .served_model import ServedModel


class ModelTable:
    """Served models by name: one version is current, and those that it replaced stay while streams go on in them.

    Args:
        models: the current ones, with unique names.
        retired: replaced or unloaded ones; each name and version is there once.
    """

    def __init__(self, models: Iterable[ServedModel], retired: Iterable[ServedModel] = ()) -> None:
        self._models = {model.name: model for model in models}
        self._retired = {model.key: model for model in retired}

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """The current models, in the order of the command line and of loading."""
        return tuple(self._models.values())

    @property
    def retired(self) -> tuple[ServedModel, ...]:
        """The versions that take no new streams any more."""
        return tuple(self._retired.values())

    def find(self, name: str, version: str | None) -> ServedModel:
        """Return the model of this name, the current one where no version is asked for.

        Raises:
            UnknownModel: there is none.
        """
        model = self._models.get(name)
        if model is not None and version in (None, model.version):
            return model
        retired = None if version is None else self._retired.get(f"{name}/{version}")
        if retired is None:
            key = name if version is None else f"{name}/{version}"
            raise unknown_model(key, self.models)
        return retired

    def any_of(self, name: str) -> ServedModel:
        """Return the current version of a name, or the newest of those that were retired: streams may live in it.

        Raises:
            UnknownModel: there is none.
        """
        found = (model for model in (*self.models, *reversed(self.retired)) if model.name == name)
        return next(found, None) or self.find(name, None)

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the versions of a name that can be asked for, the current one first."""
        current = self._models.get(name)
        retired = [model.version for model in self._retired.values() if model.name == name]
        return (*(() if current is None else (current.version,)), *retired)

    def with_digest(self, name: str, digest: str) -> ServedModel | None:
        """Return the version of a name that is this bundle."""
        found = (model for model in (*self.models, *self.retired) if model.name == name and model.digest == digest)
        return next(found, None)


def unknown_model(key: str, served: Iterable[ServedModel]) -> UnknownModel:
    """Return the error that a name, or a name and a version, is not served.

    Args:
        key: as of `ServedModel.key`, or a name.
        served: what can be asked for.
    """
    name, sign, version = key.partition("/")
    words = ", ".join(f"{model.name} version {model.version}" for model in served) or "no model"
    return UnknownModel(name, version if sign else None, words)
