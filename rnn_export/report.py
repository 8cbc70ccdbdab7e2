"""The result of a verification as one versioned model: every format is rendered from it, and it is read back."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnn_export.documents import from_document, to_document
from rnn_export.errors import RnnExportError, SourceError
from rnn_export.machine import Environment
from rnn_export.record import Record
from rnn_export.result import Result, Status, exit_code
from rnn_export.summary import by_runtime, counts_of, verdict_of

SCHEMA = 2  # 1 had neither records nor environment, and could not be read back
_AGAIN = "Verify again with this rnn-export"


@dataclass(frozen=True)
class Report:
    """A whole verification.

    Attributes:
        artifact: the name of what was verified.
        form: the artifact's form; null for a file that somebody else exported, empty for a whole repository.
        network: the spec in words.
        results: every row.
        required: the runtimes that have to pass: those that were named, or every one present.
        demanded: those of ``--require``, which must also be present.
        strict: whether a documented difference of a runtime counts as wrong.
        references: the runtimes that run the weights and never the file.
        named: whether the user said which runtimes.
        runtimes: what each runtime showed besides its rows.
        digest: the sha256 of the artifact's manifest, which binds its files; null where there is none.
        environment: what it ran on.
        created: when, in UTC.
    """

    artifact: str
    form: str | None
    network: str
    results: tuple[Result, ...]
    required: frozenset[str]
    demanded: frozenset[str] = frozenset()
    strict: bool = False
    references: frozenset[str] = frozenset()
    named: bool = False
    runtimes: tuple[Record, ...] = ()
    digest: str | None = None
    environment: Environment | None = None
    created: str | None = None

    @property
    def exit_code(self) -> int:
        return exit_code(list(self.results), self.required, self.demanded, self.strict, self.references)

    @property
    def drawn(self) -> str:
        """The form in words; empty where what was checked is no single file."""
        if self.form is None:
            return "exported by somebody else"
        return self.form and f"form {self.form}"

    @property
    def verdicts(self) -> Mapping[str, Status]:
        """The verdict on each runtime, in the order of the rows."""
        return {name: verdict_of(rows) for name, rows in by_runtime(self.results).items()}

    def __str__(self) -> str:
        """The command line's table, without colours."""
        from rich.console import Console

        from rnn_export.table import print_report

        text = io.StringIO()
        print_report(self, Console(file=text, width=160, color_system=None, highlight=False, soft_wrap=True))
        return text.getvalue().rstrip("\n")

    def to_dict(self) -> dict[str, Any]:
        """Schema 2, see docs/result.md; what follows from the rest is there too, and is not read back."""
        return {
            "schema": SCHEMA,
            **to_document(self),
            "verdicts": {name: status.value for name, status in self.verdicts.items()},
            "summary": counts_of(self.results),
            "exit_code": self.exit_code,
        }

    @classmethod
    def from_dict(cls, data: Any) -> "Report":
        """The inverse of ``to_dict``.

        Raises:
            SourceError: it is of another schema, or damaged.
        """
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema is None:
            raise SourceError("this is no result of rnn-export: it has no schema", "Write one with verify --report")
        if schema != SCHEMA:
            newer = isinstance(schema, int) and schema > SCHEMA
            hint = "A newer rnn-export wrote it; update this one" if newer else _AGAIN
            raise SourceError(f"the result has schema {str(schema)[:20]!r}, not {SCHEMA}", hint)
        if "error" in data:
            raise SourceError("the result is that of a verification that could not begin", _AGAIN)
        try:
            return from_document(cls, data)
        except ValueError as error:
            raise SourceError(f"the result is damaged: {error}", _AGAIN) from None


def error_document(error: RnnExportError) -> dict[str, Any]:
    """What stands in place of a report where a verification could not begin."""
    said = {"kind": type(error).__name__, "message": str(error.args[0]), "hint": error.hint}
    return {"schema": SCHEMA, "error": said, "exit_code": error.exit_code}


def read_report(path: Path) -> Report:
    """A result that ``verify --report FILE.json`` wrote.

    Raises:
        SourceError: the file is missing, no JSON, of another schema, or damaged.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}", "Check the path") from None
    except (ValueError, RecursionError):
        raise SourceError(f"{path} is no JSON", "Write it with verify --report FILE.json") from None
    try:
        return Report.from_dict(data)
    except SourceError as error:
        raise SourceError(f"{path}: {error.args[0]}", error.hint) from None
