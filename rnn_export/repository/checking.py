"""Checking a Triton model repository, whoever wrote it: every rule over every model, as one report."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rnn_export.bundle import Bundle, is_bundle
from rnn_export.child import THREADS
from rnn_export.machine import this_environment, utc_now
from rnn_export.onnxruntime_releases import release_of
from rnn_export.report import Report
from rnn_export.repository.served_models import model_folders, read_models
from rnn_export.result import Result, Stage, Status
from rnn_export.rules import RULES, Model

REPOSITORY = "repository"  # what stands in the column of the runtimes
_STATUS = {"error": Status.MISMATCH, "warning": Status.DIVERGENCE, "note": Status.PASS}


def check_repository(path: Path, *, release: str | None = None) -> Report:
    """Every rule over every model, in each of the versions that Triton serves.

    ONNX files are run in a child process, to prove that axis 0 is the batch. Nothing else of it is executed.

    Args:
        path: a model repository, one model's folder, or a bundle.
        release: of the Triton that shall load it, such as "25.10".

    Raises:
        ArtifactError: there is no model, or a bundle is not whole.
        UsageError: no such release.
    """
    if is_bundle(path):
        Bundle.load(path)  # what was changed after it was shipped is said first
    server = None if release is None else release_of(release)
    folders = model_folders(path)
    root = folders[0].parent if folders != [path] else path
    rows = tuple(row for folder in folders for row in _rows(read_models(folder, root, server), release or ""))
    words = f"Triton model repository, {len(folders)} model{'s' if len(folders) > 1 else ''}"
    return Report(
        artifact=path.resolve().name,
        form="",
        network=words,
        results=rows,
        required=frozenset({REPOSITORY}),
        named=True,
        environment=this_environment(THREADS),
        created=utc_now(),
    )


def _rows(versions: Sequence[Model], release: str) -> Iterator[Result]:
    for model in versions:
        yield from _rows_of(model, release, f"version {model.version}: " if len(versions) > 1 else "")


def _rows_of(model: Model, release: str, which: str) -> Iterator[Result]:
    """A row for every outcome of every rule, and one for each rule that holds without a word."""
    for rule in RULES.in_order():
        outcomes = rule.check(model)
        if outcomes is None:
            continue
        case = f"{model.place} {rule.name}"
        found = list(outcomes)
        for outcome in found:
            status = _STATUS[outcome.level]
            held = status is Status.PASS
            code, step = ("", "") if held else (rule.name, f". {rule.next_step}")
            yield Result(REPOSITORY, release, case, Stage.COMPARE, status, code, detail=which + outcome.detail + step)
        if not found:
            yield Result(REPOSITORY, release, case, Stage.COMPARE, Status.PASS)
