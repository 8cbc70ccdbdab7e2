"""One pass after every drawing: what does not belong in a file is taken out, and Scan bodies are linted."""

import re
from collections.abc import Iterator

import onnx

DIMENSIONS = ("T", "B")


def tidy(model: onnx.ModelProto, *, one_network: bool = True) -> None:
    """Strip metadata, rename stray symbols, lower the IR version to what the opset needs; in place.

    torch writes its node metadata with the absolute paths of the sources, and calls the batch axis ``s27``
    in the bodies while it is ``B`` outside. In a whole model, of more than one network, nobody knows what a stray
    symbol is, and it is taken out.

    Raises:
        ValueError: a Scan body lists one value twice, or passes an input through.
    """
    model.doc_string = ""
    del model.metadata_props[:]
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
    model.producer_name = "rnn-export"
    model.producer_version = ""  # the manifest has the versions; the bytes need not change with them
    for graph in graphs(model.graph):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer, *graph.node):
            item.doc_string = ""
            del item.metadata_props[:]
    known = set(DIMENSIONS) if one_network else _symbols(model.graph)
    for graph in graphs(model.graph):
        for node in graph.node:
            if node.op_type == "Scan":
                _lint(node)
                _rename_symbols(body_of(node), known, "B" if one_network else "")
    _drop_unused_initializers(model.graph)
    _number_generated_names(model.graph)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def body_of(node: onnx.NodeProto) -> onnx.GraphProto:
    body: onnx.GraphProto = next(attribute.g for attribute in node.attribute if attribute.name == "body")
    return body


def _lint(node: onnx.NodeProto) -> None:
    """Refuse what passes the ONNX checker and is silently wrong or refused in ONNX Runtime."""
    body = body_of(node)
    outputs = [value.name for value in body.output]
    inputs = {value.name for value in body.input}
    for name in outputs:
        if outputs.count(name) > 1 or name in inputs:
            raise ValueError(
                f"the body of {node.name or 'a Scan'} lists {name!r} as state and output, or passes it through: "
                "ONNX Runtime runs it and is wrong. Put an Identity between"
            )


def _rename_symbols(body: onnx.GraphProto, known: set[str], name: str) -> None:
    """Inside a cell the only dynamic axis is the batch."""
    for value in (*body.input, *body.output, *body.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param and dimension.dim_param not in known:
                dimension.dim_param = name


def _symbols(graph: onnx.GraphProto) -> set[str]:
    values = (*graph.input, *graph.output)
    return {dimension.dim_param for value in values for dimension in value.type.tensor_type.shape.dim}


def _number_generated_names(graph: onnx.GraphProto) -> None:
    """Number what torch calls ``val_7`` and its nodes from 0: it counts on from one export to the next."""
    names: dict[str, str] = {}

    def renamed(name: str) -> str:
        if re.fullmatch(r"val_\d+", name):
            return names.setdefault(name, f"val_{len(names)}")
        return name

    nodes = 0
    for inner in graphs(graph):
        for node in inner.node:
            node.input[:] = [renamed(name) for name in node.input]
            node.output[:] = [renamed(name) for name in node.output]
            if node.name:
                node.name = f"{node.op_type}_{nodes}"
                nodes += 1
        for value in (*inner.initializer, *inner.value_info, *inner.input, *inner.output):
            value.name = renamed(value.name)


def _drop_unused_initializers(graph: onnx.GraphProto) -> None:
    used = {name for inner in graphs(graph) for node in inner.node for name in node.input}
    used |= {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    if len(kept) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)
