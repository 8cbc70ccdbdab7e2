"""Export models as people write them around nn.RNN, and judge every file at sizes that it was not exported at.

    python scripts/whole_models.py [--only NAME ...] [-o PAGE]

prints two tables: what plain ``torch.onnx.export`` makes of each model and what it makes inside
``rnn_export.exporting()``; then what becomes of exports that would freeze a length. Every file is judged by
``verify_model`` on ONNX Runtime. The exit code is 1 where a file that was made inside ``exporting()`` is wrong.
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from freezing import TRAPS, Trap
from torch import nn
from zoo import ZOO, Entry

import rnn_export
from rnn_export.errors import RnnExportError
from rnn_export.forms.module import quiet
from rnn_export.report import Report
from rnn_export.whole_model.dynamic_axes import inputs_of
from rnn_export.whole_model.sizes import Inputs

VERSIONS = ("rnn-export", "torch", "onnx", "onnxscript", "onnxruntime")
LIMIT = 160  # characters of somebody's reason
PAGE = """# Whole models

Made by `python scripts/whole_models.py -o docs/whole-models.md` with
{versions}.

Each model is exported at T = 5 and B = 3, and its file is judged by `verify_model` on ONNX Runtime at three other
lengths and batches, none of them the example's.

- **alone**: what plain `torch.onnx.export(dynamo=True)` makes of it, with named dynamic axes and with `Dim.AUTO`:
  *refused* with torch's reason, *wrong* with what the verdict says of the file, or *right*.
- **rnn**, **scan**: the file made inside `rnn_export.exporting(form)`: the verdict, the recurrent operators in it, the
  largest step residual of any recurrent part (up to 4 it is this network), and the largest error of the outputs against
  the model in float64, in units of torch float32's own (up to 8).

{models}
A part is judged by its steps where the model has an nn.RNN. The cell of an `over_time` is the model's own code, and is
judged with the rest, end to end.

## What would freeze

The same example sizes, if the row does not say otherwise. What `exporting()` refuses names the line of the model.

{traps}"""


class Outcome(NamedTuple):
    """What became of one export."""

    word: str  # refused, wrong or right
    reason: str = ""
    nodes: str = ""  # such as "2 RNN"
    residual: str = ""
    ratio: str = ""

    def __str__(self) -> str:
        said = self.reason or ", ".join(filter(None, [self.nodes, self.residual, self.ratio]))
        return f"{self.word}: {said}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the models and the traps, those with such names")
    parser.add_argument("-o", "--output", type=Path, help="also write the page here")
    options = parser.parse_args(arguments)
    entries = [entry for entry in ZOO if not options.only or entry.name in options.only]
    traps = [trap for trap in TRAPS if not options.only or trap.name in options.only]
    models, right = model_table(entries)
    frozen, safe = trap_table(traps)
    print(models, frozen, sep="\n")
    if options.output is not None:
        versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
        options.output.write_text(PAGE.format(versions=versions, models=models, traps=frozen))
    return 0 if right and safe else 1


def model_table(entries: Sequence[Entry]) -> tuple[str, bool]:
    """The table, and whether every file made inside ``exporting()`` is right."""
    rows, right = [], True
    for entry in entries:
        started = time.monotonic()
        given = inputs_of(entry.model(), entry.inputs)
        alone = outcome(entry.model(), given, entry.inputs, given.dynamic_shapes)
        automatic = outcome(entry.model(), given, entry.inputs, _automatic(given.dynamic_shapes))
        forms = [outcome(entry.model(), given, entry.inputs, given.dynamic_shapes, form) for form in ("rnn", "scan")]
        rows.append([entry.name, *map(str, (alone, automatic, *forms))])
        right &= all(made.word == "right" for made in forms)
        print(f"{entry.name}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    judged = "operators, residual, x torch"
    headings = ["model", "alone, named axes", "alone, `Dim.AUTO`", f"rnn: {judged}", f"scan: {judged}"]
    return _markdown(headings, rows), right


def trap_table(traps: Sequence[Trap]) -> tuple[str, bool]:
    """The table, and whether nothing wrong came out of ``exporting()``."""
    rows, safe = [], True
    for trap in traps:
        torch.manual_seed(0)
        model = trap.make().eval()
        example = Inputs(trap.inputs(*trap.example), (), {})
        alone, inside = (outcome(model, example, trap.inputs, trap.shapes, form) for form in (None, "rnn"))
        rows.append([trap.name, str(alone), str(inside)])
        safe &= inside.word != "wrong"
    return _markdown(["what is done", "alone", "inside `exporting()`"], rows), safe


def outcome(model: nn.Module, given: Inputs, inputs: Any, shapes: Any, form: str | None = None) -> Outcome:
    """Export at the example, inside ``exporting(form)`` where there is a form, and judge the file at other sizes."""
    try:
        with quiet(), torch.no_grad():
            if form is None:
                program = _exported(model, given.example, shapes)
            else:
                with rnn_export.exporting(form):
                    program = _exported(model, given.example, shapes)
    except (torch.onnx.OnnxExporterError, RnnExportError) as error:
        return Outcome("refused", _reason(error))
    operators = [node.op_type for node in program.model_proto.graph.node]
    with TemporaryDirectory() as folder:
        program.save(file := Path(folder) / "model.onnx")
        report = rnn_export.verify_model(model, inputs, file)
    residuals = [row.residual for row in report.results if row.residual is not None]
    ratios = [row.ratio for row in report.results if row.ratio is not None]
    return Outcome(
        "right" if report.exit_code == 0 else "wrong",
        _finding(report),
        ", ".join(f"{operators.count(name)} {name}" for name in ("RNN", "Scan") if name in operators),
        f"{max(residuals):.2f}" if residuals else "no part",
        f"{max(ratios):.2f}" if ratios else "",
    )


def _exported(model: nn.Module, example: tuple[Any, ...], shapes: Any) -> Any:
    return torch.onnx.export(model, example, dynamo=True, dynamic_shapes=shapes, verbose=False)


def _automatic(shapes: Any) -> Any:
    """The same dynamic axes, for torch to find out what they depend on."""
    return torch.utils._pytree.tree_map(lambda _: torch.export.Dim.AUTO, shapes)


def _reason(error: BaseException) -> str:
    """What torch or we say at the root of it, in one line."""
    if isinstance(error, RnnExportError):
        return _line(str(error))
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    lines = str(error).splitlines()
    said = next((line.partition(", but ")[2] or line for line in lines if line.startswith("- ")), lines[0])
    return _short(f"{type(error).__name__}: {said}")


def _finding(report: Report) -> str:
    # what ONNX Runtime raises goes on with the paths of its sources
    found = (f"{row.case}: {row.detail.partition(' Status Message')[0]}" for row in report.results if row.code)
    return _short(next(found, ""))


def _short(text: str) -> str:
    return _line(text if len(text) <= LIMIT else f"{text[:LIMIT]}...")


def _line(text: str) -> str:
    """For a cell of a table that stays the same when a model moves in its file."""
    return re.sub(r"(\w+\.py):\d+", r"\1:LINE", " ".join(text.split())).replace("|", "\\|")


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
