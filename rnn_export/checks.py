"""Every network of a configuration in every form on every runtime that has to compute it, and what that comes to."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnn_export.configuration import Configuration, Network
from rnn_export.environments import how_to_install, installed_version, interpreter_of
from rnn_export.errors import RnnExportError
from rnn_export.forms import FORMS
from rnn_export.known_failures import KnownFailure, exit_code_beside, why_stale
from rnn_export.pipeline import export, verify
from rnn_export.report import Report, error_document
from rnn_export.runtimes import RUNTIMES


@dataclass(frozen=True)
class Check:
    """One network in one form.

    Attributes:
        known: the known failures that cover it.
        report: its verification; None where it could not be exported, which ``error`` says.
    """

    network: Network
    form: str
    known: tuple[KnownFailure, ...]
    report: Report | None = None
    error: RnnExportError | None = None

    @property
    def exit_code(self) -> int:
        if self.report is None:
            return self.error.exit_code if self.error is not None else 5
        return exit_code_beside(self.report, self.known)

    def to_dict(self) -> dict[str, Any]:
        """Its names, exit code, and report, or the document of the error in its place."""
        found = self.report.to_dict() if self.report is not None else self.error and error_document(self.error)
        return {"network": self.network.name, "form": self.form, "exit_code": self.exit_code, "report": found}


@dataclass(frozen=True)
class Outcome:
    """What all checks come to.

    Attributes:
        checks: in the order of the file.
        stale: the known failures that are none any more, and why.
    """

    checks: tuple[Check, ...]
    stale: tuple[tuple[KnownFailure, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """For programs: every report as ``verify --format json`` has it."""
        return {
            "checks": [check.to_dict() for check in self.checks],
            "stale": [{"known_failure": one.place, "reason": one.reason, "why": why} for one, why in self.stale],
            "exit_code": self.exit_code,
        }

    @property
    def exit_code(self) -> int:
        """0, or the smallest other one, as in a verification 1 outranks 4; 1 for a known failure that is gone."""
        codes = {check.exit_code for check in self.checks} | ({1} if self.stale else set())
        return min(codes - {0}, default=0)


def planned(configuration: Configuration) -> list[Check]:
    """What there is to check; nothing has run."""
    return [
        Check(network, form, tuple(one for one in configuration.known if one.covers(network.name, form)))
        for network in configuration.networks
        for form in network.forms
    ]


def missing(configuration: Configuration) -> dict[str, str]:
    """How to install each required runtime that is not here."""
    names = sorted({name for network in configuration.networks for name in network.runtimes})
    absent = [runtime for runtime in map(RUNTIMES.get, names) if interpreter_of(runtime) is None]
    return {runtime.name: how_to_install(runtime) for runtime in absent}


def present(configuration: Configuration) -> dict[str, str]:
    """The version of each required runtime that is here."""
    names = {name for network in configuration.networks for name in network.runtimes}
    return {name: installed_version(RUNTIMES.get(name)) for name in sorted(names - missing(configuration).keys())}


def run_checks(configuration: Configuration, output: Path | None = None, jobs: int = 1) -> Iterator[Check]:
    """Export and verify, one check after the other.

    Args:
        configuration: what to check.
        output: a folder for the artifacts, each in NAME-FORM; a temporary one if None.
        jobs: how many runtimes at once, as ``verify`` has it.
    """
    with _folder(output) as folder:
        for check in planned(configuration):
            network, fixed = check.network, FORMS.get(check.form).length == "fixed"
            place, steps = folder / f"{network.name}-{check.form}", network.steps if fixed else None
            drawing: dict[str, Any] = {"opset": network.opset, "lengths": network.lengths, "steps": steps}
            report, error = None, None
            try:
                artifact = export(network.source, place, form=check.form, **drawing, **network.reading)
                report = verify(
                    artifact.path,
                    runtimes=network.runtimes,
                    require=network.runtimes,
                    timeout=configuration.timeout,
                    strict=configuration.strict,
                    jobs=jobs,
                )
            except RnnExportError as raised:  # the others can still be checked
                error = raised
            yield Check(network, check.form, check.known, report, error)


def outcome_of(configuration: Configuration, checks: Sequence[Check]) -> Outcome:
    """What the checks that ran come to."""
    stale = []
    for one in configuration.known:
        seen = [(check.report, check.known) for check in checks if one in check.known and check.report is not None]
        if why := why_stale(one, seen):
            stale.append((one, why))
    return Outcome(tuple(checks), tuple(stale))


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    if output is not None:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as folder:
        yield Path(folder)
