"""Which runtime computes which form of which network: every cell exported and verified here and now.

    python scripts/compatibility.py -o docs/compatibility.md     # writes the page, and the cells beside it as .jsonl
    python scripts/compatibility.py --check docs/compatibility.md
    python scripts/compatibility.py -o docs/compatibility.md --only triton   # and keeps the other runtimes' cells
    python scripts/compatibility.py -o docs/compatibility.md --form blocked  # and keeps the other forms' cells

``--check`` compares the cells of the runtimes that are installed here, in the versions that the page has, and exits
with 1 where one changed. ``--jobs`` processes share the work, or the machines of a Ray cluster with ``--ray``.
Runtimes are installed by ``rnn-export runtimes install --all``, and those with a version in ``RUNTIMES`` by name.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from compat.networks import NETWORKS, Entry, entries, weights_of
from compat.page import LONGEST, page

from rnn_export.cells import Cell, Engine, available_processors
from rnn_export.environments import installed_version, interpreter_of
from rnn_export.forms import FORMS
from rnn_export.processes import run_in_processes
from rnn_export.result import Result
from rnn_export.runtimes import RUNTIMES as REGISTERED
from rnn_export.subject import Subject, subject_of_artifact, subject_of_model
from rnn_export.summary import SEVERITY
from rnn_export.text_file import check_place, write_text

RUNTIMES = (  # those that read the file, and need no GPU
    *("onnxruntime-cpu", "onnxruntime@1.24.1", "onnxruntime-node", "onnxruntime-web", "onnxruntime-openvino"),
    *("openvino", "openvino-default", "tract", "iree", "tvm", "opencv", "tinygrad", "onnx-reference"),
    *("triton", "mlserver"),  # real servers, started for every cell
)
TIMEOUT = 120.0  # seconds per request: compilers share the processors with other cells here


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("-o", "--output", type=Path, help="the page to write")
    action.add_argument("--check", type=Path, help="the page to compare with")
    parser.add_argument("--jobs", type=int, default=available_processors(), help="processes at once")
    parser.add_argument("--ray", metavar="ADDRESS", help="of a Ray cluster to run on")
    parser.add_argument(
        "--only", action="append", default=[], choices=RUNTIMES, help="measure this one; may be repeated"
    )
    parser.add_argument("--form", action="append", default=[], choices=FORMS.names(), help="only this; may be repeated")
    options = parser.parse_args(arguments)
    names = options.only or list(RUNTIMES)
    if options.ray is None:
        names = [name for name in names if interpreter_of(REGISTERED.get(name)) is not None]
    for name in sorted(set(options.only or RUNTIMES) - set(names)):
        print(f"{name} is not installed and is left out: rnn-export runtimes install {name}", file=sys.stderr)
    if options.output is not None:
        check_place(options.output)  # it is written after a quarter of an hour
    started = time.monotonic()
    cells = all_cells(names, _engine(options.jobs, options.ray), options.form or None)
    seconds = time.monotonic() - started
    print(f"{len(cells)} cells in {seconds:.0f} s", file=sys.stderr)
    if options.check is not None:
        return check(cells, options.check)
    if options.only or options.form:
        cells = merged(options.output, cells)
    where = "a Ray cluster" if options.ray is not None else f"{options.jobs} processors"
    alone = [*options.only, *(f"the form {form}" for form in options.form)]
    where += f", for {' and '.join(alone)} alone" if alone else ""
    write_text(options.output.with_suffix(".jsonl"), "".join(json.dumps(cell) + "\n" for cell in cells))
    write_text(options.output, page(cells, seconds, where))
    return 0


def merged(written: Path, cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells, with those of a page that are of other runtimes or forms, forms in order and runtimes in ours."""
    measured = {(cell["runtime"], cell["form"]) for cell in cells}
    lines = written.with_suffix(".jsonl").read_text().splitlines()
    kept = [cell for cell in map(json.loads, lines) if (cell["runtime"], cell["form"]) not in measured]
    every = [*kept, *cells]
    places = list(dict.fromkeys((cell["form"], cell["network"]) for cell in every))
    places.sort(key=lambda place: place[0] if place[0] in FORMS.names() else "~")  # what is drawn by hand comes last
    return sorted(
        every, key=lambda cell: (places.index((cell["form"], cell["network"])), RUNTIMES.index(cell["runtime"]))
    )


