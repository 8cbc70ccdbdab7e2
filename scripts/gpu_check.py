"""Every CUDA row beside the CPU ones, over networks and forms: the table that docs/gpu.md holds.

    python scripts/gpu_check.py [-o docs/gpu.md]

On a machine without CUDA every CUDA row is ABSENT, and the page says that none was measured yet.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rnn_export import export, verify
from rnn_export.result import Result, Status

NETWORKS = (
    "rnn:4,8,relu",
    "rnn:64,64",
    "rnn:128,512",
    "rnn:32,256,relu,no-bias",
    "rnn:16,128,layers=3,bidirectional,batch-first",
)
FORMS = ("scan", "rnn", "module")
CPU = ("torch", "onnxruntime-cpu")
CUDA = ("torch-cuda", "onnxruntime-cuda", "onnxruntime-cuda-tf32", "onnxruntime-tensorrt", "tensorrt")
HEAD = "| network | form | runtime | version | passed | residual | precision | x torch | verdict |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="also write the page here")
    options = parser.parse_args()
    rows, measured, wrong = [], False, False
    with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
        for network in NETWORKS:
            for form in FORMS:
                artifact = export(network, Path(scratch) / "artifact", form=form)
                report = verify(artifact.path, runtimes=(*CPU, *CUDA))
                for runtime in (*CPU, *CUDA):
                    results = [result for result in report.results if result.runtime == runtime]
                    rows.append(row(network, form, results))
                    print(rows[-1], flush=True)
                    ran = any(result.status is not Status.ABSENT for result in results)
                    measured |= ran and runtime in CUDA
                wrong |= report.exit_code not in (0, 5)
    if options.output:
        options.output.write_text(page(rows, measured))
    return 1 if wrong else 0


def row(network: str, form: str, results: Sequence[Result]) -> str:
    """One line of the table: what one runtime did with one network in one form."""
    worst = max((result.residual for result in results if result.residual is not None), default=None)
    ratio = max((result.ratio for result in results if result.ratio is not None), default=None)
    precisions = ", ".join(sorted({result.precision for result in results if result.precision}))
    unusual = [result for result in results if result.status not in (Status.PASS, Status.DIVERGENCE)]
    verdict = f"{unusual[0].status.value}: {unusual[0].detail}" if unusual else "PASS"
    passed = f"{sum(result.passed for result in results)}/{len(results)}"
    numbers = ["" if number is None else f"{number:.2f}" for number in (worst, ratio)]
    cells = [network, form, results[0].runtime, results[0].version, passed, numbers[0], precisions, numbers[1], verdict]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def page(rows: Sequence[str], measured: bool) -> str:
    """docs/gpu.md."""
    lines = ["# CUDA", "", "Made by `python scripts/gpu_check.py -o docs/gpu.md`.", ""]
    if not measured:
        return "\n".join([*lines, "No CUDA run was measured yet: the page was made on a machine without a GPU.", ""])
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnx", "numpy"))
    lines += [f"{gpu()}, Python {platform.python_version()}, {packages}.", "", HEAD, "|---" * 9 + "|"]
    return "\n".join([*lines, *rows, ""])


def gpu() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
