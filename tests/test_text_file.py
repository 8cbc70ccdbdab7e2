"""A file is put in place as a whole, and a place that cannot be written is known before."""

import os
import stat

import pytest

from rnn_export.errors import OutputError
from rnn_export.text_file import check_place, write_text


def test_a_look_leaves_nothing_behind(tmp_path):
    check_place(tmp_path / "a" / "b" / "x.json")
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_and_an_old_file_is_replaced_by_one_that_others_may_read(tmp_path):
    place = tmp_path / "a" / "b" / "x.json"
    for text in ("first\n", "é\r\n"):
        write_text(place, text)
        assert place.read_bytes() == text.encode()
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(place.stat().st_mode) == 0o666 & ~umask
    assert [file.name for file in place.parent.iterdir()] == ["x.json"]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link.json").symlink_to("real.json")
    write_text(tmp_path / "link.json", "x")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "x"


@pytest.mark.parametrize("make", [lambda place: place.mkdir(), lambda place: os.mkfifo(place)], ids=["folder", "pipe"])
def test_what_is_no_file_is_not_replaced(tmp_path, make):
    make(tmp_path / "x.json")
    with pytest.raises(OutputError, match=r"x\.json is no file that could be replaced"):
        check_place(tmp_path / "x.json")


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    for attempt in (check_place, lambda file: write_text(file, "x")):
        with pytest.raises(
            OutputError, match=r"x\.json cannot be written: (Not a directory|File exists)\. Choose another place"
        ):
            attempt(tmp_path / "file" / "x.json")
