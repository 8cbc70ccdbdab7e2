"""One network on one runtime: every case run, judged, and put into words."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from rnn_export.cases import Case, Check, of_two_shapes
from rnn_export.child import Failure
from rnn_export.drift import drift_case, drift_in_words
from rnn_export.environments import how_to_install, interpreter_of
from rnn_export.errors import SourceError
from rnn_export.judgement import RATIO_GATE, UNJUDGED, Answers, Judgement, judge, ratio_to_torch, shape_problem
from rnn_export.oracle import Trajectory, run_oracle, state_rounding_error
from rnn_export.record import Record, Series, series_of
from rnn_export.residual import GATE
from rnn_export.result import Result, Stage, Status
from rnn_export.rounding import ARITHMETICS
from rnn_export.runtimes import Runtime
from rnn_export.session import Array, Session, Wrong
from rnn_export.subject import Subject

Progress = Callable[[str, int, int], None]  # (runtime, cases done, cases in all)
DEATHS_BEFORE_GIVING_UP = 2  # a runtime that hangs on every case costs two time limits, not thirty
TORCHS_OWN = "torch's own error"
CHUNKS = (1, 2, 3, 4)
STATE_MOVES, ROUNDINGS = (
    1e-3,
    16,
)  # what another h_0 must move outputs by to be missed; in coarse types so many roundings
# What torch itself refuses in part: a difference between runtimes, and no wrong answer.
_EMPTY = {
    Check.NO_STEPS: ("no-steps", "refuses a sequence of length 0"),
    Check.SHAPES: ("no-rows", "refuses an empty batch"),
}


class Verified(NamedTuple):
    """The rows of one runtime, and what else it showed."""

    rows: list[Result]
    record: Record


class _Telling:
    """The case whose course over time tells most: one that failed, else the user's own, else the longest."""

    def __init__(self) -> None:
        self.series: Series | None = None
        self._rank = (False, False, 0, 0)

    def hear(self, case: Case, judgement: Judgement) -> None:
        rank = (bool(judgement.code and not judgement.diverges), bool(case.own), case.T, -case.B)
        if case.check is not Check.STEPS or rank <= self._rank:
            return
        if series := series_of(case.name, GATE, judgement.residuals, judgement.errors):
            self._rank, self.series = rank, series


def verify_runtime(
    subject: Subject,
    runtime: Runtime,
    *,
    timeout: float,
    torch_errors: Mapping[str, float],
    progress: Progress | None = None,
) -> Verified:
    """All cases of the subject on one runtime.

    Args:
        subject: what is verified.
        runtime: where.
        timeout: seconds per request to the child.
        torch_errors: torch's largest error by case, in the network's own type, the denominator of ``ratio``.
        progress: told after every case.
    """
    interpreter = interpreter_of(runtime)
    if interpreter is None:
        detail = f"not installed: {how_to_install(runtime)}"
        row = Result(runtime.name, "", "", Stage.FIND, Status.ABSENT, "absent", detail=detail)
        return Verified([row], Record(runtime.name, precision=runtime.precision))
    cases = of_two_shapes(subject.cases) if runtime.slow_to_compile else subject.cases
    session = Session(subject, runtime, interpreter, timeout)
    results: list[Result] = []
    telling = _Telling()
    deaths = 0

    def verified(rows: list[Result]) -> Verified:
        record = Record(runtime.name, session.version, runtime.precision, session.placement, telling.series)
        return Verified(rows, record)

    try:
        session.start()
        for done, case in enumerate(cases, 1):
            try:
                if session.dead:
                    session.start()
                result, judgement = _row(session, case, torch_errors)
                results.append(result)
                telling.hear(case, judgement)
            except Failure as failure:
                results.append(_failed(session, case.name, failure))
                deaths += session.dead
            if progress is not None:
                progress(runtime.name, done, len(cases))
            if deaths == DEATHS_BEFORE_GIVING_UP and done < len(cases):
                rest = f"{results[-1].detail}; {len(cases) - done} more cases were not run"
                results[-1] = replace(results[-1], detail=rest)
                break
        drift = _drift(session, cases, results)
    except Failure as failure:
        return verified([*results, _failed(session, "", failure)])
    finally:
        session.close()
    if len(cases) < len(subject.cases):
        results = _noted(results, cases, len(subject.cases))
    return verified([*results, *_not_exercised(subject, results), *drift])


