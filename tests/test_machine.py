"""The environment says what matters for numbers, and nothing of whose machine it is."""

import getpass
import json
import platform
import re
from pathlib import Path

import pytest

from rnn_export.documents import to_document
from rnn_export.machine import PACKAGES, this_environment, utc_now


def test_it_names_what_computes():
    found = this_environment(threads=1)
    assert found.python == f"{platform.python_implementation()} {platform.python_version()}"
    assert (found.threads, list(found.packages)) == (1, list(PACKAGES))
    assert found.cpu
    assert found.cores >= 1


def test_it_names_no_user_no_host_and_no_folder():
    text = json.dumps(to_document(this_environment(threads=1)))
    for private in (platform.node(), str(Path.home()), str(Path.cwd())):
        assert private not in text
    assert f'"{getpass.getuser()}"' not in text


@pytest.mark.parametrize(("seconds", "said"), [("0", "1970-01-01T00:00:00Z"), ("1767225600", "2026-01-01T00:00:00Z")])
def test_the_time_is_that_of_a_reproducible_build_where_one_is_asked_for(monkeypatch, seconds, said):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", seconds)
    assert utc_now() == said


@pytest.mark.parametrize("nonsense", ["", "yesterday", "-1", "1e9"])
def test_else_it_is_now(monkeypatch, nonsense):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", nonsense)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", utc_now())
