"""What several commands share: the options of a source, and where to print."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

Command = Callable[..., Any]
WIDTH = 160  # of a file or a pipe, where nobody's window cuts the lines


def source_options(command: Command) -> Command:
    """How to read a checkpoint that does not say everything."""
    for option in (
        click.option("--batch-first/--time-first", default=None, help="Input is (B, T, I); time first if not said."),
        click.option(
            "--nonlinearity",
            type=click.Choice(["tanh", "relu", "identity"]),
            help="A state_dict does not say which: tanh if not said.",
        ),
        click.option("--head", help="A Linear after the recurrence to take along, such as output_layer."),
        click.option("--prefix", help="Which recurrent part, where there are several, such as encoder.rnn."),
    ):
        command = option(command)
    return command


def console() -> "Console":
    """Standard output: colours on a terminal only, nothing cut in a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Talk goes to standard error; standard output is data."""
    click.echo(text, err=True)