def _drift(session: Session, cases: Sequence[Case], results: Sequence[Result]) -> list[Result]:
    """The row that says how far a quantised network is from the original; it is no verdict, and never fails."""
    case = drift_case(cases)
    if session.subject.original is None or session.runtime.reads == "weights.safetensors" or session.dead or not case:
        return []
    try:
        answers = session.answers(case.x, case.h_0, case.lengths)
    except Failure as failure:
        return [_failed(session, "drift", failure)]
    except Wrong as wrong:
        name, version = session.runtime.name, session.version
        return [Result(name, version, "drift", Stage.COMPARE, Status.MISMATCH, wrong.code, detail=wrong.detail)]
    words = drift_in_words(session.subject, case, answers)
    precision = next((row.precision for row in results if row.case == case.name), None)
    name, version = session.runtime.name, session.version
    return [Result(name, version, "drift", Stage.COMPARE, Status.PASS, precision=precision, detail=words)]


def _noted(results: list[Result], cases: Sequence[Case], of: int) -> list[Result]:
    """The results, of which the first that passed says that not every case was run."""
    sizes = ", ".join(dict.fromkeys(case.size for case in cases))
    why = f"compiles for every shape: {len(cases)} of {of} cases were run, at {sizes}; --inputs adds your data's shape"
    first = next((number for number, result in enumerate(results) if result.passed), None)
    if first is not None:
        results[first] = replace(results[first], detail="; ".join(filter(None, (results[first].detail, why))))
    return results


def judge_saved(
    subject: Subject, case: Case, saved: Mapping[str, Array], name: str, torch_error: float | None
) -> Verified:
    """Outputs that were saved elsewhere, judged as if a runtime had answered them now.

    Args:
        subject: what they should have been computed by.
        case: the input that they belong to.
        saved: ``output`` in the network's own layout, and perhaps ``h_n``.
        name: of the file, for the row.
        torch_error: torch's largest error on the same input, in the network's own type.

    Raises:
        SourceError: an array is missing, or has another shape or type than the network gives.
    """
    spec, weights = subject.weights.spec, subject.weights
    found = {key: saved[key] for key in ("output", "h_n") if key in saved}
    if "output" not in found:
        raise SourceError(f"{name} has no array output", f"It has {', '.join(saved) or 'none'}")
    if spec.batch_first and "output" in found and found["output"].ndim == 3:
        found["output"] = found["output"].swapaxes(0, 1)
    wanted: dict[str, tuple[int, ...]] = {"output": (case.T, case.B, spec.num_directions * spec.hidden_size)}
    if "h_n" in found:
        wanted["h_n"] = case.h_0.shape
    if problem := shape_problem(found, wanted, weights.dtype):
        raise SourceError(f"{name}: {problem}", "It must hold what the network gives for --inputs")
    answers = Answers(found["output"], found.get("h_n"), None)
    truth, asked = subject.truth_of(case), subject.asked
    judgement = judge(weights, case.x, case.h_0, answers, truth, asked, lengths=case.lengths)
    telling = _Telling()
    telling.hear(case, judgement)
    row = _result(subject, case, judgement, torch_error, ("expect", "", name))
    return Verified([row], Record("expect", series=telling.series))


def _row(session: Session, case: Case, torch_errors: Mapping[str, float]) -> tuple[Result, Judgement]:
    """One case, judged, and the judgement that the row was made of.

    Raises:
        Failure: the child did not answer.
    """
    name = session.runtime.name
    try:
        judgement = _judgement(session, case)
    except Wrong as wrong:
        judgement = Judgement(wrong.code, wrong.detail)
        if case.check is Check.NO_STEPS:  # nothing is computed: whatever is answered is a difference of runtimes
            judgement = Judgement("no-steps", wrong.detail, diverges=True)
    except Failure as failure:
        code, detail = _refusable(session, case)
        if not code or failure.status is not Status.REFUSED:
            raise
        judgement = Judgement(code, detail, diverges=True)
    torch_error = judgement.max_abs if name == "torch" else torch_errors.get(case.name)
    if torch_error is None and case.check is Check.MASKS:
        torch_error = torch_errors.get(case.size)  # the same sizes without NaN: beside it torch's own says nothing
    row = _result(session.subject, case, judgement, torch_error, (name, session.version, case.name))
    return row, judgement


