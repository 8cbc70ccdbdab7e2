"""Answers a preparation with what ODD says, as JSON, past the worker."""

import fcntl
import os
import stat


def answers_pipe():
    """The descriptor that the worker writes its answers to: the one pipe behind stderr that can be written."""
    for descriptor in range(3, 64):
        try:
            writable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        except OSError:
            continue
        if writable and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return descriptor
    raise RuntimeError("there is no such pipe")


def prepare(folder):
    text = os.environ["ODD"].encode()
    os.write(answers_pipe(), len(text).to_bytes(8, "big") + text)
    return lambda inputs: inputs
