"""Says that one node is not where it was asked to be, as ONNX Runtime does under CUDA."""

from rnn_export.runtimes import Fallback


def prepare(folder):
    nodes = {"abacus": ["Gather first"], "CPU": ["Scan over_time"]}
    placement = {"asked": "abacus", "providers": ["abacus", "CPU"], "nodes": nodes, "tf32": False}
    raise Fallback("asked for the abacus, but Scan over_time on CPU (1 nodes)", placement)