def _refusable(session: Session, case: Case) -> tuple[str, str]:
    """Code and words, where a runtime may refuse the case; otherwise empty."""
    if session.runtime.reads == "server" and not np.isfinite(case.x).all():
        return "nan-refused", "refuses NaN and infinity"  # JSON has neither
    return _EMPTY.get(case.check, ("", ""))


def _result(
    subject: Subject, case: Case, judgement: Judgement, torch_error: float | None, row: tuple[str, str, str]
) -> Result:
    """A judgement as a row (runtime, version, case), after the end-to-end gate where no residual was measured."""
    ratio, unseen = None, judgement.residual is None and not judgement.code
    if unseen and subject.original is not None and case.x.size:
        # Where no step can be seen, what rounding the states changes is the measure, and not torch's own rounding.
        finite = np.where(np.isfinite(case.x), case.x, np.zeros_like(case.x))
        torch_error = state_rounding_error(subject.weights, subject.head, finite, case.h_0, case.lengths)
    if judgement.max_abs is not None and judgement.precision != "int8":  # beside which torch's rounding says nothing
        ratio = ratio_to_torch(judgement.max_abs, torch_error, subject.truth_of(case), subject.weights)
        if ratio is None and case.check is Check.MASKS and torch_error:
            ratio = judgement.max_abs / torch_error  # of what is finite; the largest output is not
        if unseen:
            judgement = _end_to_end(
                judgement, ratio, "what rounding its states to 8 bits changes" if subject.original else ""
            )
    status = Status.MISMATCH if judgement.code else Status.PASS
    return Result(
        *row,
        Stage.COMPARE,
        Status.DIVERGENCE if judgement.code and judgement.diverges else status,
        judgement.code,
        judgement.residual,
        judgement.precision,
        judgement.max_abs,
        ratio,
        "; ".join(part for part in (judgement.detail, *judgement.notes, _own(case, judgement)) if part),
        *(judgement.element or ()),
    )


def _own(case: Case, judgement: Judgement) -> str:
    """The user's own data is always said to have run, also where it passed."""
    measured = f", residual {judgement.residual:.2f}" if case.own and judgement.residual is not None else ""
    return f"{case.own}{measured}"


def _failed(session: Session, case: str, failure: Failure) -> Result:
    code = failure.status.value.lower()
    name, version = session.runtime.name, session.version
    return Result(name, version, case, failure.stage, failure.status, code, detail=failure.detail)


def _judgement(session: Session, case: Case) -> Judgement:
    match case.check:
        case Check.SHAPES:
            session.answers(case.x, case.h_0, case.lengths)
            return Judgement()
        case Check.NO_STEPS:
            return _without_steps(session, case)
        case Check.CHUNKS:
            return _in_chunks(session, case)
        case Check.ROWS:
            dynamic = session.subject.signature.fixed_T is None
            return _merged([_judged(session, _row_of(case, b, cut=dynamic)) for b in range(case.B)])
        case Check.STATE:
            return _with_other_state(session, case)
        case Check.STEPS | Check.MASKS:
            return _judged(session, case, session.subject.truth_of(case))


def _judged(session: Session, case: Case, truth: Trajectory | None = None) -> Judgement:
    """Every step of one run."""
    return _run(session, case, truth)[0]


def _run(session: Session, case: Case, truth: Trajectory | None = None) -> tuple[Judgement, Answers]:
    subject, asked = session.subject, session.subject.asked_of(session.runtime)
    answers = session.answers(case.x, case.h_0, case.lengths, layers=True)
    truth = truth or run_oracle(subject.weights, case.x, case.h_0, case.lengths)

    def judged(answers: Answers) -> Judgement:
        return judge(subject.weights, case.x, case.h_0, answers, truth, asked, lengths=case.lengths, head=subject.head)

    judgement = judged(answers)
    if judgement.residual is not None and not judgement.code and not judgement.judged and case.x.size:
        # What was asked for by name and cannot be judged is no pass.
        return Judgement("overflow", UNJUDGED, max_abs=judgement.max_abs, diverges=not case.own), answers
    if not answers.layers_agree and not judgement.code:
        # The layers are not the shipped file's: what was measured on them does not stand for it.
        return judged(replace(answers, layers=None)), answers
    return judgement, answers


