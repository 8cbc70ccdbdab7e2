"""``rnn-export export``."""

import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rnn_export.cli._options import console, made_by, progress, say, source_options, trust_code
from rnn_export.pipeline import DEFAULT_OPSET, export, missing_kernels, quantisation_notes

if TYPE_CHECKING:
    from rnn_export.checkpoint import Checkpoint
    from rnn_export.whole_model.factory import Made


@click.command("export")
@click.argument("source")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--form", help="One of `rnn-export list`, or auto (see --for); if not said, scan; rnn for a whole model.")
@click.option(
    "--for",
    "targets",
    multiple=True,
    help="With --form auto: a runtime that the file is for; onnxruntime-cpu if not said.",
)
@click.option("--batch", type=int, help="With --form auto: the usual batch size; 1 if not said.")
@click.option("--length", type=int, help="With --form auto: the usual number of steps; 128 if not said.")
@click.option("--threads", type=int, help="With --form auto: how many the runtime has; 1 if not said.")
@click.option("--opset", default=DEFAULT_OPSET, show_default=True, help="The version of ONNX's operators.")
@click.option("--lengths", is_flag=True, help="The file takes the length of each sequence as a third input.")
@click.option("--steps", type=int, help="The length that the form unrolled is fixed to.")
@click.option("--dry-run", is_flag=True, help="Read and draw the network, and say what would be written.")
@trust_code
@click.option("--runtime", "runtimes", multiple=True, help="Of a whole model only: verify it on these.")
@source_options
def command(
    source: str,
    output: Path,
    form: str | None,
    targets: tuple[str, ...],
    batch: int | None,
    length: int | None,
    threads: int | None,
    opset: int,
    prefix: str | None,
    nonlinearity: str | None,
    batch_first: bool | None,
    head: str | None,
    dtype: str | None,
    lengths: bool,
    steps: int | None,
    dry_run: bool,
    trust_code: bool,
    runtimes: tuple[str, ...],
) -> int:
    """Make an ONNX artifact from SOURCE.

    SOURCE is a .safetensors, .pt, .pth or .npz file, or a spec such as rnn:4,8,relu (random weights).

    With --form auto the forms are tried on the runtimes of --for, the one that is expected to be fastest there under
    --batch, --length and --threads first, and the first that all runtimes get right is taken. What is expected comes
    from measured costs: `rnn-export bench --calibrate` measures this machine's. Forms that change the weights, as int8
    does, are taken by their name only; one of fixed length only where --steps gives it.

    A whole model is package.module:factory, a function that returns (model, inputs), with inputs a tuple or a
    function of (T, B), or (model, inputs, dynamic_shapes). It is exported and verified at once, on onnxruntime-cpu
    if no --runtime is said.

    \b
    Examples:
      rnn-export export model.safetensors -o out
      rnn-export export model.pt -o out --form rnn --nonlinearity relu --prefix encoder.rnn
      rnn-export export model.pt -o out --dtype float16
      rnn-export export model.pt -o out --form auto --batch 32
      rnn-export export model.pt -o out --form auto --for onnxruntime-cpu --for openvino
      rnn-export export rnn:4,8,relu,layers=2,bidirectional -o out
      rnn-export export mypackage.tagger:make -o out --trust-code
    """
    reading = {"prefix": prefix, "nonlinearity": nonlinearity, "batch_first": batch_first, "head": head}
    usual = {"batch": batch, "length": length, "threads": threads}
    others = {
        "for": targets or None,
        **usual,
        "dtype": dtype,
        "lengths": lengths or None,
        "steps": steps,
        "dry-run": dry_run or None,
    }
    made = made_by(source, trust_code, {**reading, **others})
    if made is not None:
        return _whole_model(made, output, form or "rnn", opset, runtimes)
    if runtimes:
        raise click.UsageError("--runtime is for a whole model: rnn-export verify names the runtimes of an artifact")
    from rnn_export.checkpoint import load_checkpoint

    asked = {"for": targets or None, **usual}
    if form != "auto" and (given := [name for name, value in asked.items() if value is not None]):
        raise click.UsageError(f"--{given[0]} needs --form auto")
    checkpoint = load_checkpoint(source, prefix=prefix, nonlinearity=nonlinearity, batch_first=batch_first, head=head)
    checkpoint = checkpoint.converted(dtype)
    form = form or "scan"
    if form == "auto" and dry_run:
        raise click.UsageError("--form auto tries the forms on their runtimes, which --dry-run does not")
    if form == "auto":
        said = {name: size for name, size in usual.items() if size is not None}
        form, steps = _chosen(checkpoint, targets, said, opset, lengths, steps)
    about_form = (*missing_kernels(form, checkpoint.weights.dtype.name), *quantisation_notes(form))
    for note in (*checkpoint.notes, *about_form):
        say(f"note: {note}")
    kind = checkpoint.weights.dtype.name
    if dry_run:
        from rnn_export.forms import draw

        draw(form, checkpoint.weights, opset, lengths=lengths, head=checkpoint.head, steps=steps)  # or says why not
        click.echo(f"{output}: {checkpoint.weights.spec}, {kind}, form {form}, opset {opset}; nothing was written")
        return 0
    artifact = export(checkpoint, output, form=form, opset=opset, lengths=lengths, steps=steps)
    sizes = {file.name: file.stat().st_size for file in sorted(artifact.path.glob("model.onnx*"))}
    listed = ", ".join(f"{name} {size:,} bytes" for name, size in sizes.items())
    click.echo(f"{output}: {artifact.spec}, {kind}, form {form}, opset {opset}, {listed}")
    named = " ".join(f"--runtime {name}" for name in targets or ("onnxruntime-cpu",))
    say(f"next: rnn-export verify {shlex.quote(str(output))} {named}")
    return 0


def _chosen(
    checkpoint: "Checkpoint",
    targets: tuple[str, ...],
    usual: dict[str, int],
    opset: int,
    lengths: bool,
    steps: int | None,
) -> tuple[str, int | None]:
    from rnn_export.choice import USUAL_RUNTIME, choose_form
    from rnn_export.cost_model import Load

    choice = choose_form(
        checkpoint, targets or (USUAL_RUNTIME,), load=Load(**usual), opset=opset, lengths=lengths, steps=steps
    )
    for reason in choice.reasons:
        say(reason)
    return choice.form, choice.steps


def _whole_model(made: "Made", output: Path, form: str, opset: int, runtimes: tuple[str, ...]) -> int:
    from rnn_export.table import print_report
    from rnn_export.whole_model.model_verdict import export_and_verify

    with progress() as tell, redirect_stdout(sys.stderr):
        report = export_and_verify(made, output, form=form, opset=opset, runtimes=runtimes, progress=tell)
    size = (output / "model.onnx").stat().st_size
    click.echo(f"{output}: {made.source}, form {form}, opset {opset}, model.onnx {size:,} bytes")
    print_report(report, console())
    return report.exit_code
