"""A folder is there as a whole or not at all, wherever it is killed and whatever the disk says."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rnn_export.artifact import Artifact
from rnn_export.errors import OutputError
from rnn_export.folder import heal, put_file, replace_folder
from rnn_export.pipeline import export
from tests.subjects import FAKES

MARK = "ours"


def is_ours(folder: Path) -> bool:
    return (folder / MARK).exists()


def filled_with(text: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / MARK).touch()
        (folder / "inner").mkdir()
        (folder / "inner" / "text").write_text(text)

    return fill


def text_in(folder: Path) -> str:
    return (folder / "inner" / "text").read_text()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dead_pid() -> int:
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def final(tmp_path) -> Path:
    """A place at which a folder of ours stands already."""
    replace_folder(tmp_path / "out", filled_with("old"), is_ours)
    return tmp_path / "out"


@pytest.fixture
def quick_folder() -> Iterator[Path]:
    """Where syncing costs nothing, if there is such a place."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        yield Path(place)


class TestReplacing:
    def test_what_stood_there_is_replaced_as_a_whole(self, final):
        (final / "more").touch()
        replace_folder(final, filled_with("new"), is_ours)
        assert text_in(final) == "new"
        assert names_in(final) == ["inner", MARK]
        assert names_in(final.parent) == ["out"]

    def test_missing_parents_are_made(self, tmp_path):
        replace_folder(tmp_path / "a" / "b" / "out", filled_with("new"), is_ours)
        assert text_in(tmp_path / "a" / "b" / "out") == "new"

    def test_an_empty_folder_is_used(self, tmp_path):
        (tmp_path / "out").mkdir()
        replace_folder(tmp_path / "out", filled_with("new"), is_ours)
        assert text_in(tmp_path / "out") == "new"

    def test_somebody_elses_folder_is_kept(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("mine")
        with pytest.raises(OutputError, match="exists and is nothing that this command made") as caught:
            replace_folder(tmp_path / "out", filled_with("new"), is_ours)
        assert str(tmp_path / "out") in str(caught.value)
        assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
        assert names_in(tmp_path) == ["out"]

    def test_a_file_is_kept(self, tmp_path):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(OutputError, match="exists and is nothing that this command made"):
            replace_folder(tmp_path / "out", filled_with("new"), is_ours)
        assert (tmp_path / "out").read_text() == "mine"

    def test_a_file_in_the_place_of_a_parent_is_kept(self, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(OutputError, match="cannot be written"):
            replace_folder(tmp_path / "file" / "out", filled_with("new"), is_ours)
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_link_goes_on_pointing_to_the_folder(self, final):
        link = final.with_name("link")
        link.symlink_to(final)
        replace_folder(link, filled_with("new"), is_ours)
        assert link.is_symlink()
        assert text_in(final) == "new"

    def test_a_relative_name_is_meant_from_here(self, final, monkeypatch):
        monkeypatch.chdir(final.parent)
        replace_folder(Path("out"), filled_with("new"), is_ours)
        assert text_in(final) == "new"

    @pytest.mark.parametrize("name", ["with space", "ünï", ".hidden", "a" * 200, "out[1]", "out*"])
    def test_any_name_will_do(self, tmp_path, name):
        for text in ("old", "new"):
            replace_folder(tmp_path / name, filled_with(text), is_ours)
        assert text_in(tmp_path / name) == "new"
        assert names_in(tmp_path) == [name]


class TestPlacesThatCannotBe:
    @pytest.mark.parametrize("name", ["a**b", "x" * 250, "x" * 300])
    def test_a_name_that_is_hard_to_write_beside_works_or_is_an_output_error(self, tmp_path, name):
        with suppress(OutputError):
            replace_folder(tmp_path / name, filled_with("new"), is_ours)
            assert text_in(tmp_path / name) == "new"
        assert set(names_in(tmp_path)) <= {name}

    def test_the_root_is_kept(self):
        with pytest.raises(OutputError, match="exists and is nothing that this command made"):
            replace_folder(Path("/"), filled_with("new"), is_ours)

    def test_the_empty_folder_that_one_stands_in_is_used(self, tmp_path, monkeypatch):
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        try:
            artifact = export("rnn:3,4", ".")
        finally:
            os.chdir(tmp_path)
        assert artifact.spec.hidden_size == 4


class TestBadDisks:
    """Whatever write fails, and whichever of them: nothing half-written stays, and the old folder does."""

    CALLS = ("mkdir", "rename", "write_text", "touch")

    def fail_at(self, monkeypatch, number: int, code: int) -> list[str]:
        """Let the n-th change of the disk fail; returns the list of those that were asked for."""
        asked: list[str] = []

        def failing(name: str, real):
            def call(*arguments, **options):
                asked.append(name)
                if len(asked) == number:
                    raise OSError(code, os.strerror(code), str(arguments[0]))
                return real(*arguments, **options)

            return call

        for name in self.CALLS:
            monkeypatch.setattr(Path, name, failing(name, getattr(Path, name)))
        monkeypatch.setattr(os, "fsync", failing("fsync", os.fsync))
        return asked

    def outcome(self, final: Path, number: int, code: int) -> tuple[OutputError | None, list[str]]:
        with pytest.MonkeyPatch.context() as patch:
            asked = self.fail_at(patch, number, code)
            try:
                replace_folder(final, filled_with("new"), is_ours)
            except OutputError as error:
                return error, asked
        return None, asked

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
    def test_a_failure_before_the_new_folder_stands_is_an_output_error_and_changes_nothing(self, final, code):
        points = set()
        for number in range(1, 40):
            error, asked = self.outcome(final, number, code)
            if asked.count("rename") == 2:  # a third one would have put the old folder back
                break
            failed = asked[number - 1]
            points.add((failed, asked[:number].count(failed)))
            assert error is not None
            assert str(final) in str(error)
            assert os.strerror(code) in str(error)
            assert (names_in(final.parent), text_in(final)) == (["out"], "old")
        assert {name for name, _ in points} == {*self.CALLS, "fsync"}
        assert {("rename", 1), ("rename", 2)} <= points

    def test_a_failure_after_it_says_what_is_true(self, final):
        for number in range(1, 40):
            error, asked = self.outcome(final, number, errno.EIO)
            if asked.count("rename") == 2:
                break
        assert asked[number - 1] == "fsync"
        assert names_in(final.parent) == ["out"]
        assert error is None or text_in(final) == "old"

    def test_a_full_disk_is_said_and_leaves_nothing(self, tmp_path):
        place = tmp_path / "small"
        place.mkdir()
        line = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
        mounted = subprocess.run(line, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
        try:
            export("rnn:3,4", place / "out")
            before = {path: path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()}
            for _ in range(2):
                with pytest.raises(OutputError, match="No space left on device") as caught:
                    export("rnn:64,256", place / "out")
                assert str(place / "out") in str(caught.value)
                assert names_in(place) == ["out"]
            assert {path: path.read_bytes() for path in (place / "out").rglob("*") if path.is_file()} == before
            assert Artifact.load(place / "out").spec.hidden_size == 4
            with pytest.raises(OutputError, match="No space left on device"):
                export("rnn:64,256", place / "another")
            assert names_in(place) == ["out"]
        finally:
            subprocess.run(["umount", str(place)], check=True)  # noqa: S607

    def test_an_accident_that_is_no_disks_fault_goes_through_and_leaves_nothing(self, final):
        def fill(folder: Path) -> None:
            filled_with("new")(folder)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            replace_folder(final, fill, is_ours)
        assert names_in(final.parent) == ["out"]
        assert text_in(final) == "old"


class TestKills:
    @pytest.mark.parametrize(
        "start",
        [[], ["fresh"], ["external"]],
        ids=["over an artifact", "where nothing stood", "with weights beside the model"],
    )
    def test_a_kill_at_any_change_of_the_disk_leaves_the_old_or_the_new_and_heals(self, quick_folder, start):
        line = [sys.executable, str(FAKES / "killed_export.py"), str(quick_folder), *start]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        records = [json.loads(text) for text in done.stdout.splitlines()]
        assert [record["killed"] for record in records] == [True] * (len(records) - 1) + [False]
        assert len(records) > 20
        read = [record["read"] for record in records]
        if "fresh" in start:
            assert set(read) <= {
                "new",
                "ArtifactError: /out does not exist. Make it with rnn-export export SOURCE -o DIR",
            }
        else:
            assert set(read) == {"old", "new"}
            assert read == sorted(read, reverse=True)  # never back to the old one
            assert any("out" not in record["left"] for record in records), "no kill between the two renames"
        assert {record["then"] for record in records} == {"new"}
        assert all(record["after"] == ["out"] for record in records)


class TestHealing:
    def test_an_old_folder_that_was_moved_aside_is_put_back(self, final):
        final.rename(final.with_name(".out.rnn-export-old"))
        heal(final)
        assert text_in(final) == "old"
        assert names_in(final.parent) == ["out"]

    def test_an_old_folder_beside_a_new_one_is_removed(self, final):
        shutil.copytree(final, final.with_name(".out.rnn-export-old"))
        (final / "inner" / "text").write_text("new")
        heal(final)
        assert text_in(final) == "new"
        assert names_in(final.parent) == ["out"]

    def test_what_a_dead_process_left_is_removed_and_nothing_while_somebody_writes(self, final):
        script = (
            "import os, sys; from pathlib import Path; from rnn_export.folder import _new_folder\n"
            "with _new_folder(Path(sys.argv[1])) as new: print(new.name, flush=True); sys.stdin.read()"
        )
        line = [sys.executable, "-c", script, str(final)]
        with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living:
            name = living.stdout.readline().strip()
            final.with_name(".out.rnn-export-new-dead").mkdir()
            final.rename(final.with_name(".out.rnn-export-old"))
            heal(final)
            assert names_in(final.parent) == sorted([name, ".out.rnn-export-old"])
            living.kill()
        heal(final)
        assert names_in(final.parent) == ["out"]
        assert text_in(final) == "old"

    def test_another_folders_leftovers_are_not_touched(self, final):
        others = [".output.rnn-export-old", f".output.rnn-export-new-{dead_pid()}", ".out.rnn-export-newer", ".out"]
        for name in others:
            final.with_name(name).mkdir()
        heal(final)
        assert names_in(final.parent) == sorted([*others, "out"])

    def test_where_nothing_was_left_nothing_happens(self, tmp_path):
        heal(tmp_path / "no" / "such" / "out")
        assert names_in(tmp_path) == []

    def test_leftovers_of_a_name_with_brackets_are_removed(self, tmp_path):
        (tmp_path / f".out[1].rnn-export-new-{dead_pid()}").mkdir()
        heal(tmp_path / "out[1]")
        assert names_in(tmp_path) == []

    def test_what_an_earlier_process_of_the_same_number_left_is_no_hindrance(self, final):
        final.with_name(f".out.rnn-export-new-{os.getpid()}").mkdir()
        replace_folder(final, filled_with("new"), is_ours)
        assert text_in(final) == "new"
        assert names_in(final.parent) == ["out"]

    def test_two_threads_of_one_process_do_not_remove_each_others_work(self, final):
        """The second one starts while the first one fills."""

        def fill(folder: Path) -> None:
            filled_with("first")(folder)
            with suppress(OutputError):
                replace_folder(final, filled_with("second"), is_ours)
            assert text_in(folder) == "first"

        replace_folder(final, fill, is_ours)
        assert text_in(final) == "first"


class TestReaders:
    """Whoever reads an artifact heals it first, also while somebody else is at work on it."""

    def test_a_new_folder_is_never_taken_for_a_stray(self, final, monkeypatch):
        real, calls = fcntl.flock, []

        def flock(descriptor: int, how: int) -> None:
            calls.append(how)
            if len(calls) == 1:  # the writer's own: somebody reads just before it
                heal(final, sweep=False)
            real(descriptor, how)

        monkeypatch.setattr(fcntl, "flock", flock)
        replace_folder(final, filled_with("new"), is_ours)
        assert text_in(final) == "new"
        assert names_in(final.parent) == ["out"]

    def test_a_folder_that_is_moved_aside_is_not_put_back_under_the_writers_hands(self, final, monkeypatch):
        real, moved = Path.rename, []

        def rename(path: Path, target: Path) -> Path:
            moved.append(real(path, target))
            if len(moved) == 1:  # the old one is aside: somebody reads just now
                heal(final)
            return moved[-1]

        monkeypatch.setattr(Path, "rename", rename)
        replace_folder(final, filled_with("new"), is_ours)
        assert text_in(final) == "new"
        assert names_in(final.parent) == ["out"]


class TestPutFile:
    def test_a_file_is_put_there_and_replaced(self, final):
        assert put_file(final, "note", lambda: b"one")
        assert put_file(final, "note", lambda: (final / "note").read_bytes() + b" two")
        assert (final / "note").read_bytes() == b"one two"
        assert names_in(final) == ["inner", "note", MARK]
        assert names_in(final.parent) == ["out"]

    def test_nothing_is_put_where_there_is_nothing_to_say(self, final):
        assert not put_file(final, "note", lambda: None)
        assert names_in(final) == ["inner", MARK]

    def test_a_link_is_replaced_and_not_followed(self, final, tmp_path):
        (tmp_path / "other").write_bytes(b"mine")
        (final / "note").symlink_to(tmp_path / "other")
        assert put_file(final, "note", lambda: b"new")
        assert (tmp_path / "other").read_bytes() == b"mine"
        assert not (final / "note").is_symlink()

    def test_what_cannot_be_written_changes_nothing(self, final):
        (final / "note" / "deep").mkdir(parents=True)
        with pytest.raises(OSError, match="directory"):
            put_file(final, "note", lambda: b"new")
        assert names_in(final) == ["inner", "note", MARK]
        assert names_in(final.parent) == ["out"]

    def test_it_goes_into_the_folder_that_was_looked_at(self, final):
        """Another one that takes its place meanwhile does not get it."""

        def replaced_meanwhile() -> bytes:
            replace_folder(final, filled_with("new"), is_ours)
            return b"about the old one"

        with suppress(OSError):  # the old one is gone by then
            put_file(final, "note", replaced_meanwhile)
        assert names_in(final) == ["inner", MARK]
        assert text_in(final) == "new"
        assert names_in(final.parent) == ["out"]

    def test_processes_that_add_at_once_lose_nothing(self, final):
        script = (
            "import sys\nfrom pathlib import Path\nfrom rnn_export.folder import put_file\n"
            "folder, letter = Path(sys.argv[1]), sys.argv[2].encode()\nnote = folder / 'note'\n"
            "def longer(): return (note.read_bytes() if note.exists() else b'') + letter\n"
            "for _ in range(20): put_file(folder, 'note', longer)"
        )
        processes = [subprocess.Popen([sys.executable, "-c", script, str(final), letter]) for letter in "abc"]
        assert [process.wait(60) for process in processes] == [0, 0, 0]
        assert sorted((final / "note").read_bytes()) == sorted(b"abc" * 20)
        assert names_in(final.parent) == ["out"]
