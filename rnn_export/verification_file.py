"""The record of its verifications that an artifact holds: ``verification.json``.

It is bound to the manifest's digest, so that the record of other bytes counts for nothing, and sealed like the manifest
against damage. It is no signature: who can write the folder can write it. An artifact is loaded whatever stands in it,
because a damaged record is mended by verifying again; here it is refused.
"""

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rnn_export.documents import from_document, to_document
from rnn_export.errors import ArtifactError, UsageError
from rnn_export.folder import put_file
from rnn_export.manifest import VERIFICATION, digest_of, read_manifest, sealed
from rnn_export.result import NO_RUNTIMES, Status
from rnn_export.summary import by_runtime, verdict_of

if TYPE_CHECKING:
    from rnn_export.artifact import Artifact
    from rnn_export.report import Report

SCHEMA = 1
MOST_BYTES = 1 << 20  # a verdict takes 250; what is larger is not ours and is not read


@dataclass(frozen=True)
class RuntimeVerdict:
    """What one runtime last showed.

    Attributes:
        status: the verdict on it.
        version: of the runtime's package.
        cases: how many inputs it computed rightly.
        residual: the largest step residual; null where none was measured.
        reference: whether it runs the weights and never the file.
        created: when, in UTC.
    """

    status: Status
    version: str
    cases: int
    residual: float | None = None
    reference: bool = False
    created: str | None = None


@dataclass(frozen=True)
class Verification:
    """The verdicts on one artifact.

    Attributes:
        artifact: the sha256 of its manifest.
        weights: whether the file holds its weights; null where nobody looked.
        runtimes: name -> what it last showed.
    """

    artifact: str
    weights: Status | None = None
    runtimes: Mapping[str, RuntimeVerdict] = field(default_factory=dict)

    @property
    def passed_on(self) -> Mapping[str, RuntimeVerdict]:
        """The runtimes that computed the file rightly; none where the file holds other weights than it should."""
        if self.weights is not Status.PASS:
            return {}
        return {
            name: verdict
            for name, verdict in self.runtimes.items()
            if verdict.status is Status.PASS and not verdict.reference
        }

    def followed_by(self, later: "Verification") -> "Verification":
        """Both; of a runtime that is in both, what it showed later."""
        weights = self.weights if later.weights is None else later.weights
        return replace(later, weights=weights, runtimes={**self.runtimes, **later.runtimes})


def record_verification(path: Path, report: "Report") -> bool:
    """Leave the verdicts of a report in the artifact that was verified, beside earlier ones.

    Args:
        path: the artifact's folder.
        report: of its verification.

    Returns:
        Whether they are there: not where the folder cannot be written, is no artifact, or was exported anew meanwhile.
    """
    found = _in_report(report)
    if found is None:
        return False
    try:
        return put_file(path, VERIFICATION, lambda: _merged(path, found))
    except OSError:
        return False


def verification_of(artifact: "Artifact") -> Verification | None:
    """The record in an artifact's folder; None where there is none.

    Raises:
        ArtifactError: it is damaged, or that of another artifact.
    """
    return read_verification(artifact.path, artifact.digest)


def verification_from_report(report: "Report", artifact: "Artifact") -> Verification:
    """The verdicts of a report, for an artifact whose folder could not be written.

    Raises:
        UsageError: the report is about something else.
    """
    found = _in_report(report)
    if found is None or found.artifact != artifact.digest:
        raise UsageError(
            f"the report is about another artifact than {artifact.path}, or about other bytes of it",
            f"Make one with rnn-export verify {artifact.path} --report FILE.json",
        )
    return found


def read_verification(path: Path, digest: str) -> Verification | None:
    """The record in a folder whose manifest has that sha256; None where there is none.

    Raises:
        ArtifactError: it is damaged, or that of another artifact.
    """
    file = path / VERIFICATION
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise ArtifactError(f"{VERIFICATION} in {path} is no plain file", "Remove it")
        with file.open("rb") as stream:
            raw = stream.read(MOST_BYTES)
    except FileNotFoundError:
        return None
    again = f"Run rnn-export verify {path}, which writes it anew"
    try:
        document = json.loads(raw)
        document.pop("sha256")
        if raw != sealed(document):
            raise ValueError("it was changed")
        if document["schema"] != SCHEMA:
            raise ValueError(f"it has schema {str(document['schema'])[:20]}, not {SCHEMA}")
        found = from_document(Verification, document)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{VERIFICATION} in {path} is damaged: {error}", again) from None
    if found.artifact != digest:
        raise ArtifactError(f"{VERIFICATION} in {path} is about another artifact", again)
    return found


def _merged(path: Path, found: Verification) -> bytes | None:
    """None where the folder is not that artifact."""
    try:
        if "kind" in read_manifest(path) or digest_of(path) != found.artifact:
            return None
    except ArtifactError:
        return None
    try:
        earlier = read_verification(path, found.artifact)
    except ArtifactError:
        earlier = None
    every = found if earlier is None else earlier.followed_by(found)
    return sealed({"schema": SCHEMA, **to_document(every)})


def _in_report(report: "Report") -> Verification | None:
    """None where the report is about no artifact."""
    if report.digest is None:
        return None
    groups = by_runtime([row for row in report.results if row.status is not Status.ABSENT])
    verdicts = {}
    for name, rows in groups.items():
        residuals = [row.residual for row in rows if row.residual is not None]
        verdicts[name] = RuntimeVerdict(
            verdict_of(rows),
            rows[0].version,
            sum(row.passed for row in rows),
            max(residuals, default=None),
            name.partition("@")[0] in report.references,  # torch@2.10 is torch too
            report.created,
        )
    weights = verdicts["file"].status if "file" in verdicts else None
    runtimes = {name: verdict for name, verdict in verdicts.items() if name not in NO_RUNTIMES}
    return Verification(report.digest, weights, runtimes)
