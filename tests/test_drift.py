"""How far a quantised network is from the original: measured on the longest finite case, in a runtime's own outputs."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rnn_export.cases import Case, Check, default_cases
from rnn_export.checkpoint import Checkpoint
from rnn_export.drift import drift_case, drift_in_words
from rnn_export.judgement import Answers
from rnn_export.oracle import run_oracle
from rnn_export.pipeline import export
from rnn_export.spec import RNNSpec
from rnn_export.subject import Subject, subject_of_artifact
from rnn_export.weights import Head, Weights

WEIGHTS = Weights.random(RNNSpec(3, 40, 2, bidirectional=True), 0)


def case_of(T: int, name: str = "a case", own: str = "", check: Check = Check.STEPS) -> Case:
    rng = np.random.default_rng(T)
    x, h_0 = rng.normal(size=(T, 2, 3)), rng.uniform(-1, 1, (4, 2, 40))
    return Case(name, x.astype(np.float32), h_0.astype(np.float32), check, own=own)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    head = Head(np.full((2, 80), 0.1, np.float32), np.ones(2, np.float32))
    artifact = export(Checkpoint(WEIGHTS, (), {"name": "it"}, head), tmp_path / "net", form="int8")
    (tmp_path / "scratch").mkdir()
    return subject_of_artifact(artifact.path, tmp_path / "scratch")


def numbers(words: str) -> list[float]:
    return [float(value) for value in re.findall(r"\d\.\de[-+]\d\d", words)]


def test_it_is_the_largest_distance_from_the_original_network_and_not_from_the_quantised_one(subject):
    case = case_of(30)
    answers = Answers(run_oracle(subject.weights, case.x, case.h_0).output.astype(np.float32), None, None)
    off = np.abs(answers.output - run_oracle(WEIGHTS, case.x, case.h_0).output).max(axis=(1, 2))
    words = drift_in_words(subject, case, answers)
    assert words.startswith("drift ")
    assert " at T=30 against the original weights, " in words
    assert " over the first 10 steps, of outputs up to " in words
    largest = np.abs(run_oracle(WEIGHTS, case.x, case.h_0).output).max()
    assert numbers(words) == [float(f"{value:.1e}") for value in (off.max(), off[:10].max(), largest)]
    exact = Answers(run_oracle(WEIGHTS, case.x, case.h_0).output.astype(np.float32), None, None)
    assert numbers(drift_in_words(subject, case, exact))[0] < 1e-6


def test_the_first_steps_are_not_told_apart_where_there_are_no_others(subject):
    case = case_of(10)
    answers = Answers(run_oracle(WEIGHTS, case.x, case.h_0).output.astype(np.float32), None, None)
    assert "first" not in drift_in_words(subject, case, answers)


def test_a_prediction_has_a_distance_of_its_own(subject):
    case = case_of(5)
    output = run_oracle(WEIGHTS, case.x, case.h_0).output.astype(np.float32)
    prediction = output @ np.full((80, 2), 0.1, np.float32) + np.float32(1.25)
    words = drift_in_words(subject, case, Answers(output, None, None, prediction=prediction))
    assert words.endswith(", 2.5e-01 in the prediction")


def test_it_is_measured_on_the_users_own_data_else_on_the_longest_case():
    usual = default_cases(WEIGHTS.spec, "float32")
    chosen = drift_case(usual)
    assert chosen is not None
    assert (chosen.name, chosen.T, chosen.B) == ("T=400 B=1", 400, 1)
    own = case_of(7, "own.npz", own="your own data")
    assert drift_case([*usual, own]) is own


def test_what_is_not_finite_or_not_run_step_by_step_is_no_measure():
    broken = case_of(9)
    broken.x[3, 1, 0] = np.nan
    others = [case_of(9, check=check) for check in (Check.MASKS, Check.CHUNKS, Check.SHAPES)]
    assert drift_case([broken, *others]) is None
    assert drift_case([replace(case_of(9), x=np.zeros((0, 2, 3), np.float32))]) is None
