"""``rnn-export export``."""

from pathlib import Path

import click

from rnn_export.cli._options import say, source_options
from rnn_export.pipeline import DEFAULT_OPSET, export, missing_kernels


@click.command("export")
@click.argument("source")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--form", default="scan", show_default=True, help="scan, module or rnn: `rnn-export list forms`.")
@click.option("--opset", default=DEFAULT_OPSET, show_default=True, help="The version of ONNX's operators.")
@click.option("--lengths", is_flag=True, help="The file takes the length of each sequence as a third input.")
@source_options
def command(
    source: str,
    output: Path,
    form: str,
    opset: int,
    prefix: str | None,
    nonlinearity: str | None,
    batch_first: bool | None,
    head: str | None,
    dtype: str | None,
    lengths: bool,
) -> None:
    """Make an ONNX artifact from SOURCE.

    SOURCE is a .safetensors, .pt, .pth or .npz file, or a spec such as rnn:4,8,relu (random weights).

    \b
    Examples:
      rnn-export export model.safetensors -o out
      rnn-export export model.pt -o out --form rnn --nonlinearity relu --prefix encoder.rnn
      rnn-export export model.pt -o out --dtype float16
      rnn-export export rnn:4,8,relu,layers=2,bidirectional -o out
    """
    from rnn_export.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(source, prefix=prefix, nonlinearity=nonlinearity, batch_first=batch_first, head=head)
    checkpoint = checkpoint.converted(dtype)
    for note in (*checkpoint.notes, *missing_kernels(form, checkpoint.weights.dtype.name)):
        say(f"note: {note}")
    artifact = export(checkpoint, output, form=form, opset=opset, lengths=lengths)
    size = artifact.model_path.stat().st_size
    dtype = artifact.manifest["dtype"]
    click.echo(f"{output}: {artifact.spec}, {dtype}, form {form}, opset {opset}, model.onnx {size:,} bytes")
    say(f"next: rnn-export verify {output}")
