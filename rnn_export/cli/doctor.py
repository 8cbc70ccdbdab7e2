"""``rnn-export doctor``."""

import json

import click

from rnn_export.cli._options import console


@click.command("doctor")
@click.option("--format", "style", type=click.Choice(["human", "json"]), default="human", show_default=True)
def command(style: str) -> int:
    """Check this machine, and print what a bug report needs. Exits with 1 where something is wrong."""
    from rnn_export.diagnosis import diagnose

    findings = diagnose()
    if style == "json":
        click.echo(json.dumps([finding.to_dict() for finding in findings], indent=2))
    else:
        from rich.text import Text

        marks = {True: ("ok  ", "green"), False: ("BAD ", "bold red"), None: ("--  ", "dim")}
        for finding in findings:
            remedy = f"  ({finding.remedy})" if finding.remedy else ""
            console().print(Text.assemble(marks[finding.ok], f" {finding.name:22} {finding.value}{remedy}"))
    return 1 if any(finding.ok is False for finding in findings) else 0
