"""A plot has every row that ran and the limit, over what has several values, and is the same for the same benchmark."""

import re

import pytest

from rnn_export.benchmark import plot
from rnn_export.benchmark.plot import check_plot, write_plot
from rnn_export.errors import OutputError, UsageError
from rnn_export.result import Status
from tests.benchmark.scores import failed, point, row, score

pytest.importorskip("matplotlib")


def grid_of(widths, batches):
    return score(*(point(row("rnn", 5.0 * H / B), H=H, B=B) for H in widths for B in batches))


def words_in(benchmark, folder, monkeypatch) -> list[str]:
    monkeypatch.setattr(plot, "SETTINGS", {**plot.SETTINGS, "svg.fonttype": "none"})
    write_plot(benchmark, folder / "plot.svg")
    return re.findall(r"<text[^>]*>([^<]*)</text>", (folder / "plot.svg").read_text())


@pytest.mark.parametrize(
    ("widths", "batches", "titles"),
    [
        ([32, 64], [1, 8], ["B = 1", "B = 8", "H = 32", "H = 64"]),
        ([32, 64], [8], ["B = 8"]),
        ([64], [1, 8], ["H = 64"]),
        ([64], [1], ["B = 1"]),
    ],
)
def test_there_is_a_drawing_for_each_value_of_the_other_axis(widths, batches, titles, tmp_path, monkeypatch):
    words = words_in(grid_of(widths, batches), tmp_path, monkeypatch)
    assert [word for word in words if re.fullmatch(r"[BH] = \d+", word)] == titles
    assert {*map(str, widths if len(widths) > 1 else batches)} <= set(words)
    assert words.count("microseconds per step") == len(titles)


def test_the_legend_has_each_row_that_ran_once_and_the_limit(tmp_path, monkeypatch):
    absent = failed("rnn", Status.ABSENT, "not installed", "openvino")
    words = words_in(score(point(row("rnn", 5.0), absent), point(row("rnn", 5.0), H=128)), tmp_path, monkeypatch)
    for label in ("torch", "rnn on onnxruntime-cpu", "limit of this machine"):
        assert words.count(label) == 1
    assert "rnn on openvino" not in words


def test_more_rows_than_colours_have_other_markers(tmp_path):
    rows = [row(f"form{index}", 1.0 + index) for index in range(25)]
    write_plot(score(point(*rows)), tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").stat().st_size


def test_without_a_limit_the_rows_are_drawn(tmp_path):
    write_plot(score(point(row("rnn", 2.0), limit=None, problem="...")), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_same_benchmark_gives_the_same_bytes(suffix, tmp_path):
    for name in ("one", "two"):
        write_plot(grid_of([32, 64], [1]), tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


class TestBefore:
    def test_another_suffix_is_said(self, tmp_path):
        with pytest.raises(UsageError, match=r"plot.pdf is no name of a plot. Choose one of .png, .svg"):
            check_plot(tmp_path / "plot.pdf")

    def test_matplotlib_is_looked_for(self, tmp_path, monkeypatch):
        monkeypatch.setattr(plot, "find_spec", lambda name: None)
        with pytest.raises(UsageError, match="a plot needs matplotlib"):
            check_plot(tmp_path / "plot.png")

    def test_a_place_that_cannot_be_written_is_said_and_nothing_is_left(self, tmp_path):
        (tmp_path / "plot.png").mkdir()
        with pytest.raises(OutputError, match="is no file that could be replaced"):
            check_plot(tmp_path / "plot.png")
        check_plot(tmp_path / "other.svg")
        assert [file.name for file in tmp_path.iterdir()] == ["plot.png"]
