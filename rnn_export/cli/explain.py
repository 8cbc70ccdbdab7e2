"""``rnn-export explain``."""

import click


@click.command("explain")
@click.argument("code", required=False)
def command(code: str | None) -> None:
    """Say what the finding CODE means and what to do; without CODE, list them all."""
    import textwrap

    from rnn_export.findings import FINDINGS, explain

    if code is None:
        for name, finding in FINDINGS.items():
            click.echo(f"{name:16} {finding.meaning.partition('. ')[0].removesuffix('.')}")
        return
    finding = explain(code)
    click.echo(textwrap.fill(finding.meaning, 100))
    click.echo()
    click.echo(textwrap.fill(f"What to do: {finding.remedy}", 100))
