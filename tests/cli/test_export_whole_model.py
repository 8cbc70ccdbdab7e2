"""``rnn-export export package.module:factory``."""

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from rnn_export.cli import main

FACTORY = """
import torch
from torch import nn

print("imported")


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(20, 8), nn.RNN(8, 12, bidirectional=True), nn.Linear(24, 5)

    def forward(self, ids):
        return self.out(self.rnn(self.embed(ids))[0])


class Looped(Tagger):
    def forward(self, ids):
        x, states = self.embed(ids), []
        h = x.new_zeros(x.shape[1], 24)
        for x_t in x:
            h = torch.tanh(h + x_t.sum())
            states.append(h)
        return self.out(torch.stack(states))


def make():
    torch.manual_seed(0)
    return Tagger(), lambda T, B: torch.randint(20, (T, B))


def others():
    torch.manual_seed(1)
    return Tagger(), lambda T, B: torch.randint(20, (T, B))


def with_shapes():
    return Tagger(), (torch.randint(20, (6, 4)),), ({0: "T", 1: "B"},)


def looped():
    return Looped(), lambda T, B: torch.randint(20, (T, B))


def only_a_model():
    return Tagger()


def raises():
    raise ValueError("no data here")


def leaves():
    raise SystemExit(0)


class Broken(Tagger):
    def forward(self, ids):
        return self.outt(self.rnn(self.embed(ids))[0])


class Branching(Tagger):
    def forward(self, ids):
        logits = super().forward(ids)
        if logits.sum() > 0:
            return -logits
        return logits


class Decomposing(Tagger):
    def forward(self, ids):
        return torch.linalg.svd(super().forward(ids))[0]


def sizes(T, B):
    return torch.randint(20, (T, B))


def broken():
    return Broken(), sizes


def wide():
    return nn.Sequential(nn.RNN(4, 6)), lambda T, B: torch.zeros(T, B, 5)


def branching():
    return Branching(), sizes


def decomposing():
    return Decomposing(), sizes


class Noisy(Tagger):
    def forward(self, ids):
        return super().forward(ids) + torch.rand(1)


def noisy():
    return Noisy(), sizes


def no_sizes():
    return Tagger(), lambda: torch.zeros(5, 3, dtype=torch.int64)


def a_dict():
    return Tagger(), lambda T, B: {"ids": sizes(T, B)}


def half():
    return Tagger().half(), sizes


TAGGER = 3
"""


def place(code: str) -> str:
    """The line of the factory's module, as an error names it."""
    return rf"models\.py:{next(number for number, line in enumerate(FACTORY.splitlines(), 1) if code in line)}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "models.py").write_text(FACTORY)
    return tmp_path


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process, in the project's folder; to start a new one costs seconds."""

    def run(*arguments: str) -> Done:
        for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
            del sys.modules[name]
        monkeypatch.chdir(project)
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.setattr(sys, "argv", ["rnn-export", *arguments])
        importlib.invalidate_caches()
        with pytest.raises(SystemExit) as exit_:
            main()
        return Done(int(exit_.value.code or 0), *capsys.readouterr())

    return run


def test_it_is_exported_verified_and_printed(project: Path, run: Run) -> None:
    done = run("export", "mine.models:make", "-o", "out", "--trust-code")
    assert done.code == 0, done.err
    assert re.search(r"out: mine\.models:make, form rnn, opset 18, model\.onnx [\d,]+ bytes", done.out)
    assert re.search(r"onnxruntime-cpu .* 9/9 .* float32 .* PASS", done.out)
    assert "PASSED on onnxruntime-cpu" in done.out
    manifest = json.loads((project / "out" / "manifest.json").read_text())
    assert (manifest["kind"], manifest["form"], manifest["inputs"]) == (
        "whole-model",
        "rnn",
        {"ids": {"0": "T", "1": "B"}},
    )
    assert manifest["source"] == {"factory": "mine.models:make"}
    assert sorted(path.name for path in (project / "out").iterdir()) == ["manifest.json", "model.onnx"]


def test_dynamic_shapes_the_form_and_replacing_what_is_there(project: Path, run: Run) -> None:
    assert run("export", "rnn:4,8", "-o", "out").code == 0
    done = run("export", "mine.models:with_shapes", "-o", "out", "--trust-code", "--form", "scan", "--opset", "20")
    assert done.code == 0, done.err
    manifest = json.loads((project / "out" / "manifest.json").read_text())
    assert (manifest["form"], manifest["opset"]) == ("scan", 20)
    assert run("export", "rnn:4,8", "-o", "out").code == 0


