"""Every fault of one network as trials: files of their own, and runs that share a child process."""

from collections.abc import Iterator, Sequence
from functools import partial
from zlib import crc32

import numpy as np
import onnx

from faults.emulated_runtime import LOOPS
from faults.graph import KINDS as GRAPH_KINDS
from faults.graph import graph_faults
from faults.lying_runtime import ANSWERED, ASKED
from faults.nets import Net
from faults.plan import Lie
from faults.sizes import GROSS, RESIDUALS, SIZES, Steps, smallest
from faults.trials import EMULATED, LYING, ONNX_RUNTIME, Trial
from faults.weights import ELEMENTS, UNSEEN, weight_faults
from faults.weights import KINDS as WEIGHT_KINDS
from rnn_export.cases import Case
from rnn_export.forms import FORMS
from rnn_export.forms._tidy import graphs
from rnn_export.runtimes import Runtime
from rnn_export.weights import Weights

GROUPS = {
    "in the weights of the file": [*WEIGHT_KINDS, *ELEMENTS, *UNSEEN],
    "in the graph of the file": list(GRAPH_KINDS),
    "in the run": [*ASKED, *ANSWERED],
    "in the arithmetic and the loop": list(LOOPS),
}
Planted = tuple[str, str, Case, Lie]  # kind, size, what is asked, how it is answered


def fault_trials(net: Net, number: int, every: int) -> Iterator[Trial]:
    """All faults of the network, or about one in ``every`` kinds, others in every network."""

    def chosen(kind: str) -> bool:
        return crc32(f"{kind} {number}".encode()) % every == 0

    case, correct = net.case("a file"), net.model()
    for fault in weight_faults(net, case):
        if chosen(fault.kind):
            model = _holding(fault.planted, correct, net.form)
            yield _file_trial(net, fault.kind, fault.size, fault.truth, model, case)
    for kind, model in graph_faults(net, correct):
        if chosen(kind):
            yield _file_trial(net, kind, "", net.weights, model, case)
    told = [*_plain_lies(net), *_one_output(net), *_one_state(net)]
    yield from _run_trial(net, correct, LYING, [lie for lie in told if chosen(lie[0])])
    loops = [(kind, "", net.case(kind), Lie(kind)) for kind in LOOPS]
    yield from _run_trial(net, correct, EMULATED, [loop for loop in loops if chosen(loop[0])])


def _holding(weights: Weights, correct: onnx.ModelProto, form: str) -> onnx.ModelProto:
    """The model with other weights in it: what drawing it again would give, without torch's exporter."""
    arrays, model = FORMS.get(form).constants(weights), onnx.ModelProto()
    model.CopyFrom(correct)
    for graph in graphs(model.graph):
        for tensor in graph.initializer:
            if tensor.name in arrays:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(arrays[tensor.name]), tensor.name))
    return model


def _file_trial(net: Net, kind: str, size: str, truth: Weights, model: onnx.ModelProto, case: Case) -> Trial:
    return Trial(net.name, truth, net.form, model, ONNX_RUNTIME, [(kind, size, case)], {})


def _run_trial(net: Net, correct: onnx.ModelProto, runtime: Runtime, planted: Sequence[Planted]) -> Iterator[Trial]:
    if planted:
        cases = [(kind, size, case) for kind, size, case, _ in planted]
        lies = {case.name: lie for _, _, case, lie in planted}
        yield Trial(net.name, net.weights, net.form, correct, runtime, cases, lies)


def _plain_lies(net: Net) -> Iterator[Planted]:
    for kind in [*ASKED, *ANSWERED]:
        # ONNX Runtime's RNN operator itself swallows NaN in relu: there the honest answer is the lie.
        swallowed_anyway = net.form == "rnn" and net.spec.nonlinearity == "relu"
        if kind in ("one output", "one element of h_0") or (kind == "NaN swallowed" and swallowed_anyway):
            continue
        yield kind, "", net.case(kind, "nan" if kind == "NaN swallowed" else "normal"), Lie(kind)


def _one_output(net: Net) -> Iterator[Planted]:
    """One element of the output, from gross down to a residual of 8."""
    kind, generator = "one output", np.random.default_rng(list(net.name.encode()))
    for size, residual in SIZES.items():
        case = net.case(f"{kind} {size}")
        place = [int(generator.integers(length)) for length in (net.T, net.B, net.spec.hidden_size)]
        bound = float(Steps.exact(net.weights, case, net.spec.num_layers - 1, 0).s[tuple(place)])
        yield kind, size, case, Lie(kind, {"place": place, "size": GROSS if residual is None else residual * bound})


def _one_state(net: Net) -> Iterator[Planted]:
    """One element of h_0, from gross down to a residual of 8; one that moves the first step."""
    kind, generator = "one element of h_0", np.random.default_rng(list(net.name.encode()))
    for size, residual in SIZES.items():
        case = net.case(f"{kind} {size}")
        cell, row = int(generator.integers(len(net.spec.cells()))), int(generator.integers(net.B))
        steps = Steps.exact(net.weights, case, *net.spec.cells()[cell])
        unit = steps.most_read_unit()
        moved = smallest(partial(steps.moved_state, row, unit), residual or max(RESIDUALS))
        if moved is not None:
            place = [cell, row, unit]
            yield kind, size, case, Lie(kind, {"place": place, "size": moved if residual else GROSS})