def _engine(jobs: int, ray: str | None) -> Engine:
    if ray is None:
        return partial(run_in_processes, jobs=jobs)
    from rnn_export.cluster import run_on_ray

    return partial(run_on_ray, address=ray)


def all_cells(names: Sequence[str], engine: Engine, forms: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Every file, or those of some forms, on every runtime, judged."""
    with tempfile.TemporaryDirectory() as scratch:
        lines = list(entries(Path(scratch)))
        subjects = [_subject(line, Path(scratch) / f"staged-{number}") for number, line in enumerate(lines)]
        errors = _torch_errors(lines, subjects, engine)
        chosen = [pair for pair in zip(lines, subjects, strict=True) if forms is None or pair[0].form in forms]
        work = [
            Cell(subject, name, TIMEOUT, errors[weights_of(line.network)]) for line, subject in chosen for name in names
        ]
        shown = engine(work, None)
    places = [(line, name) for line, _ in chosen for name in names]
    return [_cell(line, name, found.rows) for (line, name), found in zip(places, shown, strict=True)]


def _subject(line: Entry, staged: Path) -> Subject:
    staged.mkdir()
    if line.against is None:
        return subject_of_artifact(line.path, staged)
    return subject_of_model(line.path, line.against, staged)


def _torch_errors(lines: Sequence[Entry], subjects: Sequence[Subject], engine: Engine) -> dict[str, dict[str, float]]:
    """torch's largest error by case of every network: it runs the weights, so that any dynamic form will do."""
    of = {line.network: subject for line, subject in zip(lines, subjects, strict=True) if line.form == "scan"}
    shown = engine([Cell(of[network], "torch", TIMEOUT, {}) for network in NETWORKS], None)
    return {
        network: {row.case: row.max_abs for row in found.rows if row.max_abs is not None}
        for network, found in zip(NETWORKS, shown, strict=True)
    }


def _cell(line: Entry, name: str, rows: Sequence[Result]) -> dict[str, Any]:
    status = max((row.status for row in rows), key=SEVERITY.index)
    worst = [row for row in rows if row.status is status and row.code]
    return {
        "form": line.form,
        "network": line.network,
        "runtime": name,
        "version": next((row.version for row in rows if row.version), installed_version(REGISTERED.get(name))),
        "status": status.value,
        "codes": sorted({row.code for row in rows if row.code}),
        "first": _of_no_machine(f"{worst[0].case}: {worst[0].detail}".removeprefix(": ")) if worst else "",
    }


def _of_no_machine(text: str) -> str:
    """The message without this machine's folders, and without what differs from run to run behind it."""
    text = text.partition("Stack backtrace:")[0]
    return re.sub(r"(?<![\w.])/(?:[\w.@+-]+/)+", "", text)[:LONGEST]


def check(cells: Sequence[Mapping[str, Any]], written: Path) -> int:
    """1 where a cell of an installed runtime, in the version of the page, has another status or other codes."""
    lines = written.with_suffix(".jsonl").read_text().splitlines()
    known = {_key(cell): cell for cell in map(json.loads, lines)}
    others, mine = {cell["runtime"] for cell in known.values()}, {_key(cell) for cell in cells}
    versions = {(cell["runtime"], cell["version"]) for cell in cells}
    others -= {name for name, version in versions if any(_key_version(key) == (name, version) for key in known)}
    gone = [cell for key, cell in known.items() if _key_version(key) in versions and key not in mine]
    changed = len(gone)
    for cell in gone:
        print(f"gone: {_said(cell)}")
    for cell in cells:
        before = known.get(_key(cell))
        if before is None and cell["runtime"] in others:
            continue  # the page is about another version of it
        if before is None:
            print(f"new: {_said(cell)}")
        elif (before["status"], before["codes"]) != (cell["status"], cell["codes"]):
            print(f"changed: {_said(cell)}, was {before['status']} {' '.join(before['codes'])}")
        else:
            continue
        changed += 1
    print(f"{changed} of {len(cells)} cells differ from {written}")
    return 1 if changed else 0


def _key(cell: Mapping[str, Any]) -> tuple[str, ...]:
    return cell["form"], cell["network"], cell["runtime"], cell["version"]


def _key_version(key: tuple[str, ...]) -> tuple[str, str]:
    return key[2], key[3]


def _said(cell: Mapping[str, Any]) -> str:
    place = f"{cell['form']}, {cell['network']} on {cell['runtime']} {cell['version']}"
    return f"{place}: {cell['status']} {' '.join(cell['codes'])}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
