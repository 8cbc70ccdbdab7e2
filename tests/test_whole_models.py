"""The page of whole models: its rows are measured, and a wrong file makes the script fail."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(SCRIPTS)
    yield import_module("whole_models")
    for name in ("whole_models", "freezing", "zoo"):
        del sys.modules[name]


@pytest.mark.slow
def test_a_model_and_a_trap(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = ("strided CNN + RNN", "nn.RNN, an example of one step", "a Python loop over an RNNCell")
    assert script.main(["--only", *only, "-o", str(tmp_path / "page.md")]) == 0
    model, loop, one_step = [line for line in capsys.readouterr().out.splitlines() if line[2:].startswith(only)]
    _, _, named, automatic, rnn, scan, _ = map(str.strip, model.split("|"))
    assert named.startswith("wrong: ")  # torch says that the length is dynamic, and it is not
    assert automatic.startswith("wrong: ")
    assert rnn.startswith("right: 1 RNN, ")
    assert scan.startswith("right: 2 Scan, ")
    assert "| wrong: " in one_step
    assert "| refused: the example has one step" in one_step
    assert loop.count("| refused: ") == 2
    assert "freezing.py:LINE: `for t in range(x.shape[0]):`" in loop
    page = (tmp_path / "page.md").read_text()
    assert model in page
    assert loop in page
    assert str(SCRIPTS.parent) not in page


def test_a_wrong_file_is_a_failure(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "outcome", lambda *_: script.Outcome("wrong"))
    assert script.model_table(script.ZOO[:1])[1] is False
    assert script.trap_table(script.TRAPS[:1])[1] is False
    monkeypatch.setattr(script, "outcome", lambda *_: script.Outcome("refused"))
    assert script.model_table(script.ZOO[:1])[1] is False
    assert script.trap_table(script.TRAPS[:1])[1] is True
