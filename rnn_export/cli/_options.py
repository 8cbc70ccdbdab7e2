"""What several commands share: the options of a source, where to print, and how far a verification is."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from rnn_export.whole_model.factory import Made

Command = Callable[..., Any]
Tell = Callable[[str, int, int], None]  # (runtime, cases done, cases in all)
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


trust_code = click.option("--trust-code", is_flag=True, help="package.module:factory is code: importing it runs it.")


def made_by(source: str | None, trusted: bool, not_for_models: Mapping[str, object]) -> "Made | None":
    """What the factory that the source names returns; None for any other source.

    Args:
        source: what the user named.
        trusted: whether its code may run.
        not_for_models: options, by name, that mean nothing for a whole model where they are not None.
    """
    from rnn_export.whole_model.factory import is_factory, load_factory

    file, _, function = (source or "").partition(":")
    if file.endswith(".py"):
        module = file.removesuffix(".py").strip("./").replace("/", ".")
        what = f"write {module}:{function}" if function else f"name the function in it: {module}:NAME"
        raise click.UsageError(f"{source} is a file of code: {what} --trust-code")
    if source is None or not is_factory(source):
        if trusted:
            raise click.UsageError("--trust-code is for package.module:factory; other sources run no code")
        return None
    if given := [name for name, value in not_for_models.items() if value is not None]:
        raise click.UsageError(f"--{given[0].replace('_', '-')} is for checkpoints, not for a whole model")
    with redirect_stdout(sys.stderr):  # what the user's code prints is talk; standard output is data
        return load_factory(source, trusted=trusted)


def console() -> "Console":
    """Standard output: colours on a terminal only, and nothing cut."""
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            _forget_reader()

    width = max(shutil.get_terminal_size().columns, LEAST_WIDTH) if sys.stdout.isatty() else WIDTH
    return Patient(width=width, highlight=False, markup=False, soft_wrap=True)


def emit(text: str) -> None:
    """Text for standard output as it is, to its last newline."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_reader()


def _forget_reader() -> None:
    """It has seen enough, as with `| head`: the exit code is still the command's own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Talk goes to standard error; standard output is data."""
    click.echo(text, err=True)


@contextmanager
def progress() -> Iterator[Tell | None]:
    """A bar on a terminal; nothing in a pipe or a log."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def tell(runtime: str, done: int, total: int) -> None:
            if runtime not in tasks:
                tasks[runtime] = bar.add_task(runtime, total=total)
            bar.update(tasks[runtime], completed=done)

        yield tell


@contextmanager
def working(text: str) -> Iterator[None]:
    """What takes a while: on a terminal with the time that it took so far, elsewhere one line."""
    if not sys.stderr.isatty():
        say(text)
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(text, total=None)
        yield
