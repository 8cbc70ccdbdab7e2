"""Whatever is done to a folder is found, all of it at once, each in its word."""

import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from rnn_export.differences import EXPOSURE, Problem, check_files, file_digests, list_folder, problems_in
from rnn_export.errors import ArtifactError
from rnn_export.manifest import MANIFEST, VERIFICATION, read_manifest
from rnn_export.pipeline import export
from tests.rights import no_rights, open_folder

FLIPS = 600


@pytest.fixture(scope="module")
def master(tmp_path_factory) -> Path:
    return export("rnn:2,3", tmp_path_factory.mktemp("master") / "out").path


@pytest.fixture
def folder(master, tmp_path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(master, tmp_path / "out"))


def problems(folder: Path) -> list[Problem]:
    return problems_in(folder, read_manifest(folder))


def found(folder: Path) -> list[tuple[str, str]]:
    return [(problem.kind, problem.file) for problem in problems(folder)]


def flipped(raw: bytes, place: int, bit: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]


def swap(folder: Path) -> None:
    one, other = folder / "model.onnx", folder / "weights.safetensors"
    one.rename(folder / "x")
    other.rename(one)
    (folder / "x").rename(other)


def link(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "model.onnx")
    (folder / "model.onnx").symlink_to(folder.parent / "model.onnx")


def folder_for_file(folder: Path) -> None:
    (folder / "data.json").unlink()
    (folder / "data.json").mkdir()


def pipe_for_file(folder: Path) -> None:
    (folder / "data.json").unlink()
    os.mkfifo(folder / "data.json")


CHANGES: dict[str, tuple[Callable[[Path], object], list[tuple[str, str]]]] = {
    "changed": (lambda folder: (folder / "data.json").write_bytes(b"{}"), [("changed", "data.json")]),
    "emptied": (lambda folder: (folder / "model.onnx").write_bytes(b""), [("changed", "model.onnx")]),
    "deleted": (lambda folder: (folder / "model.onnx").unlink(), [("missing", "model.onnx")]),
    "added": (lambda folder: (folder / "extra").write_bytes(b"x"), [("extra", "extra")]),
    "added for git": (lambda folder: shutil.copytree(folder.parent / "g", folder / ".git"), [("extra", ".git/config")]),
    "renamed": (lambda folder: (folder / "data.json").rename(folder / "date.json"), [("renamed", "data.json")]),
    "swapped": (swap, [("swapped", "model.onnx"), ("swapped", "weights.safetensors")]),
    "copied over": (
        lambda folder: shutil.copyfile(folder / "data.json", folder / "model.onnx"),
        [("changed", "model.onnx")],
    ),
    "a link": (link, [("linked", "model.onnx")]),
    "a link added": (lambda folder: (folder / "more").symlink_to("/etc"), [("extra", "more")]),
    "a pipe": (pipe_for_file, [("no file", "data.json")]),
    "a folder": (folder_for_file, [("no file", "data.json")]),
    "an empty folder": (lambda folder: (folder / "a" / "b").mkdir(parents=True), [("empty folder", "a/b")]),
    "a hard link": (
        lambda folder: (folder.parent / "other").hardlink_to(folder / "model.onnx"),
        [("hard link", "model.onnx")],
    ),
    "a hard link of the manifest": (
        lambda folder: (folder.parent / "other").hardlink_to(folder / MANIFEST),
        [("hard link", MANIFEST)],
    ),
    "executable": (lambda folder: (folder / "model.onnx").chmod(0o755), [("mode", "model.onnx")]),
    "writable by everybody": (lambda folder: (folder / "data.json").chmod(0o666), [("mode", "data.json")]),
    "setuid": (lambda folder: (folder / "data.json").chmod(0o4644), [("mode", "data.json")]),
    "an open folder": (lambda folder: (folder / "test_data_set_0").chmod(0o777), [("mode", "test_data_set_0")]),
    "the folder itself open": (lambda folder: folder.chmod(0o777), [("mode", ".")]),
}


