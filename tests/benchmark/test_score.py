"""The model is read back as it was written, and says what came of the rows that count."""

import json

import pytest

from rnn_export.benchmark.score import Benchmark, read_benchmark, render_json
from rnn_export.errors import SourceError
from rnn_export.result import Status
from tests.benchmark.scores import failed, point, row, score, with_ratios


def test_it_is_read_back_as_it_was_written(tmp_path):
    absent = failed("rnn", Status.ABSENT, "not installed: ...", "openvino")
    written = score(point(row("rnn", 5.0), absent), point(limit=None, problem="no product"), threads=2)
    file = tmp_path / "bench.json"
    file.write_text(render_json(written))
    assert read_benchmark(file) == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "bench.json is no JSON"),
        ("[]", "bench.json: this is no benchmark of schema 1, but of 'None'"),
        ('{"schema": 2}', "but of '2'"),
        ('{"schema": 1, "threads": "two"}', "the benchmark is damaged: threads is 'two'"),
    ],
)
def test_what_is_none_is_said_with_the_files_name(text, message, tmp_path):
    file = tmp_path / "bench.json"
    file.write_text(text)
    with pytest.raises(SourceError, match=message):
        read_benchmark(file)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SourceError, match=r"nowhere\.json cannot be read: No such file"):
        read_benchmark(tmp_path / "nowhere.json")


def test_one_field_more_is_passed_over():
    written = with_ratios({"rnn": 2.0})
    data = json.loads(render_json(written))
    data["points"][0]["rows"][0]["one more"] = 1
    assert Benchmark.from_dict(data) == written


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([], 0),
        ([failed("int8", Status.REFUSED, "no kernel")], 0),
        ([failed("int8", Status.REFUSED, "no kernel", named=True)], 1),
        ([failed("int8", Status.ABSENT, "not installed", named=True)], 4),
        ([failed("int8", Status.CRASHED, "SIGSEGV", named=True)], 4),
        ([failed("a", Status.CRASHED, "", named=True), failed("b", Status.REFUSED, "", named=True)], 1),
    ],
)
def test_a_row_that_was_named_has_to_run(rows, code):
    assert score(point(row("rnn", 2.0), *rows)).exit_code == code


def test_without_torch_there_is_nothing_to_compare_with():
    from dataclasses import replace

    whole = with_ratios({"rnn": 2.0})
    lost = replace(whole.points[0].rows[0], status=Status.MEMORY, ratio=None, microseconds=None)
    assert replace(whole, points=(replace(whole.points[0], rows=(lost,)),)).exit_code == 4
