"""Which runtime computes which form of which network: every cell exported and verified here and now.

    python scripts/compatibility.py -o docs/compatibility.md     # writes the page, and the cells beside it as .jsonl
    python scripts/compatibility.py --check docs/compatibility.md

``--check`` compares the cells of the runtimes that are installed here, in the versions that the page has, and exits
with 1 where one changed. Runtimes are installed by ``rnn-export runtimes install NAME``; see ``RUNTIMES`` below.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from rnn_export import Weights, export, verify
from rnn_export.environments import installed_version, interpreter_of
from rnn_export.forms import FORMS
from rnn_export.inspection import load_model
from rnn_export.result import Result, Status
from rnn_export.runtimes import RUNTIMES as REGISTERED
from rnn_export.spec import parse_spec

RUNTIMES = (
    *("torch", "onnxruntime-cpu", "onnxruntime-node", "onnxruntime-web", "onnxruntime@1.24.1"),
    *("onnxruntime-openvino", "openvino", "openvino-default"),
    *("tract", "onnx-reference"),
)
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {  # name -> (spec, options of export)
    "tanh": ("rnn:4,8", {}),
    "relu": ("rnn:4,8,relu", {}),
    "linear": ("rnn:4,8,identity", {}),
    "two layers": ("rnn:4,8,layers=2", {}),
    "bidirectional": ("rnn:4,8,bidirectional", {}),
    "relu, bidirectional": ("rnn:4,8,relu,bidirectional", {}),
    "batch first": ("rnn:4,8,batch-first", {}),
    "no bias": ("rnn:4,8,no-bias", {}),
    "lengths": ("rnn:4,8", {"lengths": True}),
    "lengths, bidirectional": ("rnn:4,8,bidirectional", {"lengths": True}),
    "float64": ("rnn:4,8", {"dtype": "float64"}),
    "float16": ("rnn:4,8", {"dtype": "float16"}),
    "bfloat16": ("rnn:4,8", {"dtype": "bfloat16", "opset": 22}),  # RNN has it since 22
}
ALIASED, UNROLLED = "aliased Scan", "torch's exporter, a loop"
_ORDER = [  # what a cell says: the gravest first
    *(Status.BROKEN, Status.MISMATCH, Status.FALLBACK, Status.CRASHED, Status.TIMEOUT, Status.MEMORY),
    *(Status.REFUSED, Status.DIVERGENCE, Status.PASS),
]
_WORDS = {Status.PASS: "right", Status.DIVERGENCE: "right", Status.MISMATCH: "**wrong**", Status.FALLBACK: "elsewhere"}
LONGEST = 300  # characters of a runtime's own message
PAGE = """# Compatibility

Made by `python scripts/compatibility.py -o docs/compatibility.md`: every cell is a network of 8 hidden units with
random weights, exported in that form and verified with all default cases. Nothing here is written by hand;
`compatibility.jsonl` has the cells for programs.

- **right**: every step of every case is the recurrence's; beside it the codes of documented differences, if any.
- **wrong**: it answered, and the verdict rejects the answer. No error was raised.
- *elsewhere*: it is not placed on the provider that was asked for. *refused*, *crashed*: so.

`rnn-export explain CODE` says what a code means and what to do.

| form | network | {columns} |
| --- | --- | {rule} |
{rows}

*{aliased}* is a Scan drawn by hand whose body lists one value as state and as output, which the ONNX checker accepts.
*{unrolled}* is `torch.onnx.export(dynamo=False)` of a loop over an RNNCell at 5 steps, with dynamic axes.

## Findings

The first case of each kind, as the verdict puts it.

