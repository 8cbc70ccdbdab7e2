"""Every code that the package can report is explained, and nothing is explained that it cannot report."""

import ast
from pathlib import Path

import pytest

import rnn_export
from rnn_export.errors import UsageError
from rnn_export.findings import FINDINGS, explain
from rnn_export.result import Status

PACKAGE = Path(rnn_export.__file__).parent


def words_of_the_package() -> set[str]:
    """Every string constant outside of findings.py."""
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "findings.py"]
    trees = [ast.parse(path.read_text()) for path in files]
    return {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def reported() -> set[str]:
    """Codes as they are written: the first argument of Judgement, Wrong and _add, and what is assigned to a code."""
    codes = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in ("Judgement", "Wrong"):
                    codes.add(node.args[0].value)
    return {code for code in codes if code}


def test_every_reported_code_is_explained():
    assert len(reported()) >= 10
    assert reported() <= set(FINDINGS)


def test_every_status_that_is_no_answer_is_explained_by_its_name():
    answered = {Status.PASS, Status.MISMATCH, Status.DIVERGENCE}
    assert {status.value.lower() for status in Status if status not in answered} <= set(FINDINGS)


def test_what_is_explained_is_reported_somewhere():
    by_status = {status.value.lower() for status in Status}
    assert set(FINDINGS) - by_status <= words_of_the_package()


def test_an_unknown_code_names_the_closest():
    with pytest.raises(UsageError, match="Did you mean 'padding'"):
        explain("paddings")
    with pytest.raises(UsageError, match="There are: step-residual"):
        explain("xyz")
