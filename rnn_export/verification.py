"""One network on one runtime in one child process: every case run, judged, and put into words."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rnn_export import canary
from rnn_export.cases import Case, Check
from rnn_export.child import MEMORY_LIMIT, Child, Failure
from rnn_export.environments import how_to_install, installed_version, interpreter_of
from rnn_export.inspection import Signature, frozen_length
from rnn_export.judgement import RATIO_GATE, Answers, Judgement, judge, ratio_to_torch, shape_problem
from rnn_export.oracle import Trajectory, run_oracle
from rnn_export.result import Result, Stage, Status
from rnn_export.runtimes import Runtime
from rnn_export.subject import Subject

Array = NDArray[np.floating]
Progress = Callable[[str, int, int], None]  # (runtime, cases done, cases in all)
# What torch itself refuses in part: a difference between runtimes, and no wrong answer.
_EMPTY = {
    Check.NO_STEPS: ("no-steps", "refuses a sequence of length 0"),
    Check.SHAPES: ("no-rows", "refuses an empty batch"),
}
DEATHS_BEFORE_GIVING_UP = 2  # a runtime that hangs on every case costs two time limits, not thirty
COPIES = 8  # of the weights: the file, the parsed model, prepacked weights, twice with the instrumented copy
_SHIPPED, _INSTRUMENTED = 1, 2  # the numbers of the prepared networks; the canary is 0


class Wrong(Exception):  # noqa: N818
    """Answers that cannot be judged at all: a missing output, a wrong shape, a frozen axis."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def verify_runtime(
    subject: Subject,
    runtime: Runtime,
    *,
    timeout: float,
    torch_errors: Mapping[str, float],
    progress: Progress | None = None,
) -> list[Result]:
    """All cases of the subject on one runtime.

    Args:
        subject: what is verified.
        runtime: where.
        timeout: seconds per request to the child.
        torch_errors: torch float32's largest error by case, the denominator of ``ratio``.
        progress: told after every case.
    """
    interpreter = interpreter_of(runtime)
    if interpreter is None:
        detail = f"not installed: {how_to_install(runtime)}"
        return [Result(runtime.name, "", "", Stage.FIND, Status.ABSENT, "absent", detail=detail)]
    results: list[Result] = []
    deaths = 0
    session = _Session(subject, runtime, interpreter, timeout)
    try:
        session.start()
        for done, case in enumerate(subject.cases, 1):
            try:
                if session.dead:
                    session.start()
                results.append(session.judge_case(case, torch_errors))
            except Failure as failure:
                results.append(session.failed(case.name, failure))
                if failure.status in (Status.CRASHED, Status.TIMEOUT) or session.dead:
                    deaths += 1
            if progress is not None:
                progress(runtime.name, done, len(subject.cases))
            if deaths == DEATHS_BEFORE_GIVING_UP and done < len(subject.cases):
                results[-1] = _with_rest(results[-1], len(subject.cases) - done)
                break
    except Failure as failure:
        return [*results, session.failed("", failure)]
    finally:
        session.close()
    return _exercised(subject, runtime, results)


