"""Writes its NAME into the file TURNS at every run that is timed, and dies at the run of the number DIES."""

import os
import time
from pathlib import Path

from rnn_export.runtimes import Slimmed
from rnn_export.runtimes._onnxruntime import session_run

RUN_TIME = 0.002  # seconds, times SLOWNESS: longer than what else may happen between two runs


def prepare(folder):
    honest = session_run(folder, "CPUExecutionProvider", {})
    count = 0

    def lean(inputs):
        nonlocal count
        count += 1
        if count == int(os.environ.get("DIES", "0")):
            os.abort()
        with Path(os.environ["TURNS"]).open("a") as turns:
            turns.write(f"{os.environ['NAME']}\n")
        time.sleep(RUN_TIME * float(os.environ.get("SLOWNESS", "1")))

    return Slimmed(honest, lean)
