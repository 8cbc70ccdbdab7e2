"""How far a quantised network is from the one that it was made from, which says whether it is good enough.

Whether a runtime computes it rightly is another question, which the steps answer. Neither answer stands for the other.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from rnn_export.cases import Case, Check
from rnn_export.judgement import Answers, distances, largest_output
from rnn_export.oracle import Trajectory, head_input, run_oracle
from rnn_export.sequences import stretches
from rnn_export.subject import Subject
from rnn_export.weights import Head, Weights

FIRST = 10  # steps: what has come of one state's rounding before it went round many times


def drift_case(cases: Iterable[Case]) -> Case | None:
    """The user's own data, else the longest; None where nothing finite is run step by step."""
    telling = [case for case in cases if case.check is Check.STEPS and case.x.size and np.isfinite(case.x).all()]
    return max(telling, key=lambda case: (bool(case.own), case.T, -case.B), default=None)


def drift_in_words(subject: Subject, case: Case, answers: Answers) -> str:
    """The largest distances of a runtime's outputs from the float64 oracle of the original weights.

    Args:
        subject: of a form that quantises.
        case: what was run.
        answers: what came of it.
    """
    assert subject.original is not None
    truth = run_oracle(subject.original, case.x, case.h_0, case.lengths)
    errors = distances(answers, truth)[1]  # (T,), of the output
    said = f"drift {errors.max():.1e} at T={case.T} against the original weights"
    if case.T > FIRST:
        said += f", {errors[:FIRST].max():.1e} over the first {FIRST} steps"
    said += f", of outputs up to {largest_output(truth):.1e}"
    if subject.head is not None and answers.prediction is not None:
        distance = _prediction_error(subject.head, subject.original, case, truth, answers.prediction)
        said += f", {distance:.1e} in the prediction"
    return said


def _prediction_error(
    head: Head, weights: Weights, case: Case, truth: Trajectory, prediction: NDArray[np.floating]
) -> float:
    read = head_input(head, weights.spec, case.x, case.h_0, truth.output[:], case.lengths)
    weight, bias = (array.astype(np.float64) for array in head)
    return max(
        float(np.abs(prediction[steps] - (read[steps] @ weight.T + bias)).max(initial=0.0))
        for steps in stretches(case.T, case.B * weight.shape[1])
    )
