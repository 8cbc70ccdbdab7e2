"""The page: how much of each form each runtime computes, then every cell, then the first case of each finding."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compat.by_hand import BY_HAND
from compat.networks import HAND, STEPS
from rnn_export.result import Status

WORDS = {Status.PASS: "right", Status.DIVERGENCE: "right", Status.MISMATCH: "**wrong**", Status.FALLBACK: "elsewhere"}
DOCUMENTED = ("nan-swallowed", "no-rows", "no-steps")  # differences between runtimes, and no wrong answers
LONGEST = 300  # characters of a runtime's own message
PAGE = """# Compatibility

Made by `python scripts/compatibility.py -o docs/compatibility.md`: every cell is a network of 8 hidden units with
random weights, exported in that form and verified with all default cases. Nothing here is written by hand;
`compatibility.jsonl` has the cells for programs. It took {minutes:.0f} minutes on {where}.

- **right**: every step of every case is the recurrence's; beside it the codes of documented differences, if any.
- **wrong**: it answered, and the verdict rejects the answer. No error was raised.
- *elsewhere*: it is not placed on the provider that was asked for. *refused*, *crashed*: so.

`rnn-export explain CODE` says what a code means and what to do. The form `unrolled` is drawn for {steps} steps.

## How many of the networks each runtime computes

"But for NaN" are those that it computes for finite inputs, and whose NaN or infinity it swallows or misplaces.

{summary}

{details}

## Findings

The first case of each kind, as the verdict puts it.

{findings}
"""
Cell = Mapping[str, Any]


def page(cells: Sequence[Cell], seconds: float, where: str) -> str:
    """Markdown, from the cells in the order of their lines."""
    forms = list(dict.fromkeys(cell["form"] for cell in cells))
    details = [_details(form, [cell for cell in cells if cell["form"] == form]) for form in forms]
    return PAGE.format(
        minutes=seconds / 60,
        where=where,
        steps=STEPS,
        summary=_summary(cells, forms),
        details="\n\n".join(details),
        findings="\n".join(_findings(cells)),
    )


def _summary(cells: Sequence[Cell], forms: Sequence[str]) -> str:
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[_label(cell), cell["form"]].append(cell)
    drawn = [form for form in forms if form != HAND]
    rows = [[label, *(_count(groups[label, form]) for form in drawn)] for label in dict.fromkeys(map(_label, cells))]
    return _table(["runtime", *(f"`{form}`" for form in drawn)], rows)


def _count(cells: Sequence[Cell]) -> str:
    if not cells:
        return "not measured"
    right = sum(WORDS.get(Status(cell["status"])) == "right" for cell in cells)
    wrong = [set(cell["codes"]) for cell in cells if cell["status"] == Status.MISMATCH.value]
    finite = sum(codes <= {"nan-misplaced", *DOCUMENTED} for codes in wrong)
    return f"{right}/{len(cells)}" + (f", {finite} but for NaN" if finite else "")


def _details(form: str, cells: Sequence[Cell]) -> str:
    labels = list(dict.fromkeys(map(_label, cells)))
    lines: dict[str, list[str]] = {}
    for cell in cells:
        status = Status(cell["status"])
        codes = [f"`{code}`" for code in cell["codes"] if code != status.value.lower()]
        lines.setdefault(cell["network"], []).append(" ".join([WORDS.get(status, status.value.lower()), *codes]))
    text = _table(["network", *labels], [[network, *words] for network, words in lines.items()])
    notes = [f"- *{name}*: {file.what}." for name, file in BY_HAND.items()] if form == HAND else []
    title = "Drawn by hand, or by torch's exporter" if form == HAND else f"Form `{form}`"
    return "\n\n".join([f"## {title}", text, *(["\n".join(notes)] if notes else [])])


def _findings(cells: Iterable[Cell]) -> list[str]:
    kinds: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        if cell["status"] != Status.PASS.value:
            kinds.setdefault((cell["runtime"], cell["status"], *cell["codes"]), []).append(cell)
    return [
        f"- **{_label(found[0])}**, {found[0]['status']} "
        f"({', '.join(f'`{code}`' for code in found[0]['codes'])}), {len(found)} cells, such as "
        f"{found[0]['form']}, {found[0]['network']}: {found[0]['first'][:LONGEST]}"
        for _, found in sorted(kinds.items())
    ]


def _label(cell: Cell) -> str:
    return f"{cell['runtime'].partition('@')[0]} {cell['version']}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
