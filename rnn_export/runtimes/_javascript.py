"""What the JavaScript rows share: messages to a script that holds the sessions, and processes that end with ours.

A message is the length of its header in 4 bytes, the header as JSON, and the bytes of the arrays that it lists.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from rnn_export.runtimes import Run

SESSIONS = Path(__file__).parent / "_sessions.mjs"  # what answers the messages, in node and in a page
Ask = Callable[[bytes], tuple[dict[str, Any], bytes]]  # a message -> the header and the bytes of its answer


class JavaScriptError(Exception):
    """What the script threw, in its own words."""


def prepared(ask: Ask, model: str, beside: Mapping[str, str]) -> Run:
    """Make a session, and return what runs it.

    Args:
        ask: sends a message to the script, and returns its answer.
        model: where the script finds the model: a path or a URL.
        beside: the same of the files that hold the model's weights, by their names in it.

    Raises:
        JavaScriptError: the script threw.
    """
    files = [{"path": name, "data": place} for name, place in beside.items()]
    session = _answer(ask, {"model": model, "externalData": files}, {})[0]["session"]

    def run(inputs: Any) -> dict[str, Any]:
        header, body = _answer(ask, {"session": session}, inputs)
        return dict(_arrays(header["arrays"], body))

    return run


def _answer(ask: Ask, header: dict[str, Any], arrays: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    answer, body = ask(_message(header, arrays))
    if answer.get("lost"):
        end_as_lost(answer["error"])
    if "error" in answer:
        raise JavaScriptError(answer["error"])
    return answer, body


def _message(header: dict[str, Any], arrays: Mapping[str, Any]) -> bytes:
    # V2 are the bits of a bfloat16, which ONNX Runtime refuses here under its name
    types = {name: "bfloat16" if array.dtype == "V2" else array.dtype.name for name, array in arrays.items()}
    listed = [
        {"name": name, "type": types[name], "dims": array.shape, "size": array.nbytes} for name, array in arrays.items()
    ]
    text = json.dumps({**header, "arrays": listed}).encode()
    return b"".join([len(text).to_bytes(4, "big"), text, *(array.tobytes() for array in arrays.values())])


def _arrays(listed: list[dict[str, Any]], body: bytes) -> Any:
    import numpy

    position = 0
    for one in listed:
        end = position + one["size"]
        yield one["name"], numpy.frombuffer(body[position:end], one["type"]).reshape(one["dims"])
        position = end


def started(line: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a process that the system ends with this one, however this one ends."""
    import ctypes
    import signal

    PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
    system = ctypes.CDLL(None)  # before the fork: after it nothing may be loaded

    def die_with_parent() -> None:
        system.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    return subprocess.Popen(line, preexec_fn=die_with_parent if sys.platform == "linux" else None, **options)


def end_as(process: "subprocess.Popen[bytes]") -> NoReturn:
    """End as the runtime's own process ended, so that what is reported is its death."""
    code = process.wait()
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code or 1)


def end_as_lost(why: str) -> NoReturn:
    """End because the runtime can answer nothing more, although its process lives."""
    print(why, file=sys.stderr, flush=True)
    os._exit(1)