class _Session:
    """The child process, with the networks prepared in it."""

    def __init__(self, subject: Subject, runtime: Runtime, interpreter: Path, timeout: float) -> None:
        self.subject, self.runtime = subject, runtime
        self.interpreter, self.timeout = interpreter, timeout
        self.version = installed_version(runtime)
        self.child: Child | None = None
        self.dead = True
        self.shows_layers = False
        reads_weights = runtime.reads == "weights.safetensors"
        own = Signature("input", "h_0", "output", "h_n", subject.weights.spec.batch_first)
        self.signature = own if reads_weights else subject.signature

    def start(self) -> None:
        """Raises Failure where the runtime is absent, fails the canary, or refuses the network."""
        self.close()
        size = sum(file.stat().st_size for file in self.subject.folder.rglob("*") if file.is_file())
        limit = MEMORY_LIMIT + COPIES * size
        self.child = Child(self.runtime, self.interpreter, self.timeout, limit)
        self.child.wait_until_ready()
        self.version = self.child.version or self.version
        canary.sing(self.child, self.runtime.reads)
        self.child.prepare(self.subject.folder)
        self.shows_layers = self.runtime.reads == "weights.safetensors"
        self.dead = False
        if self.subject.instrumented is not None and not self.shows_layers:
            with suppress(Failure):  # judged end to end then, or step by step
                self.child.prepare(self.subject.instrumented)
                self.shows_layers = True

    def close(self) -> None:
        if self.child is not None:
            self.child.close()
        self.child, self.dead = None, True

    def failed(self, case: str, failure: Failure) -> Result:
        code = failure.status.value.lower()
        return Result(self.runtime.name, self.version, case, failure.stage, failure.status, code, detail=failure.detail)

    def judge_case(self, case: Case, torch_errors: Mapping[str, float]) -> Result:
        """One row of the report.

        Raises:
            Failure: the child did not answer.
        """
        try:
            judgement = self._judgement(case)
        except Wrong as wrong:
            judgement = Judgement(wrong.code, wrong.detail)
        except Failure as failure:
            if case.check in _EMPTY and failure.status is Status.REFUSED:
                code, detail = _EMPTY[case.check]
                return self._row(case, Judgement(code, detail, diverges=True), None)
            raise
        truth = self.subject.truth_of(case) if judgement.max_abs is not None else None
        reference = judgement.max_abs if self.runtime.name == "torch" else torch_errors.get(case.name)
        ratio = ratio_to_torch(judgement.max_abs, reference, truth, self.subject.weights)
        if judgement.residual is None and judgement.max_abs is not None and not judgement.code:
            judgement = _end_to_end(judgement, ratio)
        return self._row(case, judgement, ratio)

    def _row(self, case: Case, judgement: Judgement, ratio: float | None) -> Result:
        status = Status.PASS if not judgement.code else Status.MISMATCH
        if judgement.code and judgement.diverges:
            status = Status.DIVERGENCE
        return Result(
            self.runtime.name,
            self.version,
            case.name,
            Stage.COMPARE,
            status,
            judgement.code,
            judgement.residual,
            judgement.precision,
            judgement.max_abs,
            ratio,
            "; ".join(part for part in (judgement.detail, *judgement.notes) if part),
        )

    def _judgement(self, case: Case) -> Judgement:
        if case.check is Check.SHAPES:
            self._answers(case.x, case.h_0)
            return Judgement()
        if case.check is Check.NO_STEPS:
            return self._no_steps(case)
        if case.check is Check.CHUNKS:
            return self._in_chunks(case)
        if case.check is Check.ROWS:
            parts = [(case.x[:, b : b + 1], case.h_0[:, b : b + 1]) for b in range(case.B)]
            return _merged([self._judged(x, h_0) for x, h_0 in parts])
        if case.check is Check.STATE:
            return self._state(case)
        return self._judged(case.x, case.h_0, self.subject.truth_of(case))

    def _judged(self, x: Array, h_0: Array, truth: Trajectory | None = None) -> Judgement:
        answers = self._with_layers(x, h_0)
        truth = truth or run_oracle(self.subject.weights, x, h_0)
        judgement = judge(self.subject.weights, x, h_0, answers, truth, self.runtime.precision)
        if not judgement.code and judgement.residual is not None and not judgement.judged and x.size:
            note = "every step overflows or follows a NaN: not judged"
            return Judgement("overflow", note, max_abs=judgement.max_abs, diverges=True)
        if answers.layers is not None and not answers.layers_agree:
            # The copy is not the shipped file: what was measured on it does not stand for the file.
            return Judgement(judgement.code, judgement.detail, None, None, judgement.max_abs)
        return judgement

    def _no_steps(self, case: Case) -> Judgement:
        answers = self._answers(case.x, case.h_0)
        if answers.h_n is not None and not np.array_equal(answers.h_n, case.h_0):
            return Judgement("no-steps", "with a sequence of length 0, h_n is not h_0", diverges=True)
        return Judgement()

    def _in_chunks(self, case: Case) -> Judgement:
        judgements, h_0, start = [], case.h_0, 0
        for steps in (1, 2, 3, 4):
            x = case.x[start : start + steps]
            judgements.append(self._judged(x, h_0))
            h_n = self._answers(x, h_0).h_n
            if h_n is None:
                break
            h_0, start = h_n, start + steps
        return _merged(judgements)

    def _state(self, case: Case) -> Judgement:
        zeros = np.zeros_like(case.h_0)
        with_state, without = self._answers(case.x, case.h_0), self._answers(case.x, zeros)
        oracle = [run_oracle(self.subject.weights, case.x, h_0).output for h_0 in (case.h_0, zeros)]
        moves = float(np.abs(oracle[0] - oracle[1]).max(initial=0.0)) > 1e-3
        if moves and np.array_equal(with_state.output, without.output):
            raise Wrong("state-ignored", "another h_0 changes nothing: the initial state is ignored")
        return _merged([self._judged(case.x, h_0) for h_0 in (case.h_0, zeros)])

    def _with_layers(self, x: Array, h_0: Array) -> Answers:
        if self.subject.weights.spec.num_layers == 1:
            return self._answers(x, h_0)
        if self.shows_layers:
            return self._answers(x, h_0, layers_from=self._shown)
        spec, signature = self.subject.weights.spec, self.signature
        if not spec.bidirectional and signature.h_0 and signature.h_n and signature.fixed_T is None and len(x):
            return self._stepwise(x, h_0)
        return self._answers(x, h_0)

    def _stepwise(self, x: Array, h_0: Array) -> Answers:
        """Every layer of a unidirectional network, read from h_n after each single step."""
        whole = self._answers(x, h_0)
        states: list[Array] = []
        for t in range(len(x)):
            h_n = self._answers(x[t : t + 1], states[-1] if states else h_0).h_n
            assert h_n is not None  # the signature has it, and a missing output is Wrong
            states.append(h_n)
        layers = list(np.stack(states, axis=1))  # L of (T, B, H)
        return Answers(whole.output, whole.h_n, layers, np.array_equal(layers[-1], whole.output))

    def _answers(
        self,
        x: Array,
        h_0: Array,
        layers_from: Callable[[dict[str, Any], Mapping[str, Any]], list[Array]] | None = None,
    ) -> Answers:
        assert self.child is not None
        signature = self.signature
        feed: dict[str, Array] = {signature.input: x.swapaxes(0, 1) if signature.batch_first else x}
        if signature.h_0 is not None:
            feed[signature.h_0] = h_0
        feed = {name: np.ascontiguousarray(array) for name, array in feed.items()}
        raw = self._run(_SHIPPED, feed)
        self._check_shapes(raw, x, h_0)
        output = raw[signature.output]
        output = output.swapaxes(0, 1) if signature.batch_first else output
        h_n = raw[signature.h_n] if signature.h_n is not None else None
        if layers_from is None:
            return Answers(output, h_n, None)
        layers = layers_from(raw, feed)
        return Answers(output, h_n, layers, np.array_equal(layers[-1], output, equal_nan=True))

    def _shown(self, raw: dict[str, Any], feed: Mapping[str, Any]) -> list[Array]:
        """The layers' states, from the reference row's own answers or from the instrumented copy."""
        spec = self.subject.weights.spec
        if self.runtime.reads == "weights.safetensors":
            return [raw[f"layer_{layer}"] for layer in range(spec.num_layers)]
        copy = self._run(_INSTRUMENTED, feed)
        by_layer: list[list[Array]] = [[] for _ in range(spec.num_layers)]
        for shown in self.subject.shown:
            states = copy[shown.name]
            if shown.direction is None:  # (T, D, B, H) -> (T, B, D*H)
                states = np.concatenate(list(states.swapaxes(0, 1)), axis=-1)
            by_layer[shown.layer].append(states[::-1] if shown.reversed_time else states)
        return [np.concatenate(parts, axis=-1) for parts in by_layer]

    def _run(self, network: int, feed: Mapping[str, Any]) -> dict[str, Any]:
        assert self.child is not None
        try:
            return self.child.run(network, feed)
        except Failure as failure:
            self.dead = not self.child.alive
            raise failure from None

    def _check_shapes(self, raw: Mapping[str, Any], x: Array, h_0: Array) -> None:
        spec, signature = self.subject.weights.spec, self.signature
        T, B = x.shape[:2]
        width = spec.num_directions * spec.hidden_size
        expected: dict[str, tuple[int, ...]] = {
            signature.output: (B, T, width) if signature.batch_first else (T, B, width)
        }
        if signature.h_n is not None:
            expected[signature.h_n] = h_0.shape
        self._check_frozen(raw, T)
        if problem := shape_problem(raw, expected, self.subject.weights.dtype):
            raise Wrong("missing-output" if "is missing" in problem else "wrong-shape", problem)

    def _check_frozen(self, raw: Mapping[str, Any], T: int) -> None:
        output = raw.get(self.signature.output)
        if output is None or output.ndim != 3 or self.runtime.reads != "model.onnx":
            return
        steps = output.shape[1 if self.signature.batch_first else 0]
        if steps != T and self.signature.fixed_T is None:
            self._frozen(steps, T)

    def _frozen(self, steps: int, T: int) -> NoReturn:
        where = frozen_length(self.subject.model, steps)
        raise Wrong("frozen-length", f"the length is declared dynamic, but {steps} of {T} steps came back: {where}")