def test_a_folder_that_was_just_made_has_no_problem(folder):
    assert found(folder) == []
    check_files(folder, read_manifest(folder))


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664, 0o444])
def test_modes_that_umasks_make_are_none(folder, mode):
    for file in list_folder(folder).plain:
        (folder / file).chmod(mode)
    assert found(folder) == []


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_found_in_its_word(folder, what):
    (folder.parent / "g").mkdir()
    (folder.parent / "g" / "config").touch()
    change, expected = CHANGES[what]
    change(folder)
    assert found(folder) == expected
    if {kind for kind, _ in expected} <= EXPOSURE:
        check_files(folder, read_manifest(folder))
    else:
        with pytest.raises(ArtifactError):
            check_files(folder, read_manifest(folder))


def test_all_of_them_are_found_at_once(folder):
    for place in (folder / "model.onnx", folder / "weights.safetensors"):
        place.write_bytes(b"other")
    (folder / "data.json").rename(folder / "other.json")
    shutil.rmtree(folder / "test_data_set_1")
    (folder / "zebra").mkdir()
    (folder / MANIFEST).chmod(0o777)
    assert found(folder) == [
        ("renamed", "data.json"),
        ("changed", "model.onnx"),
        *(("missing", f"test_data_set_1/{name}_{k}.pb") for name in ("input", "output") for k in (0, 1)),
        ("changed", "weights.safetensors"),
        ("empty folder", "zebra"),
        ("mode", MANIFEST),
    ]


def test_details_say_what_is_there_instead(folder):
    swap(folder)
    (folder / "data.json").rename(folder / "Data.json")
    details = {problem.file: problem.detail for problem in problems(folder)}
    assert details["data.json"] == "it is now Data.json"
    assert details["model.onnx"] == "it holds what belongs into weights.safetensors, and the other way round"
    (folder / "Data.json").chmod(0o757)
    assert problems(folder)[-1].detail == "executable and writable by everybody: 0757"


def test_of_two_lost_files_with_one_content_each_is_renamed_once(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"same")
    manifest = {"files": file_digests(tmp_path)}
    (tmp_path / "a").rename(tmp_path / "x")
    (tmp_path / "b").unlink()
    assert [(problem.kind, problem.file) for problem in problems_in(tmp_path, manifest)] == [
        ("renamed", "a"),
        ("missing", "b"),
    ]


def test_a_single_flipped_bit_anywhere_is_found(folder):
    generator = random.Random(0)
    files = sorted(list_folder(folder).plain)
    seen = set()
    for _ in range(FLIPS):
        name = generator.choice(files)
        raw = (folder / name).read_bytes()
        (folder / name).write_bytes(flipped(raw, generator.randrange(len(raw)), generator.randrange(8)))
        try:
            assert found(folder) == [("changed", name)]
        except ArtifactError:
            assert name == MANIFEST
        seen.add(name)
        (folder / name).write_bytes(raw)
    assert seen == {*read_manifest(folder)["files"], MANIFEST}
    assert found(folder) == []


def test_a_record_of_verifications_may_lie_in_an_artifact_alone(folder):
    manifest = read_manifest(folder)
    (folder / VERIFICATION).write_bytes(b"{}")
    assert problems_in(folder, manifest) == []
    whole_model = {**manifest, "kind": "whole-model"}
    assert [problem.kind for problem in problems_in(folder, whole_model)] == ["extra"]


def test_names_that_are_no_text_are_names(folder):
    (folder / os.fsdecode(b"\xff\n")).touch()
    assert found(folder) == [("extra", "\udcff\n")]


def test_a_file_that_cannot_be_read_is_said(master):
    with open_folder() as place:
        folder = Path(shutil.copytree(master, place / "out"))
        (folder / "model.onnx").chmod(0)
        with no_rights():
            (problem,) = problems(folder)
    assert (problem.kind, problem.file) == ("unreadable", "model.onnx")
    assert problem.detail == "it cannot be read: Permission denied"


def test_a_socket_is_no_file(folder, monkeypatch):
    monkeypatch.chdir(folder)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("extra")
        (problem,) = problems(folder)
    assert (problem.kind, problem.detail) == ("extra", "the manifest does not list it, and it is a socket")


def test_a_manifest_with_other_than_digests_is_no_accident(folder):
    manifest = read_manifest(folder)
    odd = {**manifest, "files": {**manifest["files"], "model.onnx": {"sha256": 1}, "../../x": None, "data.json": [1]}}
    kinds = {problem.file: problem.kind for problem in problems_in(folder, odd)}
    assert kinds == {"model.onnx": "changed", "data.json": "changed", "../../x": "missing"}
