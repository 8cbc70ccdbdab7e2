"""Time and memory over the length, the width and the layers: in proportion, and of the width's square."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMS = ("stacked", "scan", "hoisted", "blocked", "rnn")
LONG, WIDTH = 1_000_000, 64
LENGTHS = (1_000, 10_000, 100_000, LONG)
WIDTHS = (64, 128, 256, 512, 1024)
LAYERS = (1, 2, 4, 8)
BOUND = 64 * 2**20  # bytes beside input and output


def measure() -> dict[str, Any]:
    runs = [_run(form, LONG, WIDTH, layers) for form in FORMS for layers in (1, 4)]
    sizes = [*((T, WIDTH, 1) for T in LENGTHS[:-1]), *((10_000, H, 1) for H in WIDTHS)]
    sizes += [(10_000, WIDTH, layers) for layers in LAYERS]
    runs += [_run("stacked", *size) for size in dict.fromkeys(sizes)]
    return {"runs": runs}


def _run(form: str, T: int, H: int, L: int) -> dict[str, Any]:
    line = [sys.executable, str(Path(__file__).with_name("one_run.py")), form, *map(str, (T, H, L))]
    found: dict[str, Any] = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
    return found


def section(data: Mapping[str, Any]) -> str:
    lines = [
        f"T = {LONG:,}, H = I = {WIDTH}, B = 1: what a run needs beside its input and its output.",
        "",
        "| form | beside X and Y, one layer | four layers | us per step, one layer | four layers |",
        "|---|---|---|---|---|",
    ]
    runs = {(run["form"], run["T"], run["H"], run["L"]): run for run in data["runs"]}
    for form in FORMS:
        one, four = (runs[form, LONG, WIDTH, layers] for layers in (1, 4))
        memory = [f"{run['bytes_beside'] / 2**20:.0f} MiB" for run in (one, four)]
        memory = [
            f"**{text}**" if run["bytes_beside"] <= BOUND else text
            for text, run in zip(memory, (one, four), strict=True)
        ]
        steps = [f"{run['seconds'] / LONG * 1e6:.2f}" for run in (one, four)]
        lines.append(f"| `{form}` | {' | '.join([*memory, *steps])} |")
    return "\n".join([*lines, "", "Bold: within 64 MiB."])


def plot(data: Mapping[str, Any], file: Path) -> None:
    """Seconds and bytes of a run of ``stacked`` over T, H and L, log-log, beside the line of proportion."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    runs = [run for run in data["runs"] if run["form"] == "stacked"]
    axes_of = (
        ("T", "steps", LENGTHS, {"H": WIDTH, "L": 1}, 1),
        ("H", "hidden units", WIDTHS, {"T": 10_000, "L": 1}, 2),
        ("L", "layers", LAYERS, {"T": 10_000, "H": WIDTH}, 1),
    )
    figure, panels = pyplot.subplots(1, 3, figsize=(11, 3.6), constrained_layout=True)
    for axes, (letter, what, values, fixed, power) in zip(panels, axes_of, strict=True):
        at = {run[letter]: run for run in runs if all(run[name] == value for name, value in fixed.items())}
        seconds = [at[value]["seconds"] for value in values]
        megabytes = [max(_whole(at[value]), 1) / 2**20 for value in values]
        axes.loglog(values, seconds, "o-", label="seconds")
        axes.loglog(values, megabytes, "s-", label="MiB: X + Y + what is beside them")
        like = [seconds[-1] * (value / values[-1]) ** power for value in values]
        axes.loglog(values, like, "--", color="grey", label=f"in proportion to {letter}{'²' if power == 2 else ''}")
        axes.set_xticks(values, [f"{value:,}" for value in values], fontsize=8)
        axes.minorticks_off()
        axes.set_xlabel(f"{letter}, {what}")
        axes.set_title(", ".join(f"{name} = {value:,}" for name, value in fixed.items()), fontsize=9)
        axes.legend(fontsize=7)
    figure.savefig(file, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _whole(run: Mapping[str, Any]) -> float:
    return float(2 * run["T"] * run["H"] * 4 + max(run["bytes_beside"], 0))
