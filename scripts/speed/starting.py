"""What starting costs: the import, the help, and a checkpoint that becomes an artifact."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnn_export.checkpoint import save_weights
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights

DIGITS = Path(__file__).parents[2] / "models" / "digits-rows.safetensors"
WIDTH = 64
ROUNDS = 20  # of which the best counts: whatever else the machine does only adds
IMPORT_LIMIT, EXPORT_LIMIT = 0.050, 0.5  # seconds, the bounds
LOADED = (
    "import sys; from rnn_export.cli import main; sys.argv[1:] = {arguments}\ntry: main()\nexcept SystemExit: pass\n"
)
PYTHON, IMPORT, HELP, EXPORT, EXPORT_DIGITS = "python", "import", "help", "export", "export digits"
WORDS = {
    PYTHON: "`python -c pass`",
    IMPORT: "`import rnn_export`, without Python's own start",
    HELP: "`rnn-export --help`",
    EXPORT: f"`rnn-export export` of an RNN({WIDTH} -> {WIDTH}) in .safetensors",
    EXPORT_DIGITS: "the same of models/digits-rows.safetensors",
}


def measure() -> dict[str, Any]:
    """Seconds of whole processes, the best of each, and whether an export loaded torch."""
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        source, target = Path(scratch) / "rnn.safetensors", str(Path(scratch) / "out")
        save_weights(source, Weights.random(RNNSpec(WIDTH, WIDTH), 0))
        command = str(Path(sys.executable).with_name("rnn-export"))
        lines = {
            PYTHON: [sys.executable, "-c", "pass"],
            IMPORT: [sys.executable, "-c", "import rnn_export"],
            HELP: [command, "--help"],
            EXPORT: [command, "export", str(source), "-o", target],
            EXPORT_DIGITS: [command, "export", str(DIGITS), "-o", target],
        }
        rounds = [{name: _seconds(line) for name, line in lines.items()} for _ in range(ROUNDS)]
        best = {name: min(found[name] for found in rounds) for name in lines}
        return {"seconds": best, "loads_torch": _loads_torch(lines[EXPORT][1:])}


def _seconds(line: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def _loads_torch(arguments: Sequence[str]) -> bool:
    script = LOADED.format(arguments=list(arguments)) + "print('torch' in sys.modules)"
    line = [sys.executable, "-c", script]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()[-1] == "True"


def section(data: Mapping[str, Any]) -> str:
    seconds = dict(data["seconds"])
    seconds[IMPORT] -= seconds[PYTHON]
    limits = {IMPORT: IMPORT_LIMIT, EXPORT: EXPORT_LIMIT, EXPORT_DIGITS: EXPORT_LIMIT}
    rows = [
        f"| {WORDS[name]} | {found * 1e3:.0f} | {f'{limits[name] * 1e3:.0f}' if name in limits else ''} |"
        for name, found in seconds.items()
    ]
    torch = "is" if data["loads_torch"] else "is not"
    return "\n".join(
        [
            f"Milliseconds of a whole process, the best of {ROUNDS}, all in turn; torch {torch} loaded by an export.",
            "",
            "| what | ms | at most |",
            "|---|---|---|",
            *rows,
        ]
    )
