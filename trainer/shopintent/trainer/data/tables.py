"""Strict reading of TOML tables: every complaint names the file, the key and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class MappingError(ValueError):
    """A mapping cannot be used; the message names the file, the key and the remedy."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns ' Did you mean "x"?' for the nearest known name, or the known names."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    if nearest:
        return f' Did you mean "{nearest[0]}"?'
    return f" Known: {', '.join(names)}." if names else ""


class Table:
    """One TOML table being read; `finish` complains about keys that nothing asked for."""

    def __init__(self, file: str, path: str, values: dict[str, Any]) -> None:
        self._file = file
        self._path = path
        self._values = values
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def error(self, key: str, problem: str) -> MappingError:
        """Returns the error for a key of this table."""
        where = f"{self._path}.{key}" if self._path else key
        return MappingError(f"{self._file}: {where}: {problem}")

    def text(self, key: str, default: str | None = None, *, required: bool = False) -> str | None:
        """Returns a string; None or the default when the key is absent."""
        value = self._get(key, str, "a text", required)
        if value == "" and required:
            raise self.error(key, "is empty; give a value.")
        return default if value is None else str(value)

    def texts(
        self, key: str, *, required: bool = False, may_be_none: bool = False
    ) -> tuple[str, ...]:
        """Returns one string or a list of them as a tuple; empty when the key is absent."""
        value = self._get(key, (str, list), "a text or a list of texts", required)
        if value is None:
            return ()
        items = [value] if isinstance(value, str) else value
        if not (items or may_be_none) or not all(isinstance(item, str) and item for item in items):
            raise self.error(key, "must be a text or a list of texts, none of them empty.")
        return tuple(items)

    def number(self, key: str, default: float, *, minimum: float = 0.0) -> float:
        """Returns a number not below the minimum."""
        value = self._get(key, (int, float), "a number", False)
        if value is None:
            return default
        if isinstance(value, bool) or value < minimum:
            raise self.error(key, f"must be a number of at least {minimum:g}, not {value!r}.")
        return float(value)

    def integer(self, key: str, default: int, *, minimum: int = 0) -> int:
        """Returns a whole number not below the minimum."""
        value = self._get(key, int, "a whole number", False)
        if value is None:
            return default
        if isinstance(value, bool) or value < minimum:
            raise self.error(key, f"must be a whole number of at least {minimum}, not {value!r}.")
        return int(value)

    def boolean(self, key: str, default: bool) -> bool:
        """Returns true or false."""
        value = self._get(key, bool, "true or false", False)
        return default if value is None else bool(value)

    def table(self, key: str) -> Table | None:
        """Returns a table inside this one; None when the key is absent."""
        value = self._get(key, dict, "a table", False)
        if value is None:
            return None
        return Table(self._file, f"{self._path}.{key}" if self._path else key, value)

    def tables(self, key: str) -> list[Table]:
        """Returns an array of tables, [[key]]; empty when the key is absent."""
        value = self._get(key, list, f"an array of tables, [[{key}]]", False)
        if value is not None and not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"must be an array of tables, [[{key}]].")
        path = f"{self._path}.{key}" if self._path else key
        return [Table(self._file, f"{path}[{i}]", item) for i, item in enumerate(value or [])]

    def items(self) -> dict[str, Any]:
        """Returns everything in a table whose keys are free."""
        self._asked.update(self._values)
        return dict(self._values)

    def finish(self) -> None:
        """Raises MappingError for a key that was never asked for."""
        for key in self._values:
            if key not in self._asked:
                raise self.error(key, f"is not a known key.{did_you_mean(key, self._asked)}")

    def _get(
        self, key: str, kind: type | tuple[type, ...], kind_name: str, required: bool
    ) -> Any | None:
        self._asked.add(key)
        value = self._values.get(key)
        if value is None:
            if required:
                raise self.error(key, f"is missing; give {kind_name}.")
            return None
        if not isinstance(value, kind):
            raise self.error(key, f"must be {kind_name}, not {value!r}.")
        return value
