"""Annotations for GitHub: one per finding, and nothing that a name holds is taken for a command."""

import re

from rnn_export.errors import ArtifactError
from rnn_export.reports import FORMATS
from rnn_export.reports.github import render_error
from rnn_export.result import Status
from tests.rows import failing_report, hostile_report, passing_report, report_of, row

GITHUB = FORMATS.get("github")


def commands(text: str) -> list[str]:
    """The lines that a runner obeys: commands, except between stop-commands and its word."""
    obeyed, word = [], ""
    for line in text.splitlines():
        if word:
            word = "" if line.strip() == f"::{word}::" else word
        elif stopped := re.match(r"::stop-commands::(\w+)", line):
            word = stopped[1]
        elif line.lstrip().startswith("::"):
            obeyed.append(line)
    assert not word
    return obeyed


def test_the_table_and_an_annotation_for_every_finding():
    report = failing_report()
    text = GITHUB.render(report)
    assert str(report) in text
    assert commands(text) == [
        "::error title=rnn-export digits::FAILED: openvino MISMATCH, onnxruntime-cuda FALLBACK; --runtime names those "
        "that you deploy to, such as onnxruntime-cpu (12 passed, 2 failed, 1 diverged)",
        "::error title=MISMATCH openvino at T=400 B=1::residual 1e+03 > 4, first at t=37 b=0 unit=2 of layer 0 "
        "[step-residual]",
        "::error title=FALLBACK onnxruntime-cuda::asked for CUDA, but Scan over_time on CPU (1 nodes) [fallback]",
        "::warning title=DIVERGENCE onnxruntime-cpu at T=0 B=3::refuses a sequence of length 0 [no-steps]",
    ]


def test_a_pass_has_no_error():
    found = commands(GITHUB.render(passing_report()))
    assert [line.split()[0] for line in found] == ["::warning", "::notice"]


def test_what_counts_only_under_strict_is_an_error_there():
    rows = row("a", Status.PASS), row("a", Status.DIVERGENCE, "T=0", "refuses")
    levels = [[line.split()[0] for line in commands(GITHUB.render(report_of(*rows, strict=s)))] for s in (False, True)]
    assert levels == [["::warning"], ["::error", "::error"]]


def test_names_are_no_commands_and_end_no_property():
    text = GITHUB.render(hostile_report())
    found = commands(text)
    assert len(found) == len(Status)  # the last line, and every row but the one that passed
    for line in found:
        assert re.fullmatch(r"::(error|warning|notice) title=[^:,]*::.*", line)
        assert "%25" in line


def test_a_word_that_ends_the_quotation_cannot_be_in_it():
    report = report_of(row("a", Status.MISMATCH, "T=1", "::stop-commands::x"), row("b", Status.PASS, "::x::"))
    assert [line.split()[0] for line in commands(GITHUB.render(report))] == ["::error", "::error"]


def test_what_could_not_begin_is_an_error():
    assert commands(render_error(ArtifactError("x:\n::warning::y", "Again"))) == [
        "::error title=rnn-export::x:?::warning::y. Again"
    ]
