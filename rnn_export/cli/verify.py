"""``rnn-export verify``."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from rnn_export.cli._options import console, say, source_options

INPUT_KINDS = ("normal", "one-hot", "uniform")
Tell = Callable[[str, int, int], None]


@click.command("verify")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--against", metavar="SOURCE", help="What a file that somebody else exported should compute.")
@click.option("--runtime", "runtimes", multiple=True, help="Run only these; all that are present if not said.")
@click.option("--require", multiple=True, help="These must be present and pass.")
@click.option("--format", "style", type=click.Choice(["human", "json"]), default="human", show_default=True)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds per request to a runtime.",
)
@click.option("--inputs", type=click.Path(path_type=Path), help="Your own data: an .npz with input, h_0, lengths.")
@click.option("--expect", type=click.Path(path_type=Path), help="Outputs saved elsewhere for --inputs: output, h_n.")
@click.option("--input-kind", type=click.Choice(INPUT_KINDS), default="normal", show_default=True)
@click.option("--strict", is_flag=True, help="A documented difference of a runtime counts as wrong.")
@source_options
def command(
    artifact: Path,
    against: str | None,
    runtimes: tuple[str, ...],
    require: tuple[str, ...],
    style: str,
    timeout: float,
    inputs: Path | None,
    expect: Path | None,
    input_kind: str,
    strict: bool,
    prefix: str | None,
    nonlinearity: str | None,
    batch_first: bool | None,
    head: str | None,
    dtype: str | None,
) -> int:
    """Prove that runtimes compute the network of ARTIFACT, a folder made by `rnn-export export`.

    With --against SOURCE, ARTIFACT is an ONNX file that somebody else exported.

    \b
    Examples:
      rnn-export verify out
      rnn-export verify out --runtime onnxruntime-cpu --format json
      rnn-export verify model.onnx --against model.pt
    """
    from rnn_export.checkpoint import load_checkpoint
    from rnn_export.pipeline import verify
    from rnn_export.report import print_report

    truth = None
    if against is not None:
        truth = load_checkpoint(against, prefix=prefix, nonlinearity=nonlinearity, batch_first=batch_first, head=head)
        truth = truth.converted(dtype)
        for note in truth.notes:
            say(f"note: {note}")
    elif (prefix, nonlinearity, batch_first, head, dtype) != (None,) * 5:
        raise click.UsageError("--prefix, --nonlinearity, --batch-first, --head and --dtype need --against SOURCE")
    with _progress() as tell:
        report = verify(
            artifact,
            against=truth,
            runtimes=runtimes,
            require=require,
            timeout=timeout,
            strict=strict,
            inputs=inputs,
            expect=expect,
            input_kind=input_kind,
            progress=tell,
        )
    if style == "json":
        console().print(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    else:
        print_report(report, console())
    return report.exit_code


@contextmanager
def _progress() -> Iterator[Tell | None]:
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
