"""``rnn-export list forms``."""

import click


@click.command("list")
@click.argument("what", type=click.Choice(["forms"]))
def command(what: str) -> None:
    """List the FORMS that a network can be drawn in."""
    from rnn_export.cli._options import console
    from rnn_export.forms import FORMS

    for form in FORMS:
        console().print(f"{form.name:10} opset {form.min_opset}+   {form.summary}")
