"""torch.nn.RNN on CUDA, TF32 off."""

from pathlib import Path

from rnn_export.runtimes import Absent, Run, runtime
from rnn_export.runtimes._torch import torch_run


@runtime(
    "torch-cuda",
    requires=("torch", "safetensors"),
    summary="torch.nn.RNN on the weights, CUDA, TF32 off",
    reads="weights.safetensors",
    device="CUDA",
    limit_address_space=False,
)
def prepare(folder: Path) -> Run:
    import torch

    if not torch.cuda.is_available():
        raise Absent(f"torch {torch.__version__} finds no CUDA device")
    torch.backends.cudnn.allow_tf32 = False  # torch's default is True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False  # partial sums stay in float32
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    return torch_run(folder, "cuda")
