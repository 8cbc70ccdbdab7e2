"""``rnn-export runtimes list`` and ``rnn-export runtimes install``."""

import json
import time
from typing import TYPE_CHECKING

import click

from rnn_export.cli._options import console, say, working

if TYPE_CHECKING:
    from rnn_export.inventory import Entry
    from rnn_export.runtimes import Runtime


@click.group("runtimes")
def command() -> None:
    """List the runtimes, or install some."""


@command.command("list")
@click.option("--format", "style", type=click.Choice(["human", "json"]), default="human", show_default=True)
@click.option("--no-canary", is_flag=True, help="Start no runtime: say only what is installed.")
def list_runtimes(style: str, no_canary: bool) -> None:
    """Every runtime: whether it is here and works, and what to type next.

    Those that are installed compute the canary, one small product with an exact answer, each in a process of its own.
    """
    from rnn_export.inventory import take_inventory

    if no_canary:
        entries = take_inventory(sing=False)
    else:
        with working("every runtime that is installed computes the canary"):
            entries = take_inventory()
    if style == "json":
        click.echo(json.dumps([entry.to_dict() for entry in entries], indent=2))
    else:
        _print(entries)


def _print(entries: "list[Entry]") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("runtime", "version", "device", "what it is", "state", "next"):
        table.add_column(heading, no_wrap=heading != "what it is")
    for entry in entries:
        following = "" if entry.state in ("works", "installed") else entry.next  # theirs is the last line
        row = (entry.runtime.name, entry.version, entry.runtime.device, entry.runtime.summary, entry.state)
        table.add_row(*row, Text(following))
    console().print(table)
    for entry in entries:
        if entry.detail:
            console().print(Text(f"{entry.runtime.name}: {entry.detail}"))
    console().print("What works is run by rnn-export verify DIR --runtime NAME")


@command.command("install")
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--all", "every", is_flag=True, help="All that live in environments of their own and fit this machine.")
def install_runtimes(names: tuple[str, ...], every: bool) -> None:
    """Make the environment of each runtime NAME, or make it anew where it is broken.

    \b
    Examples:
      rnn-export runtimes install openvino iree
      rnn-export runtimes install onnxruntime@1.24.1
      rnn-export runtimes install --all
    """
    from rnn_export.errors import InstallationError, RnnExportError
    from rnn_export.runtimes import RUNTIMES

    if bool(names) == every:
        raise click.UsageError("Name runtimes, or give --all: rnn-export runtimes list has their names")
    chosen = _that_fit() if every else [RUNTIMES.get(name) for name in names]
    failures: list[RnnExportError] = []
    for number, runtime in enumerate(chosen, 1):
        try:
            _install(runtime, f"{number}/{len(chosen)}")
        except RnnExportError as error:
            if len(chosen) == 1:
                raise
            say(f"rnn-export: error: {error}")
            failures.append(error)
    if failures:
        causes = "; ".join(str(error.args[0]) for error in failures)
        raise InstallationError(f"{len(failures)} of {len(chosen)} failed: {causes}", "The others are ready")


def _install(runtime: "Runtime", place: str) -> None:
    from rnn_export.installation import install

    started = time.monotonic()
    with working(f"{place} {runtime.name}: {', '.join((*runtime.requires, *runtime.npm))}"):
        folder = install(runtime)
    say(f"{place} {runtime.name}: ready after {time.monotonic() - started:.0f} s")
    click.echo(f"{runtime.name}: {folder}")


def _that_fit() -> "list[Runtime]":
    """The runtimes with an environment of their own, without those for a device that this machine lacks."""
    from rnn_export.inventory import lacking_device
    from rnn_export.runtimes import RUNTIMES

    fitting = []
    for runtime in RUNTIMES:
        if runtime.own_environment and (lack := lacking_device(runtime)):
            say(f"{runtime.name}: left out: {lack}; name it to install it all the same")
        elif runtime.own_environment:
            fitting.append(runtime)
    return fitting
