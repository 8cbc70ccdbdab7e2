"""``rnn-export demo``."""

import click

from rnn_export.cli._options import say


@click.command("demo")
def command() -> int:
    """The notebook's network, RNN(4 -> 8, relu), by torch and by the ONNX file, each with its verdict."""
    from rnn_export.demonstration import SPEC, STEPS, demonstrate
    from rnn_export.residual import GATE
    from rnn_export.result import Status

    say("computing in torch and in child processes ...")
    shapes, ways = demonstrate()
    click.echo(f"{SPEC}, the weights:")
    for name, shape in shapes.items():
        click.echo(f"  {name:14} {tuple(shape)}")
    click.echo(f"the last hidden state after {STEPS} steps:")
    for way in ways:
        verdict = f"residual {way.residual:.2f}  {way.status.value}" if way.residual is not None else way.status.value
        click.echo(f"  {way.name:30} {verdict}{'  ' + way.detail if way.detail else ''}")
        if way.last is not None:
            click.echo("    " + " ".join(f"{value:9.6f}" for value in way.last))
    click.echo(f"A residual is how many of its own rounding errors a step is off; up to {GATE:g} it is this network.")
    return 1 if any(way.status is not Status.PASS and way.status is not Status.ABSENT for way in ways) else 0
