"""A benchmark: the rows of the lineup, raced at every width and batch that is asked for."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rnn_export.benchmark.lineup import line_up
from rnn_export.benchmark.point import Terms, draw_all, measure_point
from rnn_export.benchmark.score import Benchmark
from rnn_export.cells import available_processors
from rnn_export.checkpoint import Checkpoint
from rnn_export.errors import UsageError
from rnn_export.machine import this_environment, utc_now
from rnn_export.weights import Weights

Progress = Callable[[str, int, int], None]  # (point, rounds done, rounds in all)


def measure(
    checkpoint: Checkpoint,
    terms: Terms,
    *,
    forms: Sequence[str] = (),
    runtimes: Sequence[str] = (),
    widths: Sequence[int] = (),
    batches: Sequence[int] = (1,),
    progress: Progress = lambda *_: None,
) -> Benchmark:
    """Race every row at every width and batch, and measure the machine's limit between the rounds.

    Args:
        checkpoint: the network.
        terms: how it is measured.
        forms, runtimes: see ``line_up``.
        widths: H, and I, of networks of random weights that are measured in place of the checkpoint's.
        batches: B.
        progress: is told how far it is.

    Raises:
        UsageError: see ``line_up``; a head, which torch's row does not compute; more threads than processors.
    """
    if checkpoint.head is not None:
        raise UsageError("a head is not timed: nn.RNN, which the others are compared with, has none", "Leave it out")
    check_threads(terms.threads)
    candidates = line_up(forms, runtimes, terms.threads)
    networks = [_of_width(checkpoint, H) for H in dict.fromkeys(widths)] or [checkpoint]
    points = []
    for network in networks:
        spec = network.weights.spec
        with tempfile.TemporaryDirectory(prefix="rnn-export-") as scratch:
            drawings = draw_all(candidates, network, Path(scratch), terms.length)
            for B in dict.fromkeys(batches):
                tell = partial(progress, f"I={spec.input_size} H={spec.hidden_size} B={B}")
                points.append(measure_point(candidates, drawings, network.weights, B, terms, tell))
    made_on = this_environment(terms.threads)
    return Benchmark(terms.threads, terms.rounds, terms.seconds, tuple(points), made_on, utc_now())


def check_threads(threads: int) -> None:
    """Raises UsageError where there are more threads than processors that this process may use."""
    if threads > (processors := available_processors()):
        raise UsageError(f"{threads} threads on {processors} processors would time their waiting", "Take fewer")


def _of_width(checkpoint: Checkpoint, H: int) -> Checkpoint:
    """The same kind of network with I = H units, of random weights."""
    own = checkpoint.weights
    spec = replace(own.spec, input_size=H, hidden_size=H)
    return replace(checkpoint, weights=Weights.random(spec, 0, own.dtype.name))
