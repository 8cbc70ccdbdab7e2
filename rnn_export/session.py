"""One network in one child process: an input in, answers out in the oracle's layout, with every layer's states."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_export import canary
from rnn_export.child import MEMORY_LIMIT, Child, Failure
from rnn_export.environments import installed_version
from rnn_export.inspection import Signature, frozen_length
from rnn_export.judgement import Answers, shape_problem
from rnn_export.oracle import valid_steps
from rnn_export.record import Placement
from rnn_export.runtimes import Runtime
from rnn_export.sequences import stretches
from rnn_export.subject import Subject

Array = NDArray[np.floating]
COPIES = 8  # of the weights: the file, the parsed model, prepacked weights, twice with the instrumented copy; torch
# keeps every step's state as a tensor of its own, which for narrow states is as many copies of the data
MOST_PREFIXES = 16  # runs of a file without h_0, each from the first step, to see its layers
SHIPPED, INSTRUMENTED = 1, 2  # the numbers of the prepared networks; the canary is 0


class Wrong(Exception):  # noqa: N818
    """Answers that cannot be judged at all: a missing output, a wrong shape, a frozen axis."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def feed_of(
    signature: Signature, x: Array, h_0: Array, lengths: NDArray[np.integer] | None = None
) -> dict[str, NDArray[Any]]:
    """What a file is sent, by its own names and in its own layout.

    Args:
        signature: the file's.
        x: (T, B, I).
        h_0: (L*D, B, H), passed over where the file takes none.
        lengths: (B,), passed over likewise.
    """
    feed: dict[str, Any] = {signature.input: x.swapaxes(0, 1) if signature.batch_first else x}
    if signature.h_0 is not None:
        feed[signature.h_0] = h_0.swapaxes(0, 1) if signature.served else h_0
    if signature.lengths is not None and lengths is not None:
        feed[signature.lengths] = lengths[:, None] if signature.served else lengths
    return {name: np.ascontiguousarray(array) for name, array in feed.items()}


def answers_of(signature: Signature, raw: Mapping[str, Array]) -> Answers:
    """What a file answered, time-major: output (T, B, D*H), h_n (L*D, B, H) and prediction (T, B, O), no layers."""
    assert signature.output is not None
    output, h_n, prediction = (
        raw[name] if name is not None else None for name in (signature.output, signature.h_n, signature.prediction)
    )
    assert output is not None
    if signature.batch_first:
        output = output.swapaxes(0, 1)
        prediction = prediction.swapaxes(0, 1) if prediction is not None else None
    h_n = h_n.swapaxes(0, 1) if h_n is not None and signature.served else h_n
    return Answers(output, h_n, None, prediction=prediction)


