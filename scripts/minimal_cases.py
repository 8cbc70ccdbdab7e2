"""The smallest network and input for every kind of failure in the compatibility table, made by ``reproduce``.

    python scripts/minimal_cases.py -o docs/minimal-cases.md [--folders DIR]

reads docs/compatibility.jsonl, shrinks the first file of each runtime and code, runs the script that was made in the
runtime's own environment, and writes what it printed. ``--folders`` keeps what a maintainer of the runtime gets.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from compat.networks import HAND, NETWORKS, STEPS

from rnn_export import export
from rnn_export.environments import environment_of, interpreter_of
from rnn_export.errors import UsageError
from rnn_export.forms import FORMS
from rnn_export.reproduction import Reproduction, reproduce
from rnn_export.runtimes import RUNTIMES

CELLS = Path(__file__).parent.parent / "docs" / "compatibility.jsonl"
NO_FAILURES = ("no-steps", "no-rows", "refused", "fallback", "absent")  # said in the table, with nothing to shrink
LONGEST, PATIENCE = 400, 60.0  # characters of what a script printed; seconds for it
PAGE = """# Minimal cases

Made by `python scripts/minimal_cases.py -o docs/minimal-cases.md` from the cells of the
[compatibility table](compatibility.md): for every runtime and code of a wrong answer, crash or swallowed NaN the
smallest network that still shows it, and what the script of `rnn-export reproduce` printed there.
`rnn-export explain CODE` says what a code means. To get the folder, with the model, its inputs, what float64 gives and
the script:

```bash
rnn-export export SPEC -o net --form FORM
rnn-export reproduce net --runtime RUNTIME --code CODE -o bug
```

{cases}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the page to write")
    parser.add_argument("--folders", type=Path, help="keep the folders here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(2) as pool:
        place = options.folders or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        texts = list(pool.map(lambda cell: _case(*cell, place), _first_cells()))
    options.output.write_text(PAGE.format(cases="\n\n".join(texts)))
    print(f"{len(texts)} kinds of failure")
    return 0


def _first_cells() -> Iterator[tuple[Mapping[str, Any], str]]:
    """The first cell of each runtime and code that a form of ours shows, of the runtimes that are here."""
    ranks, seen = {form.name: form.rank for form in FORMS}, set()
    cells = [cell for cell in map(json.loads, CELLS.read_text().splitlines()) if cell["form"] != HAND]
    for cell in sorted(cells, key=lambda cell: (cell["runtime"], ranks[cell["form"]])):
        runtime = RUNTIMES.get(cell["runtime"])
        for code in cell["codes"]:
            key = cell["runtime"], code
            if code in NO_FAILURES or key in seen or interpreter_of(runtime) is None:
                continue
            seen.add(key)
            yield cell, code


def _case(cell: Mapping[str, Any], code: str, place: Path) -> str:
    """The text of one kind."""
    name, form = cell["runtime"], FORMS.get(cell["form"])
    spec, options = NETWORKS[cell["network"]]
    with tempfile.TemporaryDirectory() as scratch:
        steps = STEPS if form.length == "fixed" else None
        source = export(spec, Path(scratch) / "net", form=form.name, steps=steps, **options)
        folder = place / f"{name.replace('@', '-')}-{code}"
        title = f"## {name.partition('@')[0]} {cell['version']}: `{code}`\n\n"
        try:
            found = reproduce(source.path, name, folder, code=code)
        except UsageError as error:
            return f"{title}Form `{form.name}`, {cell['network']}: {error.args[0].replace(str(source.path), 'it')}."
    printed = _printed(name, folder)
    return f"{title}Found on *{cell['network']}*. {_said(form.name, found)}\n\n```text\n{printed}\n```"


def _said(form: str, found: Reproduction) -> str:
    where = f", {found.row.case}" if found.row.case else ""
    return f"Form `{form}`, {found.spec}{where}; {found.tried} networks were tried."


def _printed(name: str, folder: Path) -> str:
    runtime = RUNTIMES.get(name)
    python, environment = str(interpreter_of(runtime)), environment_of(runtime)
    # What the runtime brings beside Python: packages of npm, a compiler
    places = {"NODE_PATH": f"{environment}/node_modules", "PATH": f"{environment}/bin:{os.environ['PATH']}"}
    line, packages = [python, "-I", "reproduce.py"], {**os.environ, **runtime.environ, **places}
    try:
        done = subprocess.run(line, cwd=folder, env=packages, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"no end after {PATIENCE:.0f} s"
    ended = "" if done.returncode >= 0 else f"ended by signal {-done.returncode}"
    said = done.stdout.strip() or ended or done.stderr.strip().rpartition("\n")[2]
    return said.replace(str(folder), ".")[:LONGEST]


if __name__ == "__main__":
    sys.exit(main())
