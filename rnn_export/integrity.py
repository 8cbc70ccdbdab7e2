"""Whether a folder of ours is as it was made: an artifact, a whole model's or a bundle."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnn_export.differences import EXPOSURE, Problem, list_folder, problems_in
from rnn_export.documents import to_document
from rnn_export.errors import ArtifactError, UsageError
from rnn_export.folder import heal
from rnn_export.manifest import VERIFICATION, digest_of, read_manifest
from rnn_export.signing import signature_beside, wrong_with
from rnn_export.verification_file import Verification, read_verification

SCHEMA = 1


@dataclass(frozen=True)
class Integrity:
    """What was checked, and what is wrong with it.

    Attributes:
        name: the folder's.
        kind: artifact, whole-model or bundle.
        files: how many there are, the manifest among them.
        bytes: of all of them.
        digest: the sha256 of the manifest, which binds every other file: to be noted elsewhere.
        problems: everything that is not as it was made; none where it is whole.
        verification: the verdicts that an artifact holds; null where it was never verified.
        signature: of the signature, what is known: none, not checked, good or bad.
    """

    name: str
    kind: str
    files: int
    bytes: int
    digest: str
    problems: tuple[Problem, ...]
    verification: Verification | None
    signature: str

    @property
    def whole(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"schema": SCHEMA, **to_document(self), "whole": self.whole}

    def lines(self) -> list[str]:
        """For people; names in it are the folder's own, and may be hostile."""
        return [
            f"{self.name}   {self.kind}   {self.files} files, {self.bytes:,} bytes",
            f"manifest    sha256 {self.digest}",
            *self._verdicts(),
            f"signature   {self.signature}",
            *(f"{problem.kind.upper():14}{problem.file}: {problem.detail}" for problem in self.problems),
            self._last_line(),
        ]

    def _verdicts(self) -> list[str]:
        if self.kind != "artifact":
            return []
        if self.verification is None:
            return ["verified    on nothing that is recorded here"]
        held = "not looked at" if self.verification.weights is None else self.verification.weights.value
        rows = [f"verified    weights read back: {held}"]
        for name, verdict in self.verification.runtimes.items():
            residual = "" if verdict.residual is None else f", residual {verdict.residual:.3g}"
            when = f"   {verdict.created}" if verdict.created else ""
            said = f"{verdict.status.value} in {verdict.cases} cases{residual}"
            rows.append(f"verified    {name} {verdict.version}: {said}{when}")
        return rows

    def _last_line(self) -> str:
        if self.whole:
            return "WHOLE: every file is as it was made"
        kinds = {problem.kind for problem in self.problems}
        number = f"{len(self.problems)} problem{'s' if len(self.problems) > 1 else ''}"
        if kinds <= EXPOSURE:
            return f"EXPOSED: {number}; the content is right, but others can change it: make a copy, chmod -R o-w,a-x+X"
        if kinds <= EXPOSURE | {"record"}:
            return f"DAMAGED: {number}; the artifact itself is right: verify it again"
        if kinds == {"signature"}:
            return "UNPROVED: every file is as the manifest says, but nothing proves who made the manifest"
        return f"DAMAGED: {number}; do not use it, make it again"


def check(path: Path, public_key: Path | None = None, signature: Path | None = None) -> Integrity:
    """Look at every file of a folder of ours; nothing is loaded.

    Args:
        path: an artifact, a whole model's folder or a bundle.
        public_key: a PEM file: its signature is checked too.
        signature: where that is; DIR.sig beside the folder if None.

    Raises:
        ArtifactError: it is no folder of ours, or its manifest is damaged.
        UsageError: a signature without a key, or model-signing is not installed.
        SourceError: the key cannot be used.
    """
    if signature is not None and public_key is None:
        raise UsageError("a signature proves nothing without the key that it should be by", "Give --public-key FILE")
    with suppress(OSError):  # a place that cannot be looked at is not healed
        heal(path, sweep=False)
    manifest = read_manifest(path)
    kind = manifest.get("kind", "artifact")
    if not isinstance(kind, str):
        raise ArtifactError(f"the manifest of {path} is damaged: its kind is none", "Do not use it; make it again")
    digest = str(digest_of(path))
    try:
        problems = problems_in(path, manifest)
        plain = list_folder(path).plain
    except FileNotFoundError:
        raise ArtifactError(f"{path} was replaced while it was read", "Run it again") from None
    verification = None
    if kind == "artifact" and VERIFICATION in plain:
        try:
            verification = read_verification(path, digest)
        except ArtifactError as error:
            problems.append(Problem("record", VERIFICATION, str(error)))
    place = signature or signature_beside(path)
    state = f"{place.name}: not checked, give --public-key FILE" if place.is_file() else "none"
    if public_key is not None:
        wrong = wrong_with(path, place, public_key)
        state = f"{place.name}: {'bad' if wrong else 'good'}, by {public_key.name}"
        problems += [Problem("signature", place.name, wrong)] if wrong else []
    name, size = path.resolve().name, sum(status.st_size for status in plain.values())
    return Integrity(name, kind, len(plain), size, digest, tuple(problems), verification, state)
