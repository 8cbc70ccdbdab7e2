"""What the torch rows share: ``torch.nn.RNN`` on the checkpoint's own weights, on one device."""

import json
from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, Slimmed, thread_limit


def torch_run(folder: Path, device: str) -> Run:
    """Run folder/weights.safetensors on a device.

    Besides output and h_n it answers ``layer_0``, ``layer_1``, ... (T, B, D*H): each layer on its own, fed with
    the layer below, because ``nn.RNN`` shows only the last.
    """
    import torch

    torch.set_num_threads(thread_limit())
    spec, state = read_weights(folder, device)
    dtype = state["weight_ih_l0"].dtype
    if spec["nonlinearity"] == "identity":
        return loop_run(torch, spec, state, device)
    whole = torch.nn.RNN(**spec, device=device, dtype=dtype)
    whole.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("head.")})
    layers = [_layer(torch, spec, state, layer, device, dtype) for layer in range(spec["num_layers"])]
    rows = 2 if spec["bidirectional"] else 1

    def lean(inputs: Any) -> dict[str, Any]:
        x, h_0 = (_tensor(torch, inputs[name]).to(device) for name in ("input", "h_0"))
        with torch.inference_mode():
            output, h_n = _packed(torch, whole, x, h_0, inputs)
        return {"output": _array(torch, output.cpu()), "h_n": _array(torch, h_n.cpu())}

    def run(inputs: Any) -> dict[str, Any]:
        x, h_0 = (_tensor(torch, inputs[name]).to(device) for name in ("input", "h_0"))
        with torch.inference_mode():
            output, h_n = _packed(torch, whole, x, h_0, inputs)
            answers = {"output": output, "h_n": h_n}
            sequence = x.transpose(0, 1) if spec["batch_first"] else x
            for index, layer in enumerate(layers if len(layers) > 1 else []):
                sequence, _ = _packed(torch, layer, sequence, h_0[index * rows : (index + 1) * rows], inputs)
                answers[f"layer_{index}"] = sequence
        return {name: _array(torch, tensor.cpu()) for name, tensor in answers.items()}

    return Slimmed(run, lean)


def read_weights(folder: Path, device: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """nn.RNN's arguments and its tensors by torch's names, from folder/weights.safetensors."""
    from safetensors import safe_open

    with safe_open(folder / "weights.safetensors", framework="pt", device=device) as file:
        return json.loads(file.metadata()["rnn_export"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _tensor(torch: Any, array: Any) -> Any:
    """numpy has no bfloat16: it comes as its bits, and goes so."""
    return torch.from_numpy(array.view("i2")).view(torch.bfloat16) if array.dtype == "V2" else torch.from_numpy(array)


def _array(torch: Any, tensor: Any) -> Any:
    return tensor.view(torch.int16).numpy().view("V2") if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _packed(torch: Any, module: Any, x: Any, h_0: Any, inputs: Any) -> tuple[Any, Any]:
    """The module's own answers, through torch's packed sequences where there are lengths."""
    if "lengths" not in inputs:
        output, h_n = module(x, h_0)
        return output, h_n
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    order = {"batch_first": module.batch_first}
    lengths = torch.from_numpy(inputs["lengths"])
    packed, h_n = module(pack_padded_sequence(x, lengths, enforce_sorted=False, **order), h_0)
    T = x.shape[1 if module.batch_first else 0]
    output, _ = pad_packed_sequence(packed, total_length=T, **order)
    return output, h_n


def loop_run(torch: Any, spec: dict[str, Any], state: dict[str, Any], device: str, *, compiled: bool = False) -> Run:
    """The recurrence as a loop over time: what ``nn.RNN`` does not have, and what ``torch.compile`` can compile.

    Args:
        torch: the module.
        spec, state: the network and its weights, on the device.
        device: where.
        compiled: by ``torch.compile``, anew for every shape; it raises rather than fall back to the plain loop.
    """
    directions = ["", "_reverse"] if spec["bidirectional"] else [""]
    activations = {"tanh": torch.tanh, "relu": torch.relu, "identity": lambda states: states}
    activation = activations[spec["nonlinearity"]]

    def cell(x_t: Any, h: Any, end: str) -> Any:
        linear = torch.nn.functional.linear
        x_part = linear(x_t, state[f"weight_ih{end}"], state.get(f"bias_ih{end}"))
        return activation(x_part + linear(h, state[f"weight_hh{end}"], state.get(f"bias_hh{end}")))

    def recur(sequence: Any, h_0: Any, inside: Any) -> tuple[list[Any], Any]:
        """(T, B, I), (L*D, B, H), (T, B, 1) or None -> the states of each layer (T, B, D*H), h_n (L*D, B, H)."""
        h_n, layers = [], []
        for layer in range(spec["num_layers"]):
            parts = []
            for direction, end in enumerate(directions):
                h, states = h_0[layer * len(directions) + direction], {}
                for t in reversed(range(len(sequence))) if direction else range(len(sequence)):
                    stepped = cell(sequence[t], h, f"_l{layer}{end}")
                    h = stepped if inside is None else torch.where(inside[t], stepped, h)
                    states[t] = h if inside is None else torch.where(inside[t], h, 0.0)
                parts.append(torch.stack([states[t] for t in range(len(sequence))]))
                h_n.append(h)
            sequence = torch.cat(parts, dim=-1)
            layers.append(sequence)
        return layers, torch.stack(h_n)

    whole = torch.compile(recur, fullgraph=True, dynamic=False) if compiled else recur

    def run(inputs: Any) -> dict[str, Any]:
        sequence, h_0 = (_tensor(torch, inputs[name]).to(device) for name in ("input", "h_0"))
        sequence = sequence.transpose(0, 1) if spec["batch_first"] else sequence
        inside = None
        if "lengths" in inputs:
            inside = torch.arange(len(sequence))[:, None] < torch.from_numpy(inputs["lengths"])
            inside = inside.to(device)[..., None]
        with torch.inference_mode():
            layers, h_n = whole(sequence, h_0, inside)
        answers = {f"layer_{layer}": states for layer, states in enumerate(layers)}
        answers["output"] = layers[-1].transpose(0, 1) if spec["batch_first"] else layers[-1]
        answers["h_n"] = h_n
        return {name: _array(torch, tensor.cpu()) for name, tensor in answers.items()}

    return run


def _layer(torch: Any, spec: dict[str, Any], state: dict[str, Any], layer: int, device: str, dtype: Any) -> Any:
    below = spec["hidden_size"] * (2 if spec["bidirectional"] else 1)
    alone = {
        **spec,
        "input_size": spec["input_size"] if layer == 0 else below,
        "num_layers": 1,
        "batch_first": False,
    }
    module = torch.nn.RNN(**alone, device=device, dtype=dtype)
    marks = (f"_l{layer}", f"_l{layer}_reverse")
    module.load_state_dict(
        {name.replace(f"_l{layer}", "_l0"): tensor for name, tensor in state.items() if name.endswith(marks)}
    )
    return module