def _merged(judgements: list[Judgement]) -> Judgement:
    """The worst of several runs of one case."""
    wrong = [judgement for judgement in judgements if judgement.code]
    if wrong:
        return min(wrong, key=lambda judgement: judgement.diverges)
    worst = max(judgements, key=lambda judgement: judgement.residual or 0.0)
    return replace(worst, max_abs=max(judgement.max_abs or 0.0 for judgement in judgements))


def _end_to_end(judgement: Judgement, ratio: float | None) -> Judgement:
    """The gate where no residual could be measured."""
    if ratio is None:
        detail = "no residual can be measured, and torch is not here to compare with"
        return Judgement("not-judged", detail, max_abs=judgement.max_abs)
    if not ratio <= RATIO_GATE:
        detail = f"{ratio:.3g} times torch's own error, where no residual can be measured"
        return Judgement("end-to-end", detail, max_abs=judgement.max_abs)
    return Judgement(max_abs=judgement.max_abs, notes=("judged end to end", *judgement.notes))


def _with_rest(result: Result, remaining: int) -> Result:
    return replace(result, detail=f"{result.detail}; {remaining} more cases were not run")


def _exercised(subject: Subject, runtime: Runtime, results: list[Result]) -> list[Result]:
    """A network whose recurrence never acted is not proved, whatever else passed."""
    if not any(result.passed for result in results):
        return results
    for case in subject.cases:
        has_state = bool(np.any(case.h_0)) or subject.signature.h_0 is None
        if case.check is Check.STEPS and case.T > 1 and has_state and (case.x < 0).any():
            return results
    detail = "no case has T > 1, an initial state and negative inputs: the recurrence was not exercised"
    version = results[0].version
    row = Result(runtime.name, version, "recurrence", Stage.COMPARE, Status.MISMATCH, "not-exercised", detail=detail)
    return [*results, row]
