"""``triton-python``: a model repository for Triton's python backend, the one of the server that pip can install.

Its ``model.py`` runs the same file in ONNX Runtime, puts requests of one shape into one run, and keeps the states of
sequences, which the python backend cannot keep by itself.
"""

import shutil
from pathlib import Path

from rnn_export.targets import Shipment, target
from rnn_export.targets._tree import write_initial_state, write_repository

MODEL = Path(__file__).parent.parent / "data" / "triton" / "model.py"


@target(
    "triton-python",
    summary="Triton with its python backend, such as the server that rnn-export serve runs",
    holds_state=True,
    serve="rnn-export serve DIR",
)
def bundle(shipment: Shipment, root: Path) -> Path:
    model = write_repository(shipment, root, "python")
    shutil.copyfile(MODEL, model.parent / "model.py")
    if shipment.interface.state == "server":
        write_initial_state(shipment, model.parent)
    return model
