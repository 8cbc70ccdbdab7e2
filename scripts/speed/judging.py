"""How many cases a second a verification judges: parent and child on the one core that this process has."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rnn_export.cases import Case
from rnn_export.environments import interpreter_of
from rnn_export.judgement import judge
from rnn_export.oracle import run_oracle
from rnn_export.pipeline import export
from rnn_export.runtimes import RUNTIMES
from rnn_export.session import Session
from rnn_export.subject import Subject, subject_of_artifact
from rnn_export.verification import verify_runtime

NETWORKS = ("rnn:8,8", "rnn:8,16", "rnn:8,16,relu")
FORMS = ("scan", "rnn")
RUNTIME = "onnxruntime-cpu"
STEPS, ROWS = 20, 3  # T and B are drawn up to these
CASES, WARM, ROUNDS = 450, 50, 5  # of each round; the first ones are not timed
TIMEOUT = 60.0  # seconds per request
BOUND = 1000  # cases per second


def measure() -> dict[str, Any]:
    """Cases per second of every network in every form, and the microseconds of one case's parts."""
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        subjects = {
            f"{network}, {form}": _subject(network, form, Path(scratch) / f"{network} {form}")
            for network in NETWORKS
            for form in FORMS
        }
        rounds = [{name: rate(subject, seed) for name, subject in subjects.items()} for seed in range(ROUNDS)]
        rates = {name: [each[name] for each in rounds] for name in subjects}
        return {"rates": rates, "microseconds": parts(subjects[f"{NETWORKS[1]}, {FORMS[0]}"])}


def _subject(network: str, form: str, folder: Path) -> Subject:
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    return subject_of_artifact(export(network, folder / "artifact", form=form).path, scratch)


def small_cases(subject: Subject, seed: int, count: int) -> list[Case]:
    """Inputs of T up to STEPS and B up to ROWS, none of them seen before."""
    spec, generator = subject.weights.spec, np.random.default_rng(seed)
    found = []
    for number in range(count):
        T, B = int(generator.integers(1, STEPS + 1)), int(generator.integers(1, ROWS + 1))
        x = generator.standard_normal((T, B, spec.input_size)).astype(np.float32)
        h_0 = generator.uniform(-1, 1, (len(spec.cells()), B, spec.hidden_size)).astype(np.float32)
        found.append(Case(f"{number} of {seed}: T={T} B={B}", x, h_0))
    return found


def rate(subject: Subject, seed: int) -> float:
    """Cases per second of a child that is warm: all that a verification does with each.

    Raises:
        RuntimeError: a case did not pass; then it is no rate.
    """
    moments: list[float] = []
    asked = replace(subject, cases=small_cases(subject, seed, CASES), _truth={})
    found = verify_runtime(
        asked,
        RUNTIMES.get(RUNTIME),
        timeout=TIMEOUT,
        torch_errors={},
        progress=lambda *_: moments.append(time.perf_counter()),
    )
    if wrong := [row for row in found.rows if not row.passed]:
        raise RuntimeError(f"{len(wrong)} cases did not pass: {wrong[0]}")
    return (CASES - WARM) / (moments[-1] - moments[WARM - 1])


def parts(subject: Subject) -> dict[str, float]:
    """Microseconds of one case: the child's answer, the float64 oracle, the judge."""
    runtime, weights = RUNTIMES.get(RUNTIME), subject.weights
    interpreter = interpreter_of(runtime)
    assert interpreter is not None
    cases = small_cases(subject, ROUNDS, CASES)
    session = Session(subject, runtime, interpreter, TIMEOUT)
    session.start()
    try:
        answered = [session.answers(case.x, case.h_0) for case in cases]
        truths = [run_oracle(weights, case.x, case.h_0) for case in cases]
        work: dict[str, Callable[[int], object]] = {
            "answer": lambda n: session.answers(cases[n].x, cases[n].h_0),
            "oracle": lambda n: run_oracle(weights, cases[n].x, cases[n].h_0),
            "judge": lambda n: judge(weights, cases[n].x, cases[n].h_0, answered[n], truths[n]),
        }
        return {name: _microseconds(part, len(cases)) for name, part in work.items()}
    finally:
        session.close()


def _microseconds(part: Callable[[int], object], count: int) -> float:
    durations = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for number in range(count):
            part(number)
        durations.append((time.perf_counter() - started) / count)
    return min(durations) * 1e6


def section(data: Mapping[str, Any]) -> str:
    lines = [
        f"Cases per second on one core, the parent and its warm child together: T up to {STEPS}, B up to {ROWS}, "
        f"{RUNTIME}, {CASES - WARM} cases that nobody has seen before in each of {ROUNDS} rounds. Of each the child's "
        "answer is asked for, the float64 oracle run, and every step judged.",
        "",
        "| network | form | median | least | most |",
        "|---|---|---|---|---|",
    ]
    for name, rates in data["rates"].items():
        network, _, form = name.rpartition(", ")
        lines.append(f"| `{network}` | `{form}` | **{statistics.median(rates):,.0f}** | {_ends(rates)} |")
    costs = ", ".join(f"{name} {cost:.0f}" for name, cost in data["microseconds"].items())
    return "\n".join([*lines, "", f"Bound: {BOUND:,}. Microseconds of one case, each alone: {costs}."])


def _ends(rates: Sequence[float]) -> str:
    return f"{min(rates):,.0f} | {max(rates):,.0f}"
