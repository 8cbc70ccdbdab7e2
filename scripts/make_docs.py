"""Write docs/command-line.md from the commands' own help, and check the links between the pages.

    python scripts/make_docs.py [--check]

With --check nothing is written, and a stale page or a broken link exits with 1.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from rnn_export.cli import group

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "command-line.md"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").glob("*.md")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where something is stale")
    options = parser.parse_args()
    text = command_line_page()
    stale = not PAGE.exists() or PAGE.read_text() != text
    if stale and options.check:
        print(f"{PAGE.relative_to(ROOT)} is stale: run python scripts/make_docs.py")
    elif stale:
        PAGE.write_text(text)
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
