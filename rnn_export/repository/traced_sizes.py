"""Whether the sizes that an ONNX file declares dynamic are: at others than the traced example's it has to run too."""

import math
from collections.abc import Sequence

import onnx
from onnx import external_data_helper, numpy_helper

from rnn_export.child import Failure
from rnn_export.repository.batch_axis import mixing
from rnn_export.repository.trial_inputs import LIMIT, UNNAMED, Arrays, shapes_of
from rnn_export.repository.trial_run import RUNTIME, SCALES, Question, TrialRun, Unproved, all_same, loaded
from rnn_export.rules import Trial

SIZES = ((5, 3), (6, 4), (7, 9))  # of axis 0, and of every other dynamic axis
LARGEST_TRACED, MOST_TRACED, MOST_AXES = 512, 8, 8  # sizes of a traced example that are tried where no other runs


def try_file(question: Question) -> Trial:
    """Run the file at several sizes, and where it is batched, with its rows changed and moved."""
    try:
        with loaded(question) as trial:
            return _tried(trial)
    except Unproved as why:
        return Trial(unproved=str(why))


def _tried(trial: TrialRun) -> Trial:
    ran: list[tuple[int, int]] = []
    refused: list[str] = []
    frozen = ""
    for sizes in SIZES:
        feed = trial.feeds.make(*sizes)
        if feed is None:
            raise Unproved(f"an input would have more than {LIMIT:,} numbers")
        try:
            answers = trial.run(feed)
        except Failure as failure:
            refused.append(trial.words(failure))
            continue
        ran.append(sizes)
        frozen = frozen or _undeclared(trial, feed, answers)
    if not ran and (traced := _traced_sizes(trial)) is not None:
        ran.append(traced)
    if not ran:
        raise Unproved(f"{RUNTIME} refuses {shapes_of(trial.feeds.make(*SIZES[0]))}: {refused[0]}")
    if len(ran) == 1:
        said = next(shapes_of(trial.feeds.make(*sizes)) for sizes in SIZES if sizes != ran[0])
        frozen = frozen or f"it runs at {shapes_of(trial.feeds.make(*ran[0]))} and refuses {said}: {refused[0]}"
    try:
        mixed = mixing(trial, *ran[0]) if trial.question.batched else ""
    except Unproved as why:
        return Trial(unproved=str(why), frozen=frozen)
    return Trial(mixed=mixed, frozen=frozen, ignored="" if mixed or frozen else _ignored(trial, ran[-1]))


def _undeclared(trial: TrialRun, feed: Arrays, answers: Arrays) -> str:
    """Where an output does not come back as the file declares it."""
    given = {
        axis: size
        for value in trial.question.graph.inputs
        for axis, size in zip(value.axes, feed[value.name].shape, strict=True)
        if axis != UNNAMED
    }
    for value in trial.question.outputs:
        shape = answers[value.name].shape
        if not value.dims:
            continue  # it declares nothing
        wrong = [
            place
            for place, (dim, axis) in enumerate(zip(value.dims, value.axes, strict=True))
            if place < len(shape) and shape[place] != (dim if dim != -1 else given.get(axis, shape[place]))
        ]
        if wrong or len(shape) != len(value.dims):
            return f"{value} comes back as {list(shape)} of {shapes_of(feed)}"
    return ""


def _traced_sizes(trial: TrialRun) -> tuple[int, int] | None:
    """Where no size ran, that of the traced example may: it stands somewhere in the file."""
    for size in _sizes_in(trial.question)[:MOST_TRACED]:
        for sizes in ((SIZES[0][0], size), (size, SIZES[0][1])):
            feed = trial.feeds.make(*sizes)
            if feed is None:
                continue
            try:
                trial.run(feed)
            except Failure as failure:
                trial.words(failure)
                continue
            return sizes
    return None


def _ignored(trial: TrialRun, sizes: tuple[int, int]) -> str:
    """An axis whose end has no effect: a loop that was unrolled for fewer steps, and leaves out the rest."""
    whole = trial.feeds.make(*sizes)
    assert whole is not None  # it ran before
    if any(array.dtype.kind in "iub" for array in whole.values()):
        return ""  # lengths may end before
    for axis, places in trial.feeds.free_axes(trial.question.batched).items():
        if not any(_end_counts(trial, sizes, places, scale) for scale in SCALES):
            return f"what stands at the end of {axis} has no effect at {shapes_of(whole)}"
    return ""


def _end_counts(trial: TrialRun, sizes: tuple[int, int], places: Sequence[tuple[str, int]], scale: float) -> bool:
    feed = trial.feeds.make(*sizes, scale)
    assert feed is not None  # it ran before
    return not all_same(trial.run(trial.feeds.change_end(feed, places, scale)), trial.run(feed))


def _sizes_in(question: Question) -> list[int]:
    """The sizes that the file's outputs declare, and the small whole numbers among its constants."""
    found = [dim for value in question.outputs for dim in value.dims if dim > 0]
    graph = onnx.load(question.file, format="protobuf", load_external_data=False).graph
    attributes = [attribute for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    for tensor in [*graph.initializer, *(attribute.t for attribute in attributes if attribute.name == "value")]:
        whole = tensor.data_type == onnx.TensorProto.INT64 and math.prod(tensor.dims) <= MOST_AXES
        if whole and not external_data_helper.uses_external_data(tensor):
            found += [int(number) for number in numpy_helper.to_array(tensor).flat]
    return [size for size in dict.fromkeys(found) if 0 < size <= LARGEST_TRACED]
