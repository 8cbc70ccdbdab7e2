"""The tree in the module's docstring is the specification of the exit codes."""

import re

import pytest

from rnn_export import errors
from rnn_export.errors import RnnExportError, UsageError

CLASSES = RnnExportError.__subclasses__()


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_the_documented_exit_code_is_the_one_that_is_used(error):
    line = re.search(rf"── {error.__name__} .*exit (\d+)", errors.__doc__)
    assert line is not None
    assert error.exit_code == int(line[1])


def test_the_tree_names_no_class_that_does_not_exist():
    assert set(re.findall(r"── (\w+)", errors.__doc__)) == {error.__name__ for error in CLASSES}


def test_an_unforeseen_error_is_an_internal_one():
    assert RnnExportError.exit_code == 70


def test_the_hint_is_printed_after_the_message():
    assert str(UsageError("unknown form 'scna'", "Did you mean 'scan'?")) == (
        "unknown form 'scna'. Did you mean 'scan'?"
    )
    assert str(UsageError("unknown form 'scna'")) == "unknown form 'scna'"
