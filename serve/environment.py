"""Settings as environment variables say them: `CELLGATE_` and a setting's name in capitals.

Rules of this file: the environment is an argument, never read here; which values are allowed is `settings`' to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, Final

from .settings import FLAGS, PREFIX, RANGES, Settings, SettingsError

_FLAG_WORDS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_NEAR: Final = 0.88  # of 1: WORKER is WORKERS and GRCP_PORT is GRPC_PORT, but GPU_PORT is docker-compose's


def settings_from_env(environ: Mapping[str, str], **given: Any) -> Settings:
    """Return settings from `CELLGATE_…` variables, overruled by what the caller gives.

    Args:
        environ: usually os.environ; foreign names and empty values are ignored.
        given: settings by name, as from a command line; None means not given.

    Raises:
        SettingsError: a value has the wrong form or lies outside its range.
    """
    found: dict[str, Any] = {}
    for field in fields(Settings):
        text = environ.get(PREFIX + field.name.upper(), "")
        if text:
            found[field.name] = _from_text(field.name, text)
    found.update({name: value for name, value in given.items() if value is not None})
    return Settings(**found)


def misspelt_variables(environ: Mapping[str, str], more: Sequence[str] = ()) -> list[str]:
    """Return what to tell of variables that are no setting and nearly have the name of one.

    Others with the prefix are left alone: Kubernetes makes some, docker-compose takes some.

    Args:
        environ: usually os.environ.
        more: names that the caller reads as it reads settings.
    """
    settings = [name.upper() for name in (*(field.name for field in fields(Settings)), *more)]
    words = sorted(name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX))
    meant = [(word, _nearest(word, settings)) for word in words if word not in settings]
    return [f"{PREFIX}{word} is no setting; {PREFIX}{found} is one" for word, found in meant if found]


def parse_flag(name: str, text: str) -> bool:
    """Read true or false.

    Raises:
        SettingsError: it is neither; says what `name` is called in the environment.
    """
    if text.lower() not in _FLAG_WORDS:
        raise SettingsError(name, "true or false", text)
    return _FLAG_WORDS[text.lower()]


def _nearest(word: str, settings: Sequence[str]) -> str | None:
    """Return the setting that was most likely meant. In a short name, one slip is too much for a share of letters."""
    slips = [name for name in settings if _is_one_slip(word, name)]
    return next(iter(slips or get_close_matches(word, settings, 1, _NEAR)), None)


def _is_one_slip(word: str, name: str) -> bool:
    """Whether one letter is missing, too many, another, or in another place: without one letter they are alike."""
    return not {word, *_without_one(word)}.isdisjoint({name, *_without_one(name)})


def _without_one(word: str) -> set[str]:
    return {word[:place] + word[place + 1 :] for place in range(len(word))}


def _from_text(name: str, text: str) -> str | int | float | bool:
    """Numbers are the settings that have a range; those in seconds may have a fraction."""
    if name in FLAGS:
        return parse_flag(name, text)
    if name not in RANGES:
        return text
    try:
        return float(text) if name.endswith("_s") else int(text)
    except ValueError as err:
        low, high = RANGES[name]
        raise SettingsError(name, f"a number in {low} .. {high}", text) from err
