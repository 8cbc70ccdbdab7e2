"""Reading somebody else's repository: whatever lies there is said in words, and nothing of it is executed."""

import os
import shutil
from pathlib import Path

import pytest

from rnn_export.errors import ArtifactError, UsageError
from rnn_export.report import Report
from rnn_export.repository.checking import check_repository
from rnn_export.repository.model_files import LARGEST_CONFIG
from rnn_export.result import Status
from scripts.wrong.repositories import PAIRS, network, sizes, stateless, write


def found(report: Report) -> list[tuple[str, str]]:
    return [(row.code, row.detail) for row in report.results if row.code]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return write(tmp_path / "repository", network(), stateless())


def test_every_model_is_checked_and_every_rule_that_holds_is_a_row(tmp_path):
    folder = tmp_path / "repository"
    write(folder, network(), stateless())
    write(folder, network(batch_first=False), stateless(), name="time_major")
    report = check_repository(folder)
    assert report.exit_code == 1
    assert {row.case for row in report.results if row.code} == {"time_major/1 T2"}
    assert {row.case.split()[0] for row in report.results if row.passed} == {"lstm/1", "time_major/1"}
    assert {row.runtime for row in report.results} == report.required == {"repository"}
    cases = [row.case for row in report.results]
    assert len(cases) == len(set(cases))


def test_the_table_reads_well(tmp_path):
    PAIRS["T4"].wrong(tmp_path / "repository")
    lines = str(check_repository(tmp_path / "repository")).splitlines()
    assert lines[0].startswith("repository   Triton model repository, 1 model")
    assert lines[3].startswith("MISMATCH repository at lstm/1 T4: lstm/config.pbtxt: state 'h_in' has no initial_state")
    assert lines[3].endswith("Write initial_state with zero_data: true for it [T4]")
    assert lines[-1].startswith("FAILED: repository MISMATCH")


def test_one_model_and_a_bundle_are_checked_too(repository, tmp_path, monkeypatch):
    assert check_repository(repository / "lstm").exit_code == 0
    monkeypatch.chdir(repository / "lstm")
    assert {row.case.split()[0] for row in check_repository(Path()).results} == {"lstm/1"}
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    shutil.copytree(repository, bundle / "models")
    (bundle / "manifest.json").write_text("{}")
    (bundle / "proof").mkdir()
    assert check_repository(bundle).exit_code == 0


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch], ids=["nothing", "empty", "file"])
def test_what_is_no_repository_is_refused(make, tmp_path):
    make(tmp_path / "place")
    with pytest.raises(ArtifactError, match="place"):
        check_repository(tmp_path / "place")


def test_an_unknown_release_is_refused(repository):
    with pytest.raises(UsageError, match=r"23\.01"):
        check_repository(repository, release="23.01")


def test_an_ensemble_is_left_to_its_models(repository):
    (repository / "both" / "1").mkdir(parents=True)
    text = 'platform: "ensemble" max_batch_size: 8 ensemble_scheduling { step [ { model_name: "lstm" } ] }'
    (repository / "both" / "config.pbtxt").write_text(text)
    report = check_repository(repository)
    assert found(report) == []
    assert any("an ensemble" in row.detail for row in report.results)


def test_an_older_platform_is_a_backend_too(tmp_path):
    config = stateless(backend=None, platform="onnxruntime_onnx")
    report = check_repository(write(tmp_path / "repository", network(batch_first=False), config))
    assert [code for code, _ in found(report)] == ["T2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"max_batch_size: eight", "lstm/config.pbtxt, line 1"),
        (b"\xff\xfe", "is no UTF-8 text"),
        (b"#" * (LARGEST_CONFIG + 1), "cannot be loaded"),
    ],
    ids=["damaged", "bytes", "huge"],
)
def test_a_configuration_that_cannot_be_read(content, said, repository):
    (repository / "lstm" / "config.pbtxt").write_bytes(content)
    report = check_repository(repository)
    assert [code for code, _ in found(report)] == ["unreadable"]
    assert said in found(report)[0][1]
    assert report.exit_code == 1


@pytest.mark.parametrize("content", [b"", b"no protobuf", b"\x08\x08"], ids=["empty", "text", "no graph"])
def test_a_model_that_cannot_be_read(content, repository):
    (repository / "lstm" / "1" / "model.onnx").write_bytes(content)
    report = check_repository(repository)
    assert "unreadable" in {code for code, _ in found(report)}
    assert "lstm/1/model.onnx is no ONNX file" in found(report)[-1][1]
    assert report.exit_code == 1


def test_a_model_that_is_too_large_for_one_file(repository):
    with (repository / "lstm" / "1" / "model.onnx").open("wb") as stream:
        stream.truncate(2**31)  # a hole: it takes no space
    assert any("2,147,483,648 bytes" in detail for _, detail in found(check_repository(repository)))


@pytest.mark.parametrize("file", ["config.pbtxt", "1/model.onnx"])
def test_what_is_no_plain_file_is_not_opened(file, repository, tmp_path):
    place = repository / "lstm" / file
    place.unlink()
    os.mkfifo(place)  # reading it would wait for ever
    assert any("is no plain file" in detail for code, detail in found(check_repository(repository)))


@pytest.mark.parametrize("file", ["config.pbtxt", "1/model.onnx"])
def test_links_are_followed_inside_of_the_repository_only(file, repository, tmp_path):
    place = repository / "lstm" / file
    place.rename(repository / ".store")
    place.symlink_to(repository / ".store")
    assert found(check_repository(repository)) == []
    shutil.move(repository / ".store", tmp_path / "outside")
    assert any("leads nowhere" in detail for _, detail in found(check_repository(repository)))
    place.unlink()
    place.symlink_to(tmp_path / "outside")
    report = check_repository(repository)
    assert any("is a link out of the repository" in detail for _, detail in found(report))
    assert report.exit_code == 1


@pytest.mark.parametrize("name", ["../../lstm/1/model.onnx", "/etc/hostname"])
def test_a_file_name_that_leads_elsewhere_is_not_followed(name, tmp_path):
    report = check_repository(write(tmp_path / "repository", network(), stateless(default_model_filename=name)))
    assert any("leads elsewhere" in detail for code, detail in found(report) if code == "unreadable")


def test_no_program_of_a_repository_is_executed(tmp_path):
    folder = write(tmp_path / "repository", network(), stateless(backend="python"))
    trap = f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()"
    for place in (folder / "lstm" / "1", folder / "lstm", folder):
        for name in ("model.py", "__init__.py", "sitecustomize.py", "onnxruntime.py", "numpy.py"):
            (place / name).write_text(trap)
    report = check_repository(folder)
    assert not (tmp_path / "ran").exists()
    assert [code for code, _ in found(report)] == ["T2"]


def test_hostile_names_are_printed_harmlessly(tmp_path):
    config = stateless(input=[sizes("x\x1b[2J\n", -1, 4)])
    report = check_repository(write(tmp_path / "repository", network(), config, name="a\x1b[31m"))
    text = str(report)
    assert "\x1b" not in text
    assert report.exit_code == 1


def test_nothing_is_a_runtime_that_passed_by_itself(repository):
    """A report of warnings alone would be one in which nothing was checked."""
    report = check_repository(repository)
    assert {row.status for row in report.results} == {Status.PASS}
    assert len(report.results) >= 6
