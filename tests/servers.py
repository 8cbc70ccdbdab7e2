"""Real servers, for the tests that need one; `rnn-export runtimes install` makes their environments."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rnn_export.environments import how_to_install, interpreter_of
from rnn_export.runtimes import RUNTIMES
from rnn_export.server import Running, run_server


def need(*names: str) -> None:
    """Skip where an environment is missing."""
    for name in names:
        runtime = RUNTIMES.get(name)
        if interpreter_of(runtime) is None:
            pytest.skip(f"{name} is not installed: {how_to_install(runtime)}")


@contextmanager
def serving(folder: Path, **options) -> Iterator[Running]:
    """A server on free ports."""
    with run_server(folder, http_port=0, grpc_port=0, **options) as server:
        yield server
