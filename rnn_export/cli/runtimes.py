"""``rnn-export runtimes list`` and ``rnn-export runtimes install``."""

import click

from rnn_export.cli._options import console, say


@click.group("runtimes")
def command() -> None:
    """List the runtimes, or install one."""


@command.command("list")
def list_runtimes() -> None:
    """Every runtime: its version, or what to type."""
    from rich.table import Table

    from rnn_export.environments import how_to_install, installed_version, interpreter_of
    from rnn_export.runtimes import RUNTIMES

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("runtime", "version", "what it is", "install"):
        table.add_column(heading, no_wrap=True)
    for runtime in RUNTIMES:
        present = interpreter_of(runtime) is not None
        table.add_row(
            runtime.name,
            installed_version(runtime) if present else "",
            runtime.summary,
            "installed" if present else how_to_install(runtime),
        )
    console().print(table)


@command.command("install")
@click.argument("name")
def install_runtime(name: str) -> None:
    """Make the environment of the runtime NAME."""
    from rnn_export.environments import install
    from rnn_export.runtimes import RUNTIMES

    runtime = RUNTIMES.get(name)
    if runtime.own_environment:
        say(f"installing {', '.join((*runtime.requires, *runtime.npm))}")
    click.echo(f"{name}: {install(runtime)}")
