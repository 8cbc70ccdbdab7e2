"""The tool's own speed, with room for a slow and busy machine: what is loaded, and what grows with what."""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from rnn_export.checkpoint import save_weights
from rnn_export.forms import FORMS, draw
from rnn_export.module import from_torch
from rnn_export.pipeline import export
from rnn_export.rounding import FLOAT32, FLOAT64, Terms
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights
from tests.subjects import drawn_subject

SCRIPTS = Path(__file__).parents[1] / "scripts"
# Bounds are several times what a quiet machine shows: what fails them is another kind of work, and no bad day.
IMPORT = 0.050  # seconds beside Python's own start; 0.010 were seen
EXPORT_OVER_IMPORTS = 4.0  # times what a process takes to import numpy and onnx alone; 1.9 were seen
TIMES_TORCH = 20.0  # a whole export beside torch's at T = 32; 90 were seen, and 290 at T = 128
PER_LAYER = 3.0  # drawing 16 layers over 16 times drawing one; 0.5 were seen
RATE = 250.0  # cases per second, parent and child; 1,070 were seen on one core


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(SCRIPTS)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("faults", "speed"):
            del sys.modules[name]


def part(name: str) -> ModuleType:
    """A module of scripts/speed."""
    return import_module(f"speed.{name}")


def least(run: Callable[[], object], repeats: int = 7) -> float:
    """Seconds of the fastest of several runs: what else the machine does only adds."""
    durations = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        durations.append(time.perf_counter() - started)
    return min(durations)


def process(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


def loaded_by(*arguments: str) -> set[str]:
    """Every module in memory after the command line ran with these arguments."""
    script = "import sys, json\nfrom rnn_export.cli import main\n"
    script += (
        f"sys.argv[1:] = {list(arguments)!r}\ntry: main()\nexcept SystemExit: pass\nprint(json.dumps([*sys.modules]))"
    )
    return set(json.loads(process("-c", script).splitlines()[-1]))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_weights(tmp_path / "rnn.safetensors", Weights.random(RNNSpec(64, 64), 0))
    return tmp_path / "rnn.safetensors"


def test_importing_the_package_takes_little_beside_python_itself():
    alone = least(lambda: process("-c", "pass"))
    assert least(lambda: process("-c", "import rnn_export")) - alone < IMPORT


def test_the_help_loads_no_metadata_of_packages():
    assert not loaded_by("--help") & {"importlib.metadata", "email", "numpy", "onnx", "torch"}


def test_an_export_of_safetensors_loads_neither_torch_nor_a_runtime_nor_a_console(checkpoint: Path, tmp_path: Path):
    found = loaded_by("export", str(checkpoint), "-o", str(tmp_path / "out"))
    assert not found & {"torch", "onnxruntime", "onnxscript", "onnx_ir", "safetensors.torch", "rich", "scipy"}
    assert (tmp_path / "out" / "model.onnx").is_file()


def test_an_export_of_safetensors_takes_little_more_than_its_imports(checkpoint: Path, tmp_path: Path):
    imports = least(lambda: process("-c", "import numpy, onnx"), repeats=4)
    line = ("-m", "rnn_export", "export", str(checkpoint), "-o", str(tmp_path / "out"))
    assert least(lambda: process(*line), repeats=4) < EXPORT_OVER_IMPORTS * imports


def test_an_export_is_many_times_faster_than_torchs(tmp_path: Path):
    module, T = nn.RNN(64, 64).eval(), 32

    def by_torch(T: int) -> None:
        example = (torch.zeros(T, 3, 64), torch.zeros(1, 3, 64))
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, example, tmp_path / "torch.onnx", dynamo=True, verbose=False)

    by_torch(2)  # what the first one imports
    ours = least(lambda: export(module, tmp_path / "ours"))
    assert least(lambda: by_torch(T), repeats=1) > TIMES_TORCH * ours


