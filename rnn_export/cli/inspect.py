"""``rnn-export inspect``."""

import click


@click.command("inspect")
@click.argument("file")
@click.option("--format", "layout", type=click.Choice(["human", "json"]), default="human", show_default=True)
def command(file: str, layout: str) -> None:
    """Say what is inside FILE: a checkpoint, an ONNX file or an artifact.

    Of a checkpoint: the recurrent parts with the spectral radius of each W_hh, the Linears that can follow, what is
    not said and has to be assumed, and what others would run to read it; nothing of it is run here. Of an ONNX file:
    operators, which axes are dynamic, frozen or only say that they are dynamic, opset and size.
    """
    import json

    from rnn_export.pipeline import describe
    from rnn_export.unpickling import printable

    description = describe(file)
    if layout == "json":
        click.echo(json.dumps(description.to_dict(), indent=2, allow_nan=False))
        return
    for line in description.lines():
        click.echo(printable(line))  # names come from the file
