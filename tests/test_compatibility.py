"""The compatibility page is made of cells, and a cell that changed, came or went is noticed."""

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
RIGHT = {"form": "rnn", "network": "tanh", "runtime": "a", "version": "1.0", "status": "PASS", "codes": [], "first": ""}
WRONG = {**RIGHT, "network": "relu", "status": "MISMATCH", "codes": ["step-residual"], "first": "T=1 B=1: off"}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("compat", "compatibility")]:
        monkeypatch.delitem(sys.modules, name)
    return import_module("compatibility")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    (tmp_path / "page.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in (RIGHT, WRONG)))
    return tmp_path / "page.md"


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([RIGHT, WRONG], ""),
        ([RIGHT, {**WRONG, "status": "PASS", "codes": []}], "changed: rnn, relu on a 1.0: PASS, was MISMATCH"),
        ([RIGHT], "gone: rnn, relu on a 1.0"),
        ([RIGHT, WRONG, {**RIGHT, "form": "scan"}], "new: scan, tanh on a 1.0"),
        ([RIGHT, WRONG, {**RIGHT, "runtime": "b"}], "new: rnn, tanh on b 1.0"),
        ([{**cell, "version": "2.0"} for cell in (RIGHT, WRONG)], ""),  # the page is about another version
    ],
)
def test_what_changed_is_said_and_fails(script, written, capsys, cells, said):
    assert script.check(cells, written) == bool(said)
    assert said in capsys.readouterr().out


def test_the_page_counts_and_names_what_it_found(script):
    text = script.page([RIGHT, WRONG], 60, "2 processors")
    assert "| a 1.0 | 1/2 |" in text
    assert "| relu | **wrong** `step-residual` |" in text
    assert "- **a 1.0**, MISMATCH (`step-residual`), 1 cells, such as rnn, relu: T=1 B=1: off" in text
    assert "It took 1 minutes on 2 processors" in text


def test_the_committed_page_is_the_committed_cells(script):
    docs = ROOT / "docs"
    cells = [json.loads(line) for line in (docs / "compatibility.jsonl").read_text().splitlines()]
    took = next(line for line in script.page(cells, 0, "W").splitlines() if "It took" in line).partition("It took")[0]
    found, expected = (
        [line for line in text.splitlines() if took not in line]
        for text in (script.page(cells, 0, "W"), (docs / "compatibility.md").read_text())
    )
    assert found == expected


def test_one_runtime_measured_alone_keeps_the_cells_of_the_others(script: ModuleType, tmp_path: Path) -> None:
    known = [{**RIGHT, "runtime": name} for name in ("onnxruntime-cpu", "tract", "triton")]
    (tmp_path / "page.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in known))
    found = script.merged(tmp_path / "page.md", [{**WRONG, "network": "tanh", "runtime": "triton"}])
    assert [(cell["runtime"], cell["status"]) for cell in found] == [
        ("onnxruntime-cpu", "PASS"),
        ("tract", "PASS"),
        ("triton", "MISMATCH"),
    ]


def test_one_form_measured_alone_stands_in_its_place_and_keeps_the_cells_of_the_others(script, tmp_path: Path) -> None:
    known = [{**RIGHT, "form": form, "runtime": "tract"} for form in ("cell", "scan", "by hand")]
    (tmp_path / "page.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in known))
    found = script.merged(tmp_path / "page.md", [{**RIGHT, "form": "rnn", "runtime": "tract"}])
    assert [cell["form"] for cell in found] == ["cell", "rnn", "scan", "by hand"]
