"""Tables and pages say the ratios first, what did not run and why, the limit, and the fastest."""

import io

from rich.console import Console

from rnn_export.benchmark.score_page import render_markdown
from rnn_export.benchmark.score_table import HEADINGS, print_benchmark, significant
from rnn_export.result import Status
from tests.benchmark.scores import around, failed, point, row, score, with_ratios


def printed(benchmark) -> list[str]:
    text = io.StringIO()
    print_benchmark(benchmark, Console(file=text, width=160, color_system=None, highlight=False, soft_wrap=True))
    return text.getvalue().splitlines()


def test_the_ratios_come_before_the_microseconds():
    lines = printed(score(point(row("rnn", 5.0, operator_ratio=around(1.0)), row("scan", 2.0, operator_ratio=None))))
    assert lines[0] == "RNN(64 -> 64, tanh)   T=128 B=1   1 thread"
    assert " ".join(lines[1].split()) == " ".join(HEADINGS)
    assert HEADINGS.index("x torch") < HEADINGS.index("x rnn operator") < HEADINGS.index("us/step")
    torch, rnn, scan = lines[2:5]
    assert torch.split()[:3] == ["torch", "1.00", "0.98–1.02"]
    assert rnn.split() == [
        *("rnn", "on", "onnxruntime-cpu", "5.00", "4.90–5.10", "1.00", "0.80", "0.78–0.82", "9,766"),
        *("62%", "60", "MiB", "1.00", "ms", "1e-07", "1.2.3"),
    ]
    assert scan.split()[:6] == ["scan", "on", "onnxruntime-cpu", "2.00", "1.96–2.04", "2.00"]  # no x rnn operator


def test_the_last_lines_are_the_limit_and_the_fastest():
    lines = printed(with_ratios({"rnn": 5.0, "scan": 2.0}))
    assert lines[-2] == (
        "limit: 0.50 us/step, from 100 GB/s read and 100 GFLOP/s multiplied, the most that numpy's BLAS was seen to do"
    )
    assert lines[-1] == "fastest: rnn on onnxruntime-cpu: 5.00 times as fast as torch"


def test_what_went_beyond_the_limit_is_named():
    assert printed(with_ratios({"rnn": 10.0, "scan": 2.0}))[-2].endswith("; rnn on onnxruntime-cpu went beyond")


def test_a_limit_that_was_not_measured_says_why():
    lines = printed(score(point(limit=None, problem="numpy has no fast product in float16")))
    assert lines[-2] == "limit: not measured: numpy has no fast product in float16"


def test_what_did_not_run_has_its_reason_once_for_each_runtime():
    rows = [failed(form, Status.ABSENT, "not installed: do this", "openvino") for form in ("rnn", "scan")]
    lines = printed(score(point(*rows, failed("int8", Status.CRASHED, "SIGSEGV\x1b[31m"))))
    assert lines[3] == "ABSENT rnn, scan on openvino: not installed: do this"
    assert lines[4] == "CRASHED int8 on onnxruntime-cpu: SIGSEGV?[31m"


def test_every_point_has_its_table():
    lines = printed(score(point(), point(H=128, B=32), threads=2))
    assert [line for line in lines if line.startswith("RNN(")] == [
        "RNN(64 -> 64, tanh)   T=128 B=1   2 threads",
        "RNN(128 -> 128, tanh)   T=128 B=32   2 threads",
    ]


def test_three_digits_are_shown():
    assert [significant(value) for value in (0.8349, 12.34, 123.4, 123456.0)] == ["0.83", "12.3", "123", "123,456"]


class TestMarkdown:
    def test_it_has_the_same_cells(self):
        text = render_markdown(with_ratios({"rnn": 5.0}))
        assert f"| {' | '.join(HEADINGS)} |\n|---|---:|" in text
        assert "| rnn on onnxruntime-cpu | 5.00 | 4.90–5.10 |  | 0.80 |" in text
        assert "- fastest: rnn on onnxruntime-cpu: 5.00 times as fast as torch" in text
        assert text.rstrip().endswith("</sub>")

    def test_what_a_runtime_said_is_no_markup(self):
        text = render_markdown(score(point(failed("rnn", Status.REFUSED, "<img> | [x](y)"))))
        assert "- **REFUSED** rnn on onnxruntime-cpu: &lt;img&gt; \\| \\[x\\](y)" in text
