"""The layers that stay inside a Scan: in a copy of the model they leave it as the top layer does."""

import onnx
from onnx import helper

from rnn_export.forms._tidy import body_of
from rnn_export.spec import RNNSpec, suffix


def reveal_inner_layers(model: onnx.ModelProto, spec: RNNSpec) -> None:
    """Make every layer's states a value ``states{end}`` of the graph, in place, where only the top layer's are.

    ``stacked`` keeps them inside, of one direction: each leaves by an Identity, as the top layer does.
    """
    top, inner = suffix(spec.num_layers - 1, 0), [suffix(layer, 0) for layer in range(spec.num_layers - 1)]
    for node in model.graph.node:
        if node.op_type != "Scan" or spec.bidirectional:
            continue
        body = body_of(node)
        made = {value.name: value for value in body.output}
        if not made.keys() >= {f"h_next{end}" for end in (*inner, top)}:
            continue
        directions = next(item for item in node.attribute if item.name == "scan_output_directions")
        for end in inner:
            body.node.append(helper.make_node("Identity", [f"h_next{end}"], [f"y{end}"]))
            body.output.append(made[f"h_next{end}"])
            body.output[-1].name = f"y{end}"
            node.output.append(f"states{end}")
            directions.ints.append(0)