def test_the_folder_is_verified_against_its_factory(project: Path, run: Run) -> None:
    again = ("verify", "out", "--against", "mine.models:make")
    done = run("export", "mine.models:make", "-o", "out", "--trust-code", "--runtime", "onnx-reference")
    assert "PASSED on onnx-reference" in done.out
    done = run("verify", "out")
    assert done.code == 3
    assert "a whole model, which only its torch model can judge" in done.err
    assert "--against mine.models:make --trust-code" in done.err
    done = run(*again)
    assert done.code == 2
    assert "--trust-code" in done.err
    assert "imported" not in done.err
    assert run(*again, "--trust-code", "--input-kind", "one-hot").code == 2
    assert run("export", "rnn:4,8", "-o", "one").code == 0
    weights = "one/weights.safetensors"
    assert "--against mine.models:make --trust-code" in run("verify", "out", "--against", weights).err
    done = run("verify", "out/model.onnx", "--against", weights)
    assert done.code == 3
    assert re.search(r"takes ids \(integers\) and gives \w+, .*--against module:factory --trust-code$", done.err)
    done = run(*again, "--trust-code", "--runtime", "onnxruntime-cpu", "--format", "json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert {row["runtime"] for row in report["results"]} == {"onnxruntime-cpu"}
    done = run("verify", "out/model.onnx", "--against", "mine.models:others", "--trust-code")
    assert done.code == 1
    assert "holds the weights of rnn" in done.out


def test_runtimes_of_an_artifact_are_named_to_verify(run: Run) -> None:
    done = run("export", "rnn:4,8", "-o", "out", "--runtime", "onnxruntime-cpu")
    assert done.code == 2
    assert "--runtime is for a whole model" in done.err


def test_without_trust_nothing_is_imported(project: Path, run: Run) -> None:
    done = run("export", "mine.models:make", "-o", "out")
    assert done.code == 2
    assert "mine.models:make is code" in done.err
    assert "--trust-code" in done.err
    assert "imported" not in done.err
    assert not (project / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("mine.models:looped",), 3, r"models\.py:\d+: `for x_t in x:`.*over_time"),
        (("mine.models:only_a_model",), 3, r"returned Tagger, not a model with its inputs"),
        (("mine.models:raises",), 3, rf"raises raised: {place('no data')}: ValueError: no data here$"),
        (("mine.models:leaves",), 3, rf"leaves raised: {place('SystemExit')}: SystemExit: 0$"),
        (("mine.models:mak",), 3, r"module 'mine\.models' has no 'mak'\. Did you mean make\?$"),
        (("mine.models:TAGGER",), 3, r"TAGGER is no function, but int\. "),
        (("mine/models.py:make",), 2, r"is a file of code: write mine\.models:make --trust-code$"),
        (("mine/models.py",), 2, r"is a file of code: name the function in it: mine\.models:NAME --trust-code$"),
        (("mine.models:broken",), 3, rf"does not run: {place('self.outt(')}: AttributeError: .*'outt'$"),
        (("mine.models:wide",), 3, r"does not run: RuntimeError: .*Expected 4, got 5$"),
        (("mine.models:branching",), 3, rf"cannot export the model: {place('if logits')}: .*branches.*torch\.where$"),
        (("mine.models:decomposing",), 3, rf"{place('linalg.svd')}: ONNX has no aten\._linalg_svd.*other operators$"),
        (("mine.models:noisy",), 3, rf"input differ: {place('torch.rand(1)')}: torch's rand is random"),
        (("mine.models:no_sizes",), 3, rf"{place('lambda: torch')}: inputs\(5, 3\).*0 positional.*of \(T, B\)$"),
        (("mine.models:a_dict",), 3, r"must return a tensor or a tuple of the arguments of forward, not dict"),
        (("mine.models:half",), 3, r"rnn is float16\. A whole model is exported in float32 or float64: model\.float"),
        (("mine.nothing:make",), 3, r"No module named 'mine\.nothing'"),
        (("mine.models:make", "--form", "module"), 2, r"no form 'module'"),
        (("mine.models:make", "--prefix", "rnn"), 2, r"--prefix is for checkpoints"),
        (("mine.models:make", "--time-first"), 2, r"--batch-first is for checkpoints"),
        (("mine.models:make", "--lengths"), 2, r"--lengths is for checkpoints"),
        (("mine.models:make", "--runtime", "torch"), 2, r"torch runs the weights of one network"),
        (("rnn:4,8",), 2, r"--trust-code is for package\.module:factory"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_is_no_use_is_said(project: Path, run: Run, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = run("export", *arguments, "-o", "out", "--trust-code")
    assert done.code == code, done.err
    assert re.search(says, done.err, re.MULTILINE)
    assert done.err.splitlines()[-1].startswith(("rnn-export: error: ", "Error: "))
    assert "Traceback" not in done.err
    assert "def forward" not in done.err  # torch writes the graph
    assert not (project / "out").exists()


def test_a_folder_that_is_not_ours_is_kept(project: Path, run: Run) -> None:
    (project / "out").mkdir()
    (project / "out" / "precious").touch()
    done = run("export", "mine.models:make", "-o", "out", "--trust-code")
    assert done.code == 2
    assert "it was kept" in done.err
    assert (project / "out" / "precious").exists()


@pytest.mark.slow
def test_in_a_process_of_its_own(project: Path) -> None:
    command = [sys.executable, "-m", "rnn_export", "export", "mine.models:make", "-o", "out", "--trust-code"]
    own = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}  # this checkout, wherever the folder is
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, env=own)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "imported\n"
    assert "PASSED on onnxruntime-cpu" in done.stdout
