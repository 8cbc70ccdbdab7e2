"""``rnn-export bench``."""

import math
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rnn_export.cli._options import console, emit, progress, say, source_options
from rnn_export.errors import UsageError
from rnn_export.text_file import check_place, write_text

if TYPE_CHECKING:
    from rnn_export.benchmark.score import Benchmark

SUFFIXES = {".json": "json", ".md": "markdown"}

MOST = 10**7  # of steps, sequences and units: beyond it no input fits into memory


class Number(click.FloatRange):
    """A number in a range, and no infinity or NaN, which every range lets through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number", param, ctx)
        return number


ABOVE_0 = Number(min=0, min_open=True, max=86_400)  # seconds: a day
FROM_1 = click.IntRange(min=1, max=MOST)


@click.command("bench")
@click.argument("source", required=False)
@click.option("--form", "forms", multiple=True, help="Only these; every form of any length if not said.")
@click.option("--runtime", "runtimes", multiple=True, help="Beside torch, only these; the usual ones if not said.")
@click.option("--batch", "batches", multiple=True, type=FROM_1, help="B, once or several times; 1 if not said.")
@click.option("--length", type=FROM_1, default=128, show_default=True, help="T.")
@click.option(
    "--hidden", "widths", multiple=True, type=FROM_1, help="In place of a spec's I and H, once or several times."
)
@click.option("--threads", type=FROM_1, default=1, show_default=True, help="Of every runtime.")
@click.option("--rounds", type=FROM_1, default=9, show_default=True, help="How often each row has its turn.")
@click.option("--seconds", type=ABOVE_0, default=0.1, show_default=True, help="Of a turn.")
@click.option("--timeout", type=ABOVE_0, default=60.0, show_default=True, help="Seconds per request to a runtime.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["human", *SUFFIXES.values()]),
    default="human",
    show_default=True,
    help="Of standard output.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write it to a file: .json or .md.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw it over H and B: .png or .svg.")
@click.option(
    "--baseline", type=click.Path(path_type=Path), help="An older -o FILE.json: fail where a row became slower."
)
@click.option(
    "--tolerance",
    type=Number(min=0, max=100, max_open=True),
    default=15.0,
    show_default=True,
    help="Percent by which a ratio to torch may be less than in --baseline.",
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="Without SOURCE: measure what `export --form auto` expects of a runtime, and keep it in the cache.",
)
@source_options
def command(
    source: str | None,
    forms: tuple[str, ...],
    runtimes: tuple[str, ...],
    batches: tuple[int, ...],
    length: int,
    widths: tuple[int, ...],
    threads: int,
    rounds: int,
    seconds: float,
    timeout: float,
    style: str,
    output: Path | None,
    plot: Path | None,
    baseline: Path | None,
    tolerance: float,
    calibrate: bool,
    prefix: str | None,
    nonlinearity: str | None,
    batch_first: bool | None,
    head: str | None,
    dtype: str | None,
) -> int:
    """Measure how fast every form of SOURCE is on every runtime, beside torch and beside what this machine can do.

    SOURCE is a checkpoint file, or a spec such as rnn:64,64 (random weights). Each row runs in a process of its own,
    with the same number of threads, in turn, round after round. What is computed is not judged here: see
    `rnn-export verify`.

    \b
    Examples:
      rnn-export bench rnn:64,64
      rnn-export bench model.safetensors --batch 1 --batch 32 -o bench.json
      rnn-export bench rnn:64,64 --hidden 32 --hidden 128 --hidden 512 --plot bench.png
      rnn-export bench rnn:64,64 --baseline bench.json --tolerance 20
      rnn-export bench --calibrate --runtime onnxruntime-cpu
    """
    if calibrate:
        if source is not None:
            raise click.UsageError("--calibrate measures networks of its own: leave SOURCE out")
        others: dict[str, object] = {
            "--form": forms,
            "--batch": batches,
            "--hidden": widths,
            "--output": output,
            "--plot": plot,
        }
        others |= {"--baseline": baseline, "--dtype": dtype, "--nonlinearity": nonlinearity, "--prefix": prefix}
        if given := [name for name, value in others.items() if value]:
            raise click.UsageError(f"{given[0]} is for a SOURCE, not for --calibrate")
        return _calibrate(runtimes or ("onnxruntime-cpu",), threads)
    if source is None:
        raise click.UsageError("name a SOURCE: a checkpoint, or a spec such as rnn:64,64")
    from rnn_export.benchmark.baseline import check_comparable, compare
    from rnn_export.benchmark.grid import measure
    from rnn_export.benchmark.plot import check_plot, write_plot
    from rnn_export.benchmark.point import Terms
    from rnn_export.benchmark.score import read_benchmark
    from rnn_export.checkpoint import load_checkpoint

    if output is not None:
        _style_of(output)
        check_place(output)
        if baseline is not None and output.resolve() == baseline.resolve():
            raise click.UsageError("--output would replace the --baseline that it is compared with: name another file")
    if plot is not None:
        check_plot(plot)
    if widths and not source.startswith("rnn:"):
        raise click.UsageError("--hidden changes a spec such as rnn:64,64; a checkpoint has its own sizes")
    before = None if baseline is None else read_benchmark(baseline)
    if before is not None:
        check_comparable(before, threads)
    checkpoint = load_checkpoint(source, prefix=prefix, nonlinearity=nonlinearity, batch_first=batch_first, head=head)
    checkpoint = checkpoint.converted(dtype)
    for note in checkpoint.notes:
        say(f"note: {note}")
    terms = Terms(length, threads, rounds, seconds, timeout)
    with progress() as tell, redirect_stdout(sys.stderr):
        benchmark = measure(
            checkpoint,
            terms,
            forms=forms,
            runtimes=runtimes,
            widths=widths,
            batches=batches or (1,),
            progress=tell or (lambda *_: None),
        )
    if style == "human":
        from rnn_export.benchmark.score_table import print_benchmark

        print_benchmark(benchmark, console())
    else:
        emit(_renderer(style)(benchmark))
    if output is not None:
        write_text(output, _renderer(_style_of(output))(benchmark))
    if plot is not None:
        write_plot(benchmark, plot)
    if before is None:
        return benchmark.exit_code
    comparison = compare(benchmark, before, tolerance / 100)
    for note in comparison.notes:
        say(f"note: {note}")
    for regression in comparison.regressions:
        say(f"slower: {regression}")
    say(f"{comparison.compared} rows compared with {baseline}: {len(comparison.regressions) or 'none'} slower")
    return 1 if comparison.regressions else benchmark.exit_code


def _calibrate(runtimes: tuple[str, ...], threads: int) -> int:
    """Measure and keep the costs of one thread, and of as many as are named."""
    from rnn_export.benchmark.grid import check_threads
    from rnn_export.calibration import calibrate
    from rnn_export.cost_model import measured_costs

    check_threads(threads)
    for name in runtimes:
        check_place(measured_costs(name))  # it is written after a minute
        with progress() as tell:
            table = calibrate(name, tuple(sorted({1, threads})), progress=tell)
        click.echo(f"{name}: {table.write()}")
    return 0


def _style_of(output: Path) -> str:
    if output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{output.name} has the suffix of no benchmark", f"Choose one of {', '.join(SUFFIXES)}")
    return SUFFIXES[output.suffix.lower()]


def _renderer(style: str) -> "Callable[[Benchmark], str]":
    if style == "markdown":
        from rnn_export.benchmark.score_page import render_markdown

        return render_markdown
    from rnn_export.benchmark.score import render_json

    return render_json
