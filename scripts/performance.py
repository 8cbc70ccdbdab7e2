"""How fast the forms and the tool are: the page docs/performance.md, measured here and now.

    rnn-export bench --calibrate --threads 2                               # what the choice is by
    python scripts/performance.py -o docs/performance.md                   # ten minutes on an idle machine
    python scripts/performance.py -o docs/performance.md --only targets    # measures one section again
    python scripts/performance.py --check docs/performance.md

Beside the page lies ``performance.json`` with what was measured; ``--check`` measures nothing, makes the page again
from it, and exits with 1 where the page says something else. The first two need OpenVINO:
``rnn-export runtimes install openvino``.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from speed import growth, own, regret, sharing, targets

from rnn_export.choice import USUAL_RUNTIME
from rnn_export.cost_model import cost_table
from rnn_export.documents import to_document
from rnn_export.environments import installed_version
from rnn_export.machine import this_environment, utc_now
from rnn_export.runtimes import RUNTIMES
from rnn_export.text_file import check_place, write_text

SECTIONS: dict[str, tuple[str, str, ModuleType]] = {
    "targets": (
        "The fastest form, beside the others",
        "One thread, float32, tanh, random weights; every side in a process of its own, timed in turn. `auto` is the "
        "form that `export --form auto` takes for the load after `bench --calibrate`. The operator is ONNX's RNN on "
        "ONNX Runtime, which is what torch's old exporter writes; OpenVINO runs the same file. The limit is what this "
        "machine was seen to read and to multiply at best. `int8` computes another network, and is never chosen.",
        targets,
    ),
    "regret": (
        "How good the choice is",
        "One layer, I = H from 32 to 1024, batches 1 to 32, 8 to 1000 steps, tanh and relu, one thread and two, after "
        "`bench --calibrate`, whose own points are among them: the form that is chosen against the five that can be "
        "the fastest, the best turn of each. With two threads on two processors that have other work too, the times "
        "are those of waiting.",
        regret,
    ),
    "sharing": (
        "Two directions, and several layers, in one Scan",
        "Microseconds per step, B = 1, T = 128, one thread.",
        sharing,
    ),
    "growth": ("Long inputs, wide and deep networks", "One thread, float32.", growth),
    "own": ("The tool itself", "", own),
}
INTRODUCTION = """# Performance

Made by `python scripts/performance.py -o docs/performance.md`; nothing here is written by hand, and `performance.json`
has the figures for programs. Ratios of what was timed in turn are claims; microseconds are those of a virtual machine
that shares its processors.
Why the forms are as they are: [decision 0012](decisions/0012-speed.md). Your own network, on your machine:
`rnn-export bench model.safetensors`.
"""
PLOT = "performance-growth.png"
CHOOSING = {"targets", "regret"}  # the sections whose rows depend on what is chosen


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("-o", "--output", type=Path, help="the page to write")
    action.add_argument("--check", type=Path, help="the page to compare with")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="measure these again, and keep the others")
    options = parser.parse_args(arguments)
    if options.check is not None:
        return check(options.check)
    check_place(options.output)
    file = options.output.with_suffix(".json")
    if options.only and not file.exists():
        parser.error(f"--only keeps what is in {file}, which is not there: measure all first")
    data = json.loads(file.read_text()) if options.only else {}
    names = options.only or list(SECTIONS)
    table = cost_table(USUAL_RUNTIME)
    known = {costs.threads for costs in table.costs} if table is not None and table.here else set()
    if set(names) & CHOOSING and not known >= {1, 2}:
        parser.error("the choice is by this machine's costs; run first: rnn-export bench --calibrate --threads 2")
    for name in names:
        started = time.monotonic()
        found = SECTIONS[name][2].measure(*([table] if name in CHOOSING else []))
        data[name] = {"made": utc_now(), "on": to_document(this_environment(1)), "versions": versions(), "found": found}
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    write_text(file, json.dumps(data, indent=1) + "\n")
    growth.plot(data["growth"]["found"], options.output.with_name(PLOT))
    write_text(options.output, page(data))
    return 0


def versions() -> dict[str, str]:
    """Of what was timed."""
    return {name: installed_version(RUNTIMES.get(name)) for name in ("onnxruntime-cpu", "torch", "openvino")}


def page(data: Mapping[str, Any]) -> str:
    """The whole page from what was measured."""
    parts = [INTRODUCTION]
    for name, (title, words, module) in SECTIONS.items():
        measured = data[name]
        machine = measured["on"]
        used = ", ".join(f"{package} {version}" for package, version in measured["versions"].items() if version)
        parts.append(f"## {title}\n")
        parts += [words + "\n"] if words else []
        parts.append(module.section(measured["found"]) + "\n")
        if module is growth:
            parts.append(f"![Time and memory of a run over T, H and L]({PLOT})\n")
        parts.append(
            f"{machine['cpu']}, {machine['cores']} cores, {machine['python']}, {used}; {measured['made'][:10]}. "
            f"`python scripts/performance.py -o docs/performance.md --only {name}`\n"
        )
    return "\n".join(parts)


def check(written: Path) -> int:
    """0 where the page is what the data makes."""
    made = page(json.loads(written.with_suffix(".json").read_text()))
    if made == written.read_text():
        print(f"{written} is fresh")
        return 0
    print(f"{written} is stale: run python scripts/performance.py -o {written}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
