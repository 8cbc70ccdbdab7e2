"""Inputs through one runtime: the child process, the canary and the networks, for who wants the answers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rnn_export import canary
from rnn_export.child import MEMORY_LIMIT, Child, Failure
from rnn_export.environments import how_to_install, interpreter_of
from rnn_export.result import Stage, Status
from rnn_export.runtimes import Runtime

TIMEOUT = 60.0


def execute(runtime: Runtime, folder: Path, inputs: Mapping[str, Any], timeout: float = TIMEOUT) -> dict[str, Any]:
    """The named outputs of the network in ``folder``.

    Args:
        runtime: where it runs.
        folder: holds model.onnx and weights.safetensors, such as an artifact.
        inputs: named arrays, as the model declares them.
        timeout: seconds per request to the child.

    Raises:
        Failure: the runtime is absent, or did not answer.
    """
    with prepared(runtime, [folder], timeout) as child:
        return child.run(1, inputs)


@contextmanager
def prepared(
    runtime: Runtime, folders: Sequence[Path], timeout: float, memory_limit: int = MEMORY_LIMIT
) -> Iterator[Child]:
    """A child process with the networks of the folders made ready, numbered from 1.

    Raises:
        Failure: the runtime is absent, fails the canary, or refuses a network.
    """
    interpreter = interpreter_of(runtime)
    if interpreter is None:
        raise Failure(Stage.FIND, Status.ABSENT, f"not installed: {how_to_install(runtime)}")
    with Child(runtime, interpreter, timeout, memory_limit) as child:
        child.wait_until_ready()
        canary.sing(child, runtime.reads)
        for folder in folders:
            child.prepare(folder)
        yield child
