"""Models for the real Triton: a network as it is, a sum that goes on within a sequence, and whatever else."""

import re
import shutil
from pathlib import Path

import rnn_export

PLAIN = Path(rnn_export.__file__).parent / "data" / "triton" / "plain" / "model.py"
CPU = "instance_group [ { kind: KIND_CPU count: 1 } ]\n"

NETWORK = """backend: "python"
input [ { name: "input" data_type: TYPE_FP32 dims: [ -1, -1, 3 ] },
        { name: "h_0" data_type: TYPE_FP32 dims: [ 1, -1, 4 ] } ]
output [ { name: "output" data_type: TYPE_FP32 dims: [ -1, -1, 4 ] },
         { name: "h_n" data_type: TYPE_FP32 dims: [ 1, -1, 4 ] } ]
"""

SUM = """backend: "python"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "sum" data_type: TYPE_FP32 dims: [ 1 ] } ]
sequence_batching {
  oldest { max_candidate_sequences: 256 }
  control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
                  { name: "id" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] } ]
}
"""

SUM_MODEL = '''"""The sum of what a sequence was sent so far."""

import triton_python_backend_utils as backend


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x, start, key = (
            backend.get_input_tensor_by_name(request, name).as_numpy() for name in ("x", "START", "id")
        )
        total = x if start.any() else x + self.sums[int(key.flat[0])]
        self.sums[int(key.flat[0])] = total
        return backend.InferenceResponse([backend.Tensor("sum", total)])
'''


def regions_of(server: int) -> str:
    """How the names of a running server's regions in shared memory begin."""
    (said,) = re.findall(r"shm-region-prefix-name=(\S+?)-\0", Path(f"/proc/{server}/cmdline").read_text())
    return said


def in_shared_memory(regions: str) -> list[Path]:
    """What of them has a name now, and what holds them."""
    return list(Path("/dev/shm").glob(f"{regions}*"))  # noqa: S108


def add_network(repository: Path, model: Path, name: str = "network") -> Path:
    """A network of 3 -> 4, with its own axes: (T, B, ...)."""
    parameter = f'parameters {{ key: "path" value: {{ string_value: "{model.resolve()}" }} }}\n'
    folder = add_model(repository, name, NETWORK + parameter)
    shutil.copyfile(PLAIN, folder / "1" / "model.py")
    return folder


def add_sum(repository: Path) -> Path:
    """The running sum of a sequence, as a model ``sum``."""
    return add_model(repository, "sum", SUM, SUM_MODEL)


def add_model(repository: Path, name: str, config: str, code: str = "") -> Path:
    """A model with that configuration and model.py."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config + CPU)
    (folder / "1" / "model.py").write_text(code)
    return folder
