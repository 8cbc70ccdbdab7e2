"""Prints on every way there is, at import (where NOISE is set), preparation and every run; its answers are right.

It also leaves a file in the temporary folder.
"""

import os
import subprocess
import sys
import tempfile

from rnn_export.runtimes._onnxruntime import session_run

MEGABYTE = 2**20


def make_noise(megabytes):
    print("a line that looks like a message: {}", flush=True)
    os.write(1, b"\x00\x00\x00\x00\x00\x00\x00\x02{}")
    subprocess.run(["/bin/echo", "from another program"], check=True)
    for _ in range(megabytes):
        sys.stderr.write("x" * MEGABYTE + "\n")
        sys.stderr.flush()


if "NOISE" in os.environ:  # only the child makes it, not the test that loads this file
    make_noise(1)


def prepare(folder):
    make_noise(10)
    tempfile.mkstemp()
    honest = session_run(folder, "CPUExecutionProvider", {})

    def run(inputs):
        make_noise(1)
        return honest(inputs)

    return run
