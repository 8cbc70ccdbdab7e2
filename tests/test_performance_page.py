"""The page about speed is made of what was measured, and its sums are those of its own rows."""

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
CELL = {"H": 32, "B": 1, "T": 8, "nonlinearity": "tanh", "threads": 1, "chosen": "rnn"}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("speed", "performance")]:
        monkeypatch.delitem(sys.modules, name)
    return import_module("performance")


def test_the_committed_page_is_the_committed_measurements(script):
    assert script.check(ROOT / "docs" / "performance.md") == 0


def test_a_page_that_was_written_by_hand_is_stale(script, tmp_path, capsys):
    data = (ROOT / "docs" / "performance.json").read_text()
    (tmp_path / "page.json").write_text(data)
    (tmp_path / "page.md").write_text(script.page(json.loads(data)).replace("times torch", "times faster"))
    assert script.check(tmp_path / "page.md") == 1
    assert "is stale" in capsys.readouterr().out


def test_regret_is_what_the_choice_takes_longer_than_the_fastest(script):
    cell = {**CELL, "microseconds": {"rnn": 12.0, "blocked": 10.0, "hoisted": 30.0, "stacked": 40.0, "scan": 50.0}}
    assert script.regret.regret(cell) == pytest.approx(0.2)
    said = script.regret.section({"cells": [cell, {**cell, "chosen": "blocked"}]})
    assert "within 10% of the fastest in **1** (50%; the aim is 95%), with one thread in 1 of 2" in said
    assert "0 (`rnn`), 2 (`blocked`)" in said


def test_the_grid_of_the_choice_has_sixty_cells_and_every_value(script):
    cells = list(script.regret.cells())
    assert len(cells) == len(set(cells)) == script.regret.CELLS == 60
    for name, values in (("H", script.regret.WIDTHS), ("B", script.regret.BATCHES), ("T", script.regret.LENGTHS)):
        assert {getattr(cell, name) for cell in cells} == set(values)
    assert {(cell.nonlinearity, cell.threads) for cell in cells} == {
        (name, threads) for name in ("tanh", "relu") for threads in (1, 2)
    }


def test_the_means_are_of_the_form_that_was_chosen(script):
    data = json.loads((ROOT / "docs" / "performance.json").read_text())["targets"]["found"]
    cells = [script.targets.Rows(cell) for cell in data["cells"]]
    assert len(cells) == len(script.targets.CELLS)
    for cell, (H, T, B) in zip(cells, script.targets.CELLS, strict=True):
        assert cell.size == f"{H}, {T}, {B}"
        assert cell.own.form == cell.chosen
        assert cell.against("torch") <= cell.best
    means = script.targets.means(cells)
    assert set(means) == {"torch", "the RNN operator", "OpenVINO's RNN"}
    assert min(cell.against("torch") for cell in cells) <= means["torch"] <= max(cell.best for cell in cells)
