"""Checks as tables: what is planned, one per network for what was found, and one for all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rnn_export.checks import Check, Outcome, missing, present
from rnn_export.configuration import Configuration
from rnn_export.known_failures import news_of, unexplained
from rnn_export.result import Result
from rnn_export.summary import by_runtime, findings_of, printable, verdict_of
from rnn_export.table import HEADINGS, MOST_FINDINGS, NUMBERS, cells, shortened

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rnn_export.report import Report


def print_plan(configuration: Configuration, console: "Console") -> None:
    """Networks, forms and runtimes, and what is missing here."""
    from rich.text import Text

    table = _table("network", "source", "forms", "runtimes")
    for network in configuration.networks:
        source = str(network.source)
        there = isinstance(network.source, str) or network.source.exists()
        said = Text(source) if there else Text(f"{source} is missing", style="bold red")
        said.plain = printable(said.plain)
        table.add_row(network.name, said, ", ".join(network.forms), ", ".join(network.runtimes))
    console.print(table)
    for name, version in present(configuration).items():
        console.print(Text(f"{name} {version} is installed"))
    for name, command in missing(configuration).items():
        console.print(Text(f"{name} is missing: {command}", style="bold red"))
    files = sum(len(network.forms) for network in configuration.networks)
    runs = sum(len(network.forms) * len(network.runtimes) for network in configuration.networks)
    console.print(f"{files} files, {runs} verifications; known failures: {len(configuration.known)}; nothing was run")


def print_outcome(outcome: Outcome, console: "Console") -> None:
    """A table for each network, one for all of them, the known failures that are gone, and the last line."""
    from rich.text import Text

    networks: dict[str, list[Check]] = {}
    for check in outcome.checks:
        networks.setdefault(check.network.name, []).append(check)
    for checks in networks.values():
        _print_network(checks, console)
    _print_overview(outcome.checks, console)
    for one, why in outcome.stale:
        said = printable(f" {one.place}: {one}: {why} ({one.reason}): remove it, or mend it")
        console.print(Text.assemble(("STALE", "bold red"), said))
    console.print(Text(_last_line(outcome), style="bold green" if outcome.exit_code == 0 else "bold red"))


def _print_network(checks: Sequence[Check], console: "Console") -> None:
    from rich.text import Text

    reports = [check.report for check in checks if check.report is not None]
    console.print(Text(printable(f"{checks[0].network.name}   {reports[0].network if reports else ''}".rstrip())))
    table = _table("form", *HEADINGS)
    for check in checks:
        if check.report is not None:
            for name, rows in by_runtime(check.report.results).items():
                table.add_row(check.form, *cells(name, rows), _verdict(check, check.report, rows))
    if reports:
        console.print(table)
    lines = [line for check in checks for line in _lines(check)]
    for line in lines[:MOST_FINDINGS]:
        console.print(Text(printable(line)))
    if len(lines) > MOST_FINDINGS:
        console.print(f"... and {len(lines) - MOST_FINDINGS} more: --format json has them all")
    console.print()


def _lines(check: Check) -> list[str]:
    """What was found in one form, in words: what is not known first."""
    if check.report is None:
        return [f"FAILED form {check.form}: {check.error}"]
    lines = [
        f"{'NOTE' if one.passed else one.status.value} {one.where} in form {check.form}: {shortened(one.detail)}"
        + (f" [{one.code}]" if one.code else "")
        for one in findings_of(unexplained(check.report.results, check.known))
    ]
    for known in check.known:
        count = sum(known.explains(row) for row in check.report.results)
        lines += [f"KNOWN {known} in form {check.form}: {known.reason} (rows: {count})"] if count else []
    return lines


def _verdict(check: Check, report: "Report", rows: Sequence[Result]) -> str:
    """The verdict on one runtime's rows, and whether nothing of it is news."""
    explained = len(unexplained(rows, check.known)) < len(rows)
    known = explained and not news_of(report, rows[0].runtime, check.known)
    return verdict_of(rows).value + (" (known)" if known else "")


def _print_overview(checks: Sequence[Check], console: "Console") -> None:
    runtimes = sorted({name for check in checks for name in check.network.runtimes})
    table = _table("network", "form", *runtimes)
    for check in checks:
        said = ["not exported"]
        if check.report is not None:
            groups = by_runtime(check.report.results)
            said = [_verdict(check, check.report, groups[name]) if name in groups else "" for name in runtimes]
        table.add_row(check.network.name, check.form, *said)
    console.print(table)


def _last_line(outcome: Outcome) -> str:
    failed = [f"{check.network.name} in form {check.form}" for check in outcome.checks if check.exit_code]
    failed += [one.place for one, _ in outcome.stale]
    if failed:
        return f"FAILED: {', '.join(failed)}"
    known = len({one for check in outcome.checks for one in check.known})
    return f"PASSED: {len(outcome.checks)} files" + (f"; known failures: {known}" if known else "")


def _table(*headings: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in NUMBERS else "left", no_wrap=True)
    return table