@pytest.mark.parametrize("form", [form.name for form in FORMS if form.length == "dynamic" and form.name != "module"])
def test_drawing_grows_no_faster_than_the_layers(form: str):
    one, many = (Weights.random(RNNSpec(16, 16, layers), 0) for layers in (1, 16))
    assert least(lambda: draw(form, many, 18)) < PER_LAYER * 16 * least(lambda: draw(form, one, 18))


def test_many_cases_a_second_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    judging = part("judging")
    monkeypatch.setattr(judging, "CASES", 150)
    subject = drawn_subject("rnn:8,16", tmp_path)
    assert max(judging.rate(subject, seed) for seed in range(3)) > RATE


def test_a_case_that_does_not_pass_is_no_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    judging = part("judging")
    monkeypatch.setattr(judging, "CASES", judging.WARM + 1)
    monkeypatch.setattr(judging, "RUNTIME", "iree")
    monkeypatch.setattr("rnn_export.verification.interpreter_of", lambda runtime: None)
    with pytest.raises(RuntimeError, match="did not pass"):
        judging.rate(drawn_subject("rnn:8,16", tmp_path), 0)


def test_what_the_judge_needs_of_the_weights_is_made_once():
    weights = from_torch(nn.RNN(3, 4, num_layers=2, bias=False))
    cells = [weights.cell(layer, 0) for layer in (0, 1)]
    assert Terms.of(cells[0], FLOAT32) is Terms.of(weights.cell(0, 0), FLOAT32)
    others = [Terms.of(cells[1], FLOAT32), Terms.of(cells[0], FLOAT64)]
    others.append(Terms.of(cells[0]._replace(nonlinearity="relu"), FLOAT32))
    assert all(other is not Terms.of(cells[0], FLOAT32) for other in others)
    assert others[-1].nonlinearity == "relu"
    again = Terms.of(cells[0], FLOAT32)
    assert again.turned("weight_ih", np.abs) is again.turned("weight_ih", np.abs)
    np.testing.assert_array_equal(again.turned("weight_ih", np.abs), np.abs(weights["weight_ih_l0"]).T)


class TestThePage:
    def test_a_section_is_made_of_what_was_measured(self, monkeypatch: pytest.MonkeyPatch):
        starting = part("starting")
        monkeypatch.setattr(starting, "ROUNDS", 1)
        found = json.loads(json.dumps(starting.measure()))
        assert not found["loads_torch"]
        assert starting.section(found).count("\n| ") == 1 + len(starting.WORDS)

    def test_everything_runs_on_one_core_and_the_machine_is_as_before(self, monkeypatch: pytest.MonkeyPatch):
        own, cores, seen = part("own"), os.sched_getaffinity(0), []
        variables = dict(os.environ)
        spy = ModuleType("spy")
        spy.measure = lambda: seen.append((os.sched_getaffinity(0), os.environ["OMP_NUM_THREADS"]))
        monkeypatch.setattr(own, "PARTS", {"spy": ("Seen", spy)})
        own.measure()
        assert [(len(used), threads) for used, threads in seen] == [(1, "1")]
        assert os.sched_getaffinity(0) == cores
        assert dict(os.environ) == variables

    def test_what_torch_sees_is_one_size(self, tmp_path: Path):
        planted, torch_side = part("planted"), part("torch_side")
        files = {file.name: file for file in planted.plant(tmp_path)}
        verdicts = {name: torch_side.accepts(file, tmp_path) for name, file in files.items()}
        assert verdicts[planted.RIGHT]
        assert verdicts[planted.RIGHT_CHAOTIC]
        assert verdicts[planted.FROZEN]
        assert not verdicts["h_0 ignored"]

    def test_the_verdict_on_given_inputs_tells_right_from_wrong(self, tmp_path: Path):
        planted, same = part("planted"), part("same_inputs")
        for file in planted.plant(tmp_path):
            if file.name in (planted.RIGHT, planted.FROZEN, "one bias + 0.0001"):
                code = same.main(*map(str, (file.model, file.weights, file.cases)))
                assert code == (file.name != planted.RIGHT), file.name
