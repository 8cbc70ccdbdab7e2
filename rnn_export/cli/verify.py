"""``rnn-export verify``."""

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rnn_export.cli._options import made_by, progress, say, source_options, trust_code
from rnn_export.cli._reporting import deliver, errors_reported, files_option, format_option

if TYPE_CHECKING:
    from rnn_export.checkpoint import Checkpoint
    from rnn_export.server_address import ServerAddress

INPUT_KINDS = ("normal", "one-hot", "uniform")


@click.command("verify")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--against",
    metavar="SOURCE",
    help="What somebody else's file should compute, or a whole model's.",
)
@trust_code
@click.option("--runtime", "runtimes", multiple=True, help="Run only these; all that are present if not said.")
@click.option("--require", multiple=True, help="These must be present and pass.")
@format_option
@files_option("--report")
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
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Runtimes at once; as many as there are processors if not said."
)
@click.option("--ray", metavar="ADDRESS", help="Run on this Ray cluster: HOST:PORT, auto or ray://HOST:PORT.")
@click.option(
    "--url", help="Of the live server that --runtime open-inference asks: http://HOST:PORT or grpc://HOST:PORT."
)
@click.option("--model", help="Its model's name there; that of ARTIFACT's folder if not said.")
@click.option("--strict", is_flag=True, help="A documented difference of a runtime counts as wrong.")
@source_options
def command(
    artifact: Path,
    against: str | None,
    runtimes: tuple[str, ...],
    require: tuple[str, ...],
    style: str,
    files: tuple[Path, ...],
    timeout: float,
    inputs: Path | None,
    expect: Path | None,
    input_kind: str,
    jobs: int | None,
    ray: str | None,
    url: str | None,
    model: str | None,
    strict: bool,
    trust_code: bool,
    prefix: str | None,
    nonlinearity: str | None,
    batch_first: bool | None,
    head: str | None,
    dtype: str | None,
) -> int:
    """Prove that runtimes compute the network of ARTIFACT, a folder made by `rnn-export export`.

    With --against SOURCE, ARTIFACT is an ONNX file that somebody else exported. Where SOURCE is
    package.module:factory, it is the file or folder of a whole model, and runs on onnxruntime-cpu if no --runtime
    is said.

    \b
    Examples:
      rnn-export verify out
      rnn-export verify out --runtime onnxruntime-cpu --format json
      rnn-export verify out --report result.json --report page.html --report junit.xml
      rnn-export verify model.onnx --against model.pt
      rnn-export verify out --against mypackage.tagger:make --trust-code
      rnn-export verify bundle --runtime open-inference --url http://127.0.0.1:8000
    """
    reading = {"prefix": prefix, "nonlinearity": nonlinearity, "batch_first": batch_first, "head": head}
    kind = None if input_kind == INPUT_KINDS[0] else input_kind
    others = {"dtype": dtype, "inputs": inputs, "expect": expect, "input-kind": kind, "jobs": jobs, "ray": ray}
    others |= {"url": url, "model": model}
    with errors_reported(style, files):
        made = made_by(against, trust_code, {**reading, **others})
        if made is not None:
            from rnn_export.whole_model.model_verdict import verify_model

            check = partial(verify_model, made.model, made.inputs, artifact, dynamic_shapes=made.dynamic_shapes)
        else:
            from rnn_export.cells import available_processors
            from rnn_export.pipeline import verify

            truth = _truth(against, reading, dtype)
            own = partial(
                verify, inputs=inputs, expect=expect, input_kind=input_kind, server=_server(url, model, artifact)
            )
            check = partial(own, artifact, against=truth, jobs=jobs or available_processors(), ray=ray)
        with progress() as tell, redirect_stdout(sys.stderr):
            report = check(runtimes=runtimes, require=require, timeout=timeout, strict=strict, progress=tell)
    deliver(report, style, files)
    return report.exit_code


def _server(url: str | None, model: str | None, artifact: Path) -> "ServerAddress | None":
    if url is None:
        if model is not None:
            raise click.UsageError("--model is the name on a live server: add --url")
        return None
    from rnn_export.bundle import Bundle, is_bundle
    from rnn_export.server_address import ServerAddress

    own = Bundle.load(artifact).facts.name if is_bundle(artifact) else artifact.resolve().name
    return ServerAddress(url, model or own)


def _truth(against: str | None, reading: Mapping[str, Any], dtype: str | None) -> "Checkpoint | None":
    if against is None:
        if {*reading.values(), dtype} != {None}:
            raise click.UsageError("--prefix, --nonlinearity, --batch-first, --head and --dtype need --against SOURCE")
        return None
    from rnn_export.checkpoint import load_checkpoint

    truth = load_checkpoint(against, **reading).converted(dtype)
    for note in truth.notes:
        say(f"note: {note}")
    return truth
