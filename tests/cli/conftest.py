"""The command line, called in this process for what it prints, and in one of its own for how it starts and ends."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from rnn_export.cli import main
from rnn_export.pipeline import export


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def run_cli(*arguments: object, **options) -> Outcome:
    """``python -m rnn_export`` in a process of its own."""
    line = [sys.executable, "-m", "rnn_export", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, **options)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def cli(monkeypatch, capfd) -> Callable[..., Outcome]:
    """The same call without a new process."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["rnn-export", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        return Outcome(int(caught.value.code or 0), *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def artifact(tmp_path_factory) -> Path:
    return export("rnn:3,4", tmp_path_factory.mktemp("session") / "out").path
