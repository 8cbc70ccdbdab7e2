"""What the torch rows share: ``torch.nn.RNN`` on the checkpoint's own weights, on one device."""

import json
from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run


def torch_run(folder: Path, device: str) -> Run:
    """Run folder/weights.safetensors on a device.

    Besides output and h_n it answers ``layer_0``, ``layer_1``, ... (T, B, D*H): each layer on its own, fed with
    the layer below, because ``nn.RNN`` shows only the last.
    """
    import torch
    from safetensors import safe_open

    torch.set_num_threads(1)
    with safe_open(folder / "weights.safetensors", framework="pt", device=device) as file:
        spec = json.loads(file.metadata()["rnn_export"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    dtype = next(iter(state.values())).dtype
    whole = torch.nn.RNN(**spec, device=device, dtype=dtype)
    whole.load_state_dict(state)
    layers = [_layer(torch, spec, state, layer, device, dtype) for layer in range(spec["num_layers"])]
    rows = 2 if spec["bidirectional"] else 1

    def run(inputs: Any) -> dict[str, Any]:
        x = torch.from_numpy(inputs["input"]).to(device)
        h_0 = torch.from_numpy(inputs["h_0"]).to(device)
        with torch.inference_mode():
            output, h_n = whole(x, h_0)
            answers = {"output": output, "h_n": h_n}
            sequence = x.transpose(0, 1) if spec["batch_first"] else x
            for index, layer in enumerate(layers if len(layers) > 1 else []):
                sequence, _ = layer(sequence, h_0[index * rows : (index + 1) * rows])
                answers[f"layer_{index}"] = sequence
        return {name: tensor.cpu().numpy() for name, tensor in answers.items()}

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
