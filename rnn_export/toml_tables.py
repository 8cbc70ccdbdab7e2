"""Tables of a TOML file, asked key by key; a mistake is named with its line and with what is allowed."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rnn_export.errors import UsageError

SEE = "docs/ci.md has an example"
MOST = 10**6  # of any number: more is a mistake


class Table:
    """One table of the file, asked key by key; what nobody asked for is a mistake."""

    def __init__(self, file: Path, name: str, index: int, values: Mapping[str, Any]) -> None:
        self.file, self.name, self.index = file, name, index
        self._values, self._asked = dict(values), set[str]()

    def place(self, key: str = "") -> str:
        """Such as ``network 2 in rnn-export.toml, line 14``: the line of the key, or where the table begins."""
        what = f"{self.name.rpartition('.')[2]} {self.index} in " if self.index else ""
        line = (key and self._line(key)) or self._line("")
        return f"{what}{self.file}" + (f", line {line}" if line else "")

    def text(self, key: str, allowed: Iterable[str] | None = None, *, needed: bool = False) -> Any:
        """A string, one of those that are allowed; None where the key is not there, unless it is needed."""
        value = self._get(key, str, "a string")
        if value is None and needed:
            raise self.error("", f"lacks {key}", f"Say {key} = ...: {SEE}")
        if value is not None and not value.strip():
            raise self.error(key, f"{key} is empty", "Leave it out, or say it" if not needed else "Say it")
        if value is not None and allowed is not None and value not in (choices := sorted(allowed)):
            raise self.error(key, f"{key} is {value!r}", _which(value, choices))
        return value

    def flag(self, key: str) -> bool | None:
        value: bool | None = self._get(key, bool, "true or false")
        return value

    def number(self, key: str, kind: type) -> Any:
        """A number above 0; None where the key is not there."""
        value = self._get(key, (int, float) if kind is float else int, "a number")
        if value is not None and not 0 < value < MOST:
            raise self.error(key, f"{key} is {value}", "It has to be above 0, and below a million")
        return value

    def names(self, key: str, get: Any) -> tuple[str, ...]:
        """A list of names, each of which ``get`` knows; empty where the key is not there."""
        values = self._get(key, list, "a list of names") or []
        for value in values:
            if not isinstance(value, str):
                raise self.error(key, f"{key} holds {value!r}", "Write names in quotes")
            try:
                get(value)
            except UsageError as error:
                raise self.error(key, str(error.args[0]), error.hint) from None
        return tuple(dict.fromkeys(values))

    def tables(self, key: str, section: str) -> list["Table"]:
        """The tables of a list of them, ``[[key]]``."""
        values = self._get(key, list, f"written as [[{section}{key}]]") or []
        if not all(isinstance(value, dict) for value in values):
            raise self.error(key, f"{key} is no table", f"Begin each with [[{section}{key}]]")
        return [Table(self.file, section + key, index, value) for index, value in enumerate(values, 1)]

    def close(self) -> None:
        """Raises UsageError where a key is left over."""
        for key in self._values:
            if key not in self._asked:
                raise self.error(key, f"the key {key!r} is not known", _which(key, sorted(self._asked)))

    def error(self, key: str, what: str, hint: str) -> UsageError:
        return UsageError(f"{self.place(key)}: {what}", hint)

    def _get(self, key: str, kind: Any, words: str) -> Any:
        self._asked.add(key)
        value = self._values.get(key)
        if value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
            return value
        raise self.error(key, f"{key} is {value!r}", f"It has to be {words}")

    def _line(self, key: str) -> int:
        """The line of a key, or of the table's own heading; 0 where it is written in another way."""
        headings, inside = 0, not self.name
        for number, line in enumerate(self.file.read_text("utf-8").splitlines(), 1):
            if (heading := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line)) is not None:
                headings += heading[1] == self.name
                inside = heading[1] == self.name and headings == max(1, self.index)
                if inside and not key:
                    return number
            elif key and inside and re.match(rf'\s*"?{re.escape(key)}"?\s*=', line):
                return number
        return 0


def _which(value: str, choices: list[str]) -> str:
    close = get_close_matches(value, choices, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(choices)}"


def read_toml(file: Path) -> dict[str, Any]:
    """What a TOML file holds; raises UsageError where it cannot be read or is none."""
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", "Check the path after --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is no TOML: {error}", SEE) from None
