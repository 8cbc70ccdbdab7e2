"""``ray-serve``: an application for Ray Serve. It joins no requests, and clients hold the state."""

import shutil
from pathlib import Path

from rnn_export.targets import Shipment, target
from rnn_export.targets._tree import VERSION, write_model

APPLICATION = Path(__file__).parent.parent / "data" / "ray_serve" / "application.py"


@target("ray-serve", summary="Ray Serve", open_inference=False, serve="cd DIR && serve run application:application")
def bundle(shipment: Shipment, root: Path) -> Path:
    model = write_model(shipment, root / "models" / shipment.name / VERSION)
    shutil.copyfile(APPLICATION, root / APPLICATION.name)
    return model
