"""``rnn-export export``."""

from pathlib import Path

import click

from rnn_export.cli._options import console, say, source_options
from rnn_export.pipeline import DEFAULT_OPSET, export


@click.command("export")
@click.argument("source")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--form", help="scan, module or rnn; if not said, scan, and rnn for a whole model.")
@click.option("--opset", default=DEFAULT_OPSET, show_default=True, help="The version of ONNX's operators.")
@click.option("--lengths", is_flag=True, help="The file takes the length of each sequence as a third input.")
@click.option("--trust-code", is_flag=True, help="SOURCE is code, package.module:factory, and may run.")
@source_options
def command(
    source: str,
    output: Path,
    form: str | None,
    opset: int,
    prefix: str | None,
    nonlinearity: str | None,
    batch_first: bool | None,
    head: str | None,
    lengths: bool,
    trust_code: bool,
) -> int:
    """Make an ONNX artifact from SOURCE.

    SOURCE is a .safetensors, .pt, .pth or .npz file, or a spec such as rnn:4,8,relu (random weights).

    A whole model is package.module:factory, a function that returns (model, inputs), with inputs a tuple or a
    function of (T, B), or (model, inputs, dynamic_shapes). It is exported and verified at once.

    \b
    Examples:
      rnn-export export model.safetensors -o out
      rnn-export export model.pt -o out --form rnn --nonlinearity relu --prefix encoder.rnn
      rnn-export export rnn:4,8,relu,layers=2,bidirectional -o out
      rnn-export export mypackage.tagger:make -o out --trust-code
    """
    from rnn_export.checkpoint import load_checkpoint
    from rnn_export.whole_model.factory import is_factory

    if is_factory(source):
        if lengths or (prefix, nonlinearity, batch_first, head) != (None, None, None, None):
            raise click.UsageError("--prefix, --nonlinearity, --batch-first, --head and --lengths are for checkpoints")
        return _whole_model(source, output, form or "rnn", opset, trust_code)

    checkpoint = load_checkpoint(source, prefix=prefix, nonlinearity=nonlinearity, batch_first=batch_first, head=head)
    for note in checkpoint.notes:
        say(f"note: {note}")
    artifact = export(checkpoint, output, form=form or "scan", opset=opset, lengths=lengths)
    size = artifact.model_path.stat().st_size
    click.echo(f"{output}: {artifact.spec}, form {artifact.form}, opset {opset}, model.onnx {size:,} bytes")
    say(f"next: rnn-export verify {output}")
    return 0


def _whole_model(source: str, output: Path, form: str, opset: int, trusted: bool) -> int:
    from rnn_export.whole_model.factory import load_factory

    made = load_factory(source, trusted=trusted)  # before torch's exporter is imported, which takes seconds
    from rnn_export.report import print_report
    from rnn_export.whole_model.model_verdict import export_and_verify

    report = export_and_verify(made, output, form=form, opset=opset)
    size = (output / "model.onnx").stat().st_size
    click.echo(f"{output}: {source}, form {form}, opset {opset}, model.onnx {size:,} bytes")
    print_report(report, console())
    return report.exit_code
