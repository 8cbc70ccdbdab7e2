"""What several commands share: the options of a source, and where to print."""

import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

Command = Callable[..., Any]
WIDTH, LEAST_WIDTH = 160, 140  # of a pipe; of a terminal, where a folded line reads better than a cut table


def source_options(command: Command) -> Command:
    """How to read a checkpoint that does not say everything."""
    for option in (
        click.option("--batch-first/--time-first", default=None, help="Input is (B, T, I); time first if not said."),
        click.option(
            "--nonlinearity",
            type=click.Choice(["tanh", "relu", "identity"]),
            help="A state_dict does not say which: tanh if not said.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["float32", "float64", "float16", "bfloat16"]),
            help="Convert the weights to this type, each rounded to nearest.",
        ),
        click.option("--head", help="A Linear after the recurrence to take along, such as output_layer."),
        click.option("--prefix", help="Which recurrent part, where there are several, such as encoder.rnn."),
    ):
        command = option(command)
    return command


def console() -> "Console":
    """Standard output: colours on a terminal only, and nothing cut."""
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            """The reader has seen enough, as with `| head`: the exit code is still the command's own."""
            self.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    width = max(shutil.get_terminal_size().columns, LEAST_WIDTH) if sys.stdout.isatty() else WIDTH
    return Patient(width=width, highlight=False, markup=False, soft_wrap=True)


def say(text: str) -> None:
    """Talk goes to standard error; standard output is data."""
    click.echo(text, err=True)
