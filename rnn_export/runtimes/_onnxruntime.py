"""What the ONNX Runtime rows share: a session that computes alike on every machine, and proof of placement."""

from pathlib import Path
from typing import Any

from rnn_export.runtimes import Fallback, Placed, Run, thread_limit

BITS, BFLOAT16 = "V2", 16  # numpy's name of a bfloat16's bits; onnx.TensorProto.BFLOAT16
# On the CPU; float16 products are computed in float32, between casts that ONNX Runtime adds.
LACKS = frozenset({("RNN", "float64"), ("RNN", "bfloat16"), ("Gemm", "bfloat16")})
SNIPPET = """import onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
found = dict(zip(names, session.run(names, inputs)))"""
ERRORS_ONLY = 3  # severity: what is said below is not for the user of a verdict


def session_run(folder: Path, provider: str, options: dict[str, str]) -> Run:
    """Load folder/model.onnx on one execution provider.

    Raises:
        Fallback: the provider is not in the session, or a node was placed elsewhere.
    """
    import onnxruntime

    strict = provider != "CPUExecutionProvider"

    def session_with(settings: Any) -> Any:
        model = str(folder / "model.onnx")
        return onnxruntime.InferenceSession(model, settings, providers=[(provider, options)])

    try:
        session = session_with(_settings(strict))
    except Exception as error:
        if "fallback to CPU EP has been explicitly disabled" not in str(error):
            raise
        found = _prove_placement(session_with(_settings(strict=False)), provider)  # which names the nodes
        raise Fallback(f"asked for {provider}, but it does not run every node: {error}", found) from None
    placement = _prove_placement(session, provider)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Any) -> dict[str, Any]:
        if any(array.dtype == BITS for array in inputs.values()):
            return _run_on_bits(session, names, inputs)
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    takes_bits = any(value.type == "tensor(bfloat16)" for value in session.get_inputs())
    return Placed(run, placement, run if takes_bits else _bound(session, names))


def _bound(session: Any, names: list[str]) -> Run:
    """Runs from and into arrays as they lie, as torch and OpenVINO run: ``session.run`` copies its outputs."""
    binding = session.io_binding()
    outputs: list[Any] = []
    known: list[Any] = []

    def lean(inputs: Any) -> dict[str, Any]:
        if not known or known[0] is not inputs:
            known[:] = [inputs]
            outputs[:] = session.run(names, dict(inputs))  # which tells their shapes, and is where they lie from now on
            for name, array in inputs.items():
                binding.bind_cpu_input(name, array)
            for name, array in zip(names, outputs, strict=True):
                binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        session.run_with_iobinding(binding)
        return dict(zip(names, outputs, strict=True))

    return lean


def _settings(strict: bool) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = ERRORS_ONLY
    settings.intra_op_num_threads = thread_limit()
    settings.inter_op_num_threads = 1
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1" if strict else "0")
    return settings


def _run_on_bits(session: Any, names: list[str], inputs: Any) -> dict[str, Any]:
    """Inputs and outputs of which some are the bits of bfloat16, which ``session.run`` does not take from numpy."""
    import ctypes

    import numpy
    from onnxruntime import OrtValue

    def value_of(array: Any) -> Any:
        if array.dtype == BITS:
            return OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(numpy.uint16), BFLOAT16)
        return OrtValue.ortvalue_from_numpy(array)

    def array_of(value: Any) -> Any:
        if value.element_type() != BFLOAT16:
            return value.numpy()
        raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
        return numpy.frombuffer(raw, BITS).reshape(value.shape())

    values = session.run_with_ort_values(names, {name: value_of(array) for name, array in inputs.items()})
    return dict(zip(names, map(array_of, values), strict=True))


def _prove_placement(session: Any, provider: str) -> dict[str, Any]:
    """Which provider got which node, and whether it may use TF32; ONNX Runtime itself warns at most.

    Raises:
        Fallback: the provider is not in the session, a node is elsewhere, or nobody can tell.
    """
    tellable = hasattr(session, "get_provider_graph_assignment_info")
    nodes: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info() if tellable else []:
        nodes.setdefault(part.ep_name, []).extend(f"{node.op_type} {node.name}".strip() for node in part.get_nodes())
    use_tf32 = session.get_provider_options().get(provider, {}).get("use_tf32")
    placement = {
        "asked": provider,
        "providers": list(session.get_providers()),
        "nodes": nodes,
        "tf32": None if use_tf32 is None else use_tf32 == "1",
    }
    if provider not in session.get_providers():
        raise Fallback(f"asked for {provider}, got {', '.join(session.get_providers())}", placement)
    if not tellable and provider != "CPUExecutionProvider":  # on the CPU there is nowhere else to go
        raise Fallback(f"this version of ONNX Runtime cannot prove that {provider} runs every node", placement)
    elsewhere = [f"{node} on {other}" for other in nodes if other != provider for node in nodes[other]]
    if elsewhere:
        raise Fallback(f"asked for {provider}, but {'; '.join(elsewhere[:3])} ({len(elsewhere)} nodes)", placement)
    return placement