{findings}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("-o", "--output", type=Path, help="the page to write")
    action.add_argument("--check", type=Path, help="the page to compare with")
    options = parser.parse_args(arguments)
    names = [name for name in RUNTIMES if interpreter_of(REGISTERED.get(name)) is not None]
    for name in sorted(set(RUNTIMES) - set(names)):
        print(f"{name} is not installed and is left out: rnn-export runtimes install {name}", file=sys.stderr)
    started = time.monotonic()
    cells = list(all_cells(names))
    print(f"{len(cells)} cells in {time.monotonic() - started:.0f} s", file=sys.stderr)
    if options.check is not None:
        return check(cells, options.check)
    options.output.write_text(page(cells))
    options.output.with_suffix(".jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    return 0


def all_cells(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Every form and network on every runtime, two at a time: each runtime has a process of its own."""
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(2) as pool:
        folder = Path(scratch)
        jobs = [(form.name, network, *_exported(form.name, network, folder)) for form in FORMS for network in NETWORKS]
        jobs += [("by hand", ALIASED, *_aliased(folder)), ("by hand", UNROLLED, *_unrolled(folder))]
        for cells in pool.map(lambda job: _cells(names, *job), jobs):
            yield from cells


def _exported(form: str, network: str, folder: Path) -> tuple[Path, Any]:
    spec, options = NETWORKS[network]
    return export(spec, folder / f"{form} {network}", form=form, **options).path, None


def _aliased(folder: Path) -> tuple[Path, Any]:
    """The form scan without its Identity: one value is the next state and the output."""
    weights = Weights.random(*parse_spec("rnn:4,8"))
    model = load_model(export(weights, folder / "source", form="scan").model_path)
    scan = next(node for node in model.graph.node if node.op_type == "Scan")
    body = next(item.g for item in scan.attribute if item.name == "body")
    kept = [node for node in body.node if node.op_type != "Identity"]
    del body.node[:]
    body.node.extend(kept)
    body.output[1].name = body.output[0].name
    onnx.save(model, folder / "aliased.onnx")
    return folder / "aliased.onnx", weights


class _Loop(nn.Module):
    def __init__(self, cell: nn.RNNCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, h_0: Tensor) -> tuple[Tensor, Tensor]:
        h, states = h_0[0], []
        for t in range(x.shape[0]):
            h = self.cell(x[t], h)
            states.append(h)
        return torch.stack(states), h[None]


def _unrolled(folder: Path) -> tuple[Path, Any]:
    torch.manual_seed(0)
    cell = nn.RNNCell(4, 8)
    names = {"input_names": ["input", "h_0"], "output_names": ["output", "h_n"]}
    axes = {
        name: {0: "T", 1: "B"} if name in ("input", "output") else {1: "B"}
        for name in ("input", "h_0", "output", "h_n")
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, which says that the loop is frozen
        example = (torch.randn(5, 3, 4), torch.randn(1, 3, 8))
        torch.onnx.export(_Loop(cell), example, folder / "loop.onnx", dynamo=False, dynamic_axes=axes, **names)
    arrays = {f"{name}_l0": tensor.numpy() for name, tensor in cell.state_dict().items()}
    return folder / "loop.onnx", Weights(parse_spec("rnn:4,8")[0], arrays)


def _cells(names: Sequence[str], form: str, network: str, path: Path, against: Any) -> list[dict[str, Any]]:
    report = verify(path, against=against, runtimes=names)
    return [_cell(form, network, name, [row for row in report.results if row.runtime == name]) for name in names]


def _cell(form: str, network: str, name: str, rows: Sequence[Result]) -> dict[str, Any]:
    status = min((row.status for row in rows), key=_ORDER.index)
    worst = [row for row in rows if row.status is status and row.code]
    return {
        "form": form,
        "network": network,
        "runtime": name,
        "version": installed_version(REGISTERED.get(name)),
        "status": status.value,
        "codes": sorted({row.code for row in rows if row.code}),
        "first": f"{worst[0].case}: {worst[0].detail}".removeprefix(": ") if worst else "",
    }


def check(cells: Sequence[Mapping[str, Any]], written: Path) -> int:
    """1 where a cell of an installed runtime, in the version of the page, has another status or other codes."""
    lines = written.with_suffix(".jsonl").read_text().splitlines()
    known = {_key(cell): cell for cell in map(json.loads, lines)}
    changed = 0
    for cell in cells:
        before = known.get(_key(cell))
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


def _said(cell: Mapping[str, Any]) -> str:
    place = f"{cell['form']}, {cell['network']} on {cell['runtime']} {cell['version']}"
    return f"{place}: {cell['status']} {' '.join(cell['codes'])}".rstrip()


def page(cells: Sequence[Mapping[str, Any]]) -> str:
    columns = {cell["runtime"]: f"{cell['runtime'].partition('@')[0]} {cell['version']}" for cell in cells}
    lines: dict[tuple[str, str], list[str]] = {}
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in cells:
        status = Status(cell["status"])
        codes = [code for code in cell["codes"] if code != status.value.lower()]
        word = _WORDS.get(status, status.value.lower())
        lines.setdefault((cell["form"], cell["network"]), []).append(" ".join([word, *(f"`{code}`" for code in codes)]))
        if status is not Status.PASS:
            kinds.setdefault((cell["runtime"], cell["status"], *cell["codes"]), []).append(cell)
    findings = [
        f"- **{columns[found[0]['runtime']]}**, {found[0]['status']} "
        f"({', '.join(f'`{code}`' for code in found[0]['codes'])}), {len(found)} cells, such as "
        f"{found[0]['form']}, {found[0]['network']}: {found[0]['first'][:LONGEST]}"
        for _, found in sorted(kinds.items())
    ]
    return PAGE.format(
        columns=" | ".join(columns.values()),
        rule=" | ".join("---" for _ in columns),
        rows="\n".join(f"| {form} | {network} | {' | '.join(row)} |" for (form, network), row in lines.items()),
        aliased=ALIASED,
        unrolled=UNROLLED,
        findings="\n".join(findings),
    )


if __name__ == "__main__":
    sys.exit(main())