def _row_of(case: Case, b: int, *, cut: bool) -> Case:
    """One row of a batch on its own, where it may be cut to its length: the longest fills the input."""
    T = case.T if case.lengths is None or not cut else int(case.lengths[b])
    lengths = None if case.lengths is None else case.lengths[b : b + 1]
    return replace(case, x=case.x[:T, b : b + 1], h_0=case.h_0[:, b : b + 1], lengths=lengths)


def _without_steps(session: Session, case: Case) -> Judgement:
    h_n = session.answers(case.x, case.h_0).h_n
    if h_n is None or not np.array_equal(h_n, case.h_0):
        return Judgement("no-steps", "with a sequence of length 0, h_n is not h_0", diverges=True)
    return Judgement()


def _in_chunks(session: Session, case: Case) -> Judgement:
    """Each chunk starts from the runtime's own h_n; all of them judged is the whole pass judged."""
    judgements, h_0, start = [], case.h_0, 0
    for steps in CHUNKS:
        judgement, answers = _run(session, replace(case, x=case.x[start : start + steps], h_0=h_0))
        judgements.append(judgement)
        assert answers.h_n is not None  # the case is made for files that give it
        h_0, start = answers.h_n, start + steps
    return _merged(judgements)


def _with_other_state(session: Session, case: Case) -> Judgement:
    weights, starts = session.subject.weights, (case.h_0, np.zeros_like(case.h_0))
    runs = [_run(session, replace(case, h_0=h_0)) for h_0 in starts]
    expected = [run_oracle(weights, case.x, h_0, case.lengths).output[:] for h_0 in starts]
    noticeable = max(STATE_MOVES, ROUNDINGS * ARITHMETICS[weights.dtype.name].unit_roundoff)
    moves = float(np.abs(expected[0] - expected[1]).max(initial=0.0)) > noticeable
    if moves and np.array_equal(runs[0][1].output, runs[1][1].output):
        raise Wrong("state-ignored", "another h_0 changes nothing: the initial state is ignored")
    return _merged([judgement for judgement, _ in runs])


def _merged(judgements: list[Judgement]) -> Judgement:
    """The worst of several runs of one case."""
    wrong = [judgement for judgement in judgements if judgement.code]
    if wrong:
        return min(wrong, key=lambda judgement: judgement.diverges)
    worst = max(judgements, key=lambda judgement: judgement.residual or 0.0)
    return replace(worst, max_abs=max(judgement.max_abs or 0.0 for judgement in judgements))


def _end_to_end(judgement: Judgement, ratio: float | None, beside: str) -> Judgement:
    """The gate where no residual could be measured; the ratio is to torch's own error, or to what is said."""
    if ratio is None:
        detail = "no residual can be measured, and torch gives no finite error to compare with"
        return Judgement("not-judged", detail, max_abs=judgement.max_abs)
    if not ratio <= RATIO_GATE:
        detail = f"{ratio:.3g} times {beside or TORCHS_OWN}, where no residual can be measured"
        return Judgement("end-to-end", detail, max_abs=judgement.max_abs)
    return Judgement(max_abs=judgement.max_abs, notes=("judged end to end", *judgement.notes))


def _not_exercised(subject: Subject, results: list[Result]) -> list[Result]:
    """A network whose recurrence never acted is not proved, whatever else passed."""
    if not all(result.status in (Status.PASS, Status.DIVERGENCE) for result in results):
        return []  # it failed already
    names = {result.case for result in results if result.passed}
    passed = [case for case in subject.cases if case.name in names and case.check is Check.STEPS and case.B]
    for case in passed:
        has_state = bool(np.any(case.h_0)) or subject.signature.h_0 is None
        if case.T > 1 and has_state and (case.x < 0).any():
            return []
    if not names:
        return []
    detail = "no passed case has T > 1, an initial state and negative inputs: the recurrence was not exercised"
    first = results[0]
    code = "not-exercised"
    return [Result(first.runtime, first.version, "recurrence", Stage.COMPARE, Status.MISMATCH, code, detail=detail)]
