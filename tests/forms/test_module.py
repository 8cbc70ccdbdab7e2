"""The form that torch's own exporter draws."""

from concurrent.futures import ThreadPoolExecutor

from rnn_export.forms import draw
from rnn_export.forms._tidy import graphs
from rnn_export.spec import RNNSpec
from rnn_export.weights import Weights


def test_two_threads_may_draw_at_once():
    specs = [RNNSpec(3, 4), RNNSpec(3, 4, nonlinearity="relu")]
    with ThreadPoolExecutor(2) as pool:
        models = list(pool.map(lambda spec: draw("module", Weights.random(spec, 0), 18), specs))
    assert [{"Tanh", "Relu"} & {n.op_type for g in graphs(model.graph) for n in g.node} for model in models] == [
        {"Tanh"},
        {"Relu"},
    ]
