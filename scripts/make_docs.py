"""Write docs/command-line.md from the commands' own help and docs/result.md from the result's dataclasses, and check
the links between the pages.

    python scripts/make_docs.py [--check]

With --check nothing is written, and a stale page or a broken link exits with 1.
"""

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click

from rnn_export.cli import group
from rnn_export.machine import Environment
from rnn_export.record import Load, Placement, Record, Series
from rnn_export.report import SCHEMA, Report
from rnn_export.result import Result

ROOT = Path(__file__).resolve().parent.parent
MODEL = (Report, Result, Record, Placement, Series, Load, Environment)
RESULT = f"""# The result of a verification

Made by `python scripts/make_docs.py` from the dataclasses. Every report is rendered from this one model, which
`verify --report FILE.json` writes, `rnn-export report FILE.json` renders again, and `Report.from_dict` reads back.
It has `"schema": {SCHEMA}`. A field that is taken away or means another thing makes it the next number; one that is
added does not. A number that is not finite is written as the largest float.

The object itself is a Report. Beside its fields stand `schema`, and what follows from them: `verdicts` (runtime -> the
worst status of its rows), `summary` (how many rows `passed`, `failed`, `diverged` and are `absent`) and `exit_code`.

A verification that cannot begin, as of a damaged file, is
`{{"schema": {SCHEMA}, "error": {{"kind": ..., "message": ..., "hint": ...}}, "exit_code": ...}}`.
"""
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").glob("*.md")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where something is stale")
    options = parser.parse_args()
    made = {ROOT / "docs" / "command-line.md": command_line_page(), ROOT / "docs" / "result.md": result_page()}
    stale = {page: text for page, text in made.items() if not page.exists() or page.read_text() != text}
    for page, text in stale.items():
        if options.check:
            print(f"{page.relative_to(ROOT)} is stale: run python scripts/make_docs.py")
        else:
            page.write_text(text)
    broken = [f"{page.relative_to(ROOT)}: {target} does not exist" for page in PAGES for target in broken_links(page)]
    print("\n".join(broken) or f"{len(PAGES)} pages: every link leads somewhere")
    return 1 if broken or (stale and options.check) else 0


def command_line_page() -> str:
    """Every command's help, in the order of ``rnn-export --help``."""
    parts = ["# Command line", "", "Made by `python scripts/make_docs.py` from the commands' own help."]
    for path, command in commands(group, "rnn-export"):
        context = click.Context(command, info_name=path, max_content_width=100, terminal_width=100)
        context.help_option_names = ["-h", "--help"]
        parts += ["", f"## {path}", "", "```text", command.get_help(context).rstrip(), "```"]
    return "\n".join(parts) + "\n"


def result_page() -> str:
    """Every dataclass of the result: its fields, their types, and what its docstring says of them."""
    parts = [RESULT]
    for kind in MODEL:
        said = descriptions(kind)
        parts += [f"## {kind.__name__}", "", (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("``", "`"), ""]
        parts += ["| field | type | meaning |", "|---|---|---|"]
        for field, hint in zip(fields(kind), annotations(kind), strict=True):
            parts.append(f"| `{field.name}` | `{hint}` | {said[field.name]} |")
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"


def descriptions(kind: type) -> dict[str, str]:
    """Field -> its lines under ``Attributes:``."""
    text = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2].replace("``", "`")
    entries = re.findall(r"^    (\w+): (.+(?:\n        .+)*)", text, re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in entries}


def annotations(kind: type) -> list[str]:
    """The types in JSON's words, as they are written in the source."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    hints = [ast.unparse(item.annotation) for item in definition.body if isinstance(item, ast.AnnAssign)]
    words = {
        r"tuple\[(.+), \.\.\.\]": r"array of \1",
        r"frozenset\[(\w+)\]": r"array of \1",
        r"Mapping\[str, (.+?)\]$": r"object of \1",
        r"\bNone\b": "null",
        r"\bstr\b|\bStage\b|\bStatus\b": "string",
        r"\bfloat\b": "number",
        r"\bint\b": "integer",
        r"\bbool\b": "boolean",
        r" \| ": " or ",
    }
    for pattern, word in words.items():
        hints = [re.sub(pattern, word, hint) for hint in hints]
    return hints


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            if (inner := command.get_command(context, name)) is not None:
                yield from commands(inner, f"{path} {name}")


def broken_links(page: Path) -> list[str]:
    """Relative targets of a page's links that are not there."""
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    return [target for target in targets if "://" not in target and not (page.parent / target).exists()]


if __name__ == "__main__":
    sys.exit(main())