class Session:
    """The child process of one runtime, with the subject's network prepared in it.

    Attributes:
        version: of the runtime's package, as the child says once it runs.
        dead: whether there is no child to ask; ``start`` makes a new one.
        placement: where the nodes of the shipped network are, if the runtime says so.
    """

    def __init__(self, subject: Subject, runtime: Runtime, interpreter: Path, timeout: float) -> None:
        self.subject, self.runtime = subject, runtime
        self.version = installed_version(runtime)
        self.dead = True
        self.placement: Placement | None = None
        self._interpreter, self._timeout = interpreter, timeout
        self._child: Child | None = None
        self._reads_weights = runtime.reads == "weights.safetensors"
        self._is_server = runtime.reads == "server"
        batch_first, lengths = subject.weights.spec.batch_first, subject.signature.lengths
        own = Signature("input", "h_0", "output", "h_n", batch_first, lengths and "lengths")
        self.signature = own if self._reads_weights else subject.signature
        self._shows_layers = self._reads_weights
        self._copy_kills = False  # whether the instrumented copy ends the child

    def start(self) -> None:
        """Start a child and prepare the network in it.

        Raises:
            Failure: the runtime is absent, fails the canary, or refuses the network.
        """
        self.close()
        self._shows_layers = self._reads_weights
        self._open()
        if self.subject.instrumented is None or self._reads_weights or self._is_server or self._copy_kills:
            return
        assert self._child is not None
        try:
            with self.subject.showing_layers() as folder:
                self._child.prepare(folder)
            self._shows_layers = True
        except Failure:  # the layers are had step by step then, or the network is judged end to end
            if not self._child.alive:
                self._copy_kills = True
                self._open()

    def _open(self) -> None:
        """A child with the canary sung and the shipped network prepared."""
        self.close()
        size = sum(file.stat().st_size for file in self.subject.folder.rglob("*") if file.is_file())
        size += max((case.x.nbytes + case.h_0.nbytes * case.T for case in self.subject.cases), default=0)
        child = Child(self.runtime, self._interpreter, self._timeout, MEMORY_LIMIT + COPIES * size)
        self._child = child
        child.wait_until_ready()
        self.version = child.version or self.version
        try:
            canary.sing(child, self.runtime.reads)
            child.prepare(self.subject.folder)
        except Failure as failure:
            self.placement = failure.placement
            raise
        self.placement = child.placement
        self.dead = False

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.close()
        self._child, self.dead = None, True

    def answers(
        self, x: Array, h_0: Array, lengths: NDArray[np.integer] | None = None, *, layers: bool = False
    ) -> Answers:
        """Run x (T, B, I) from h_0 (L*D, B, H).

        Args:
            x: time-major, whatever the model's own layout.
            h_0: ignored by a model that has no such input.
            lengths: (B,), for a model that takes them.
            layers: also get the states of every layer, where there are several and there is a way.

        Raises:
            Failure: the child did not answer.
            Wrong: a missing output, a wrong shape or type, a frozen length.
        """
        signature = self.signature
        if signature.one_step:
            return self._in_a_loop(x, h_0)
        feed = feed_of(signature, x, h_0, lengths)
        raw = self._run(SHIPPED, feed)
        self._check_shapes(raw, x, h_0)
        answers = answers_of(signature, raw)
        output, h_n, prediction = answers.output, answers.h_n, answers.prediction
        if not layers or self.subject.weights.spec.num_layers == 1:
            return Answers(output, h_n, None, prediction=prediction)
        inside = valid_steps(len(x), x.shape[1], lengths)
        below, agree = self._layers_below(raw, feed, (x, h_0, lengths), output, inside)
        # The top layer is judged by the shipped output itself, with all that comes after the last loop.
        return Answers(output, h_n, None if below is None else [*below, output], agree, prediction)

    def _layers_below(
        self,
        raw: Mapping[str, Any],
        feed: Mapping[str, Any],
        sent: tuple[Array, Array, NDArray[np.integer] | None],
        output: Array,
        inside: NDArray[np.bool_],
    ) -> tuple[list[Array] | None, bool]:
        """The states (T, B, D*H) of every layer but the last, None where there is no way to see them.

        And whether they are those of the shipped model: what showed them gave the same output, bit for bit.
        """
        spec, signature = self.subject.weights.spec, self.signature
        if self._reads_weights:
            layers = [raw[f"layer_{layer}"] for layer in range(spec.num_layers)]
            return layers[:-1], _same_steps(layers[-1], output, inside)
        assert signature.output is not None
        if self._shows_layers and (shown := self._from_instrumented(feed, raw[signature.output])) is not None:
            return shown
        x = sent[0]
        if not signature.h_n or spec.bidirectional or signature.fixed_T is not None or not len(x):
            return None, True
        if signature.h_0 is None and len(x) > MOST_PREFIXES:
            return None, True
        layers = self._step_by_step(*sent) if signature.h_0 else self._by_prefixes(*sent)
        return layers[:-1], _same_steps(layers[-1], output, inside)

    def _from_instrumented(self, feed: Mapping[str, Any], shipped: Array) -> tuple[list[Array], bool] | None:
        """None where the runtime does not show what the copy asks it to show."""
        try:
            copy = self._run(INSTRUMENTED, feed)
        except Failure:
            if not self.dead:
                return None
            self._copy_kills = True  # it is the copy that the runtime cannot bear, not the shipped model
            self.start()
            return None
        H, D = self.subject.weights.spec.hidden_size, self.subject.weights.spec.num_directions
        T, B = shipped.shape[1::-1] if self.signature.batch_first else shipped.shape[:2]
        for shown in self.subject.shown:
            expected = (T, D, B, H) if shown.direction is None else (T, B, H)
            if shown.name not in copy or copy[shown.name].shape != expected:
                return None
        if self.signature.output is None or self.signature.output not in copy:
            return None
        by_layer: list[list[Array]] = [[] for _ in range(self.subject.weights.spec.num_layers)]
        for shown in self.subject.shown:
            states = copy[shown.name]
            if shown.direction is None:  # (T, D, B, H) -> (T, B, D*H)
                states = states[:, 0] if D == 1 else np.concatenate(list(states.swapaxes(0, 1)), axis=-1)
            by_layer[shown.layer].append(states[::-1] if shown.reversed_time else states)
        below = [parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1) for parts in by_layer[:-1]]
        return below, _same_steps(copy[self.signature.output], shipped)

    def _in_a_loop(self, x: Array, h_0: Array) -> Answers:
        """A file of one step, run as its user does: a step of x and the last states in, the next states out."""
        signature, spec, head = self.signature, self.subject.weights.spec, self.subject.head
        assert signature.h_0 is not None
        assert signature.h_n is not None
        flat, B = signature.flat_state, x.shape[1]
        expected: dict[str, tuple[int, ...]] = {signature.h_n: h_0.shape[1:] if flat else h_0.shape}
        if signature.prediction is not None and head is not None:
            expected[signature.prediction] = (B, len(head.weight))
        h, states, predictions = h_0, np.empty((len(x), *h_0.shape), x.dtype), []
        for t, x_t in enumerate(x):
            raw = self._run(SHIPPED, {signature.input: np.ascontiguousarray(x_t), signature.h_0: h[0] if flat else h})
            if problem := shape_problem(raw, expected, self.subject.weights.dtype):
                raise Wrong("missing-output" if "is missing" in problem else "wrong-shape", problem)
            states[t] = h = raw[signature.h_n].reshape(h_0.shape)
            predictions += [raw[signature.prediction]] if signature.prediction is not None else []
        layers = list(states.swapaxes(0, 1))  # L of (T, B, H)
        prediction = np.stack(predictions) if predictions else None
        return Answers(layers[-1], h, layers if spec.num_layers > 1 else None, prediction=prediction)

    def _step_by_step(self, x: Array, h_0: Array, lengths: NDArray[np.integer] | None) -> list[Array]:
        """Every layer of a unidirectional network, read from h_n after each single step."""
        states: list[Array] = []
        one = None if lengths is None else np.ones_like(lengths)  # what comes of the padding is not judged
        for t in range(len(x)):
            h_n = self.answers(x[t : t + 1], states[-1] if states else h_0, one).h_n
            assert h_n is not None  # the signature has it, and a missing output is Wrong
            states.append(h_n)
        return list(np.stack(states, axis=1))  # L of (T, B, H)

    def _by_prefixes(self, x: Array, h_0: Array, lengths: NDArray[np.integer] | None) -> list[Array]:
        """The same of a file that starts from its own state: the last states of x cut after every step."""
        states: list[Array] = []
        for stop in range(1, len(x) + 1):
            h_n = self.answers(x[:stop], h_0, None if lengths is None else lengths.clip(max=stop)).h_n
            assert h_n is not None
            states.append(h_n)
        return list(np.stack(states, axis=1))

    def _run(self, network: int, feed: Mapping[str, Any]) -> dict[str, Any]:
        assert self._child is not None
        try:
            return self._child.run(network, feed)
        except Failure:
            self.dead = not self._child.alive
            raise

    def _check_shapes(self, raw: Mapping[str, Any], x: Array, h_0: Array) -> None:
        spec, signature = self.subject.weights.spec, self.signature
        T, B = x.shape[:2]
        width = spec.num_directions * spec.hidden_size
        shape = (B, T, width) if signature.batch_first else (T, B, width)
        assert signature.output is not None
        expected: dict[str, tuple[int, ...]] = {signature.output: shape}
        if signature.h_n is not None:
            expected[signature.h_n] = (B, len(h_0), spec.hidden_size) if signature.served else h_0.shape
        if signature.prediction is not None and self.subject.head is not None:
            expected[signature.prediction] = (*shape[:2], len(self.subject.head.weight))
        output = raw.get(signature.output)
        if not self._reads_weights and output is not None and output.ndim == 3 and signature.fixed_T is None:
            steps = output.shape[1 if signature.batch_first else 0]
            if steps != T:
                where = frozen_length(self.subject.model, steps)
                said = f"the length is declared dynamic, but {steps} of {T} steps came back: {where}"
                raise Wrong("frozen-length", said)
        if problem := shape_problem(raw, expected, self.subject.weights.dtype):
            h_n = raw.get(signature.h_n or "")
            if h_n is not None and h_n.shape == (h_0.shape[0], T, h_0.shape[2]) and T != B:
                problem += ": the model looks batch first, as --batch-first says"
            raise Wrong("missing-output" if "is missing" in problem else "wrong-shape", problem)


def _same_steps(found: Array, expected: Array, inside: NDArray[np.bool_] | None = None) -> bool:
    """Whether two sequences are equal, NaN too; past the end of a sequence anything may stand."""
    if found.shape != expected.shape:
        return False
    for steps in stretches(len(expected), expected[:1].size):
        kept = slice(None) if inside is None else inside[steps]
        if not np.array_equal(found[steps][kept], expected[steps][kept], equal_nan=True):
            return False
    return True
