"""A value inside the manifest's JSON together with its place, so that every refusal can name it.

Rules of this file: each method checks one form and returns it typed, or raises; nothing is converted or guessed.
"""

import re
import reprlib
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Never

from .errors import ManifestError

MAX_TEXT = 4096  # characters; no name, label or version of a tool is longer


@dataclass(frozen=True, slots=True)
class JsonField:
    """One value of parsed JSON and its place, such as `graph.inputs[0].dtype`."""

    value: Any
    place: str

    def refuse(self, expected: str) -> Never:
        """Raise the one kind of error this file knows: place, expected, found."""
        found = reprlib.repr(self.value)  # bounded, whatever the value
        raise ManifestError(f"manifest.json: {self.place or 'the top'}: expected {expected}, found {found}")

    def record(self, kind: type) -> dict[str, "JsonField"]:
        """Return the members of an object that has exactly the fields of the dataclass `kind`."""
        return self.members([field.name for field in fields(kind)])

    def members(self, names: Collection[str]) -> dict[str, "JsonField"]:
        """Return the members of an object that has exactly these keys."""
        found = self.mapping()
        for name in names:
            if name not in found:
                raise ManifestError(f"manifest.json: {self._at(name)}: expected the field, found it missing")
        for name in found.keys() - set(names):
            expected = ", ".join(sorted(names))
            raise ManifestError(f"manifest.json: {self._at(name[:80])}: unknown field; expected only {expected}")
        return found

    def mapping(self) -> dict[str, "JsonField"]:
        """Return the members of an object with any keys."""
        if not isinstance(self.value, dict):
            self.refuse("an object")
        return {key: JsonField(value, self._at(key[:80])) for key, value in self.value.items()}

    def items(self, least: int = 0) -> list["JsonField"]:
        """Return the elements of an array with at least so many."""
        if not isinstance(self.value, list) or len(self.value) < least:
            self.refuse(f"an array of at least {least} elements" if least else "an array")
        return [JsonField(value, f"{self.place}[{index}]") for index, value in enumerate(self.value)]

    def text(self, pattern: str = r"(?s).*") -> str:
        """Return a string that the pattern matches as a whole."""
        if not isinstance(self.value, str) or len(self.value) > MAX_TEXT or re.fullmatch(pattern, self.value) is None:
            self.refuse(f"a string of the form {pattern}, at most {MAX_TEXT} characters")
        return self.value

    def integer(self, low: int, high: int = 2**63 - 1) -> int:
        """Return an integer in low .. high; true and 1.0 are none."""
        if type(self.value) is not int or not low <= self.value <= high:
            self.refuse(f"an integer in {low} .. {high}")
        return self.value

    def number(self) -> float:
        """Return a finite number as float; an integer will do, true will not."""
        if type(self.value) is int and abs(self.value) <= 2**53:
            return float(self.value)
        if type(self.value) is not float:
            self.refuse("a number")
        return self.value

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            self.refuse("true or false")
        return self.value

    def choice(self, choices: Collection[Any]) -> Any:
        """Return one of the given strings."""
        if not isinstance(self.value, str) or self.value not in choices:
            self.refuse("one of " + ", ".join(map(str, choices)))
        return self.value

    def _at(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name
