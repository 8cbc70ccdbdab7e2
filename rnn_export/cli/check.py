"""``rnn-export check``."""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from rnn_export.cli._options import console, say


@click.command("check")
@click.option("--config", type=click.Path(path_type=Path), help="The file, if it is not rnn-export.toml here.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Keep the artifacts in this folder.")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="Runtimes at once; as many as there are processors if not said."
)
@click.option("--format", "style", type=click.Choice(["human", "json"]), default="human", show_default=True)
@click.option("--dry-run", is_flag=True, help="Say what would be done and what is not installed; run nothing.")
def command(config: Path | None, output: Path | None, jobs: int | None, style: str, dry_run: bool) -> int:
    """Export and verify every network of rnn-export.toml, or of [tool.rnn-export] in pyproject.toml.

    The file lists networks, the forms that each is exported in, the runtimes that have to compute it, and failures that
    are known: those do not fail the run, but one that does not occur any more does. docs/ci.md has an example.

    The exit code is that of the worst verification.

    \b
    Examples:
      rnn-export check --dry-run
      rnn-export check
      rnn-export check --config ci/networks.toml -o artifacts
    """
    from rnn_export.cells import available_processors
    from rnn_export.check_table import print_outcome, print_plan
    from rnn_export.checks import outcome_of, run_checks
    from rnn_export.configuration import find_configuration, read_configuration

    configuration = read_configuration(config or find_configuration(Path()))
    if dry_run:
        print_plan(configuration, console())
        return 0
    checks = []
    with redirect_stdout(sys.stderr):
        for check in run_checks(configuration, output, jobs or available_processors()):
            say(f"{check.network.name} in form {check.form}: exit code {check.exit_code}")
            checks.append(check)
    outcome = outcome_of(configuration, checks)
    if style == "json":
        console().print(json.dumps(outcome.to_dict(), indent=2, allow_nan=False))
    else:
        print_outcome(outcome, console())
    return outcome.exit_code
