"""Markdown says what the table says, and no name in it becomes a link, a tag or another cell."""

import re

from rnn_export.reports import FORMATS
from tests.rows import HOSTILE, failing_report, hostile_report, passing_report

MARKDOWN = FORMATS.get("markdown")


def test_the_verdict_comes_first_then_the_table_findings_placement_and_environment():
    text = MARKDOWN.render(failing_report())
    assert text.startswith("## ❌ FAILED: openvino MISMATCH, onnxruntime-cuda FALLBACK")
    assert "| openvino | 1.0 | 5/6 | 1000.00 | float32 | 1.0e-07 | 1.50 | MISMATCH |" in text
    assert "- **MISMATCH** openvino at T=400 B=1: residual 1e+03 &gt; 4, first at t=37" in text
    assert "`step-residual`" in text
    cuda = "| onnxruntime-cuda | CUDAExecutionProvider | 1 on CUDAExecutionProvider, 1 on CPUExecutionProvider "
    assert f"{cuda}| Scan over\\_time on CPUExecutionProvider | asked off, session off |" in text
    assert "rnn-export 0.1.0 · CPython 3.11.7 · Linux x86\\_64" in text


def test_a_pass_is_one():
    assert MARKDOWN.render(passing_report()).startswith("## ✅ PASSED on onnxruntime-cpu, openvino (")


def test_names_are_text_whatever_they_hold():
    text = MARKDOWN.render(hostile_report())
    assert "<script" not in text
    assert "://" not in text
    assert HOSTILE not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    cells = {len(re.findall(r"(?<!\\)\|", line)) - 1 for line in tables}
    assert cells == {8, 5}  # the table of runtimes, and that of placement
