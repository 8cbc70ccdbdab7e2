"""A Ray Serve application for the one model under models/, with requests and answers as in the Open Inference Protocol.

serve run application:application
curl -d @proof/golden/0.json http://127.0.0.1:8000/
"""

from pathlib import Path

import numpy as np
import onnxruntime
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

(MODEL,) = Path(__file__).resolve().parent.glob("models/*/1/model.onnx")
TYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64}
NAMES = {np.dtype(kind): name for name, kind in TYPES.items()}


@serve.deployment
class Network:
    def __init__(self, model: str) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1  # replicas use the other processors
        self.session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])

    async def __call__(self, request: Request) -> JSONResponse:
        try:
            inputs = (await request.json())["inputs"]
            feed = {one["name"]: np.array(one["data"], TYPES[one["datatype"]]).reshape(one["shape"]) for one in inputs}
            found = self.session.run(None, feed)
        except Exception as error:  # whatever a client sent: the answer says what is wrong with it
            return JSONResponse({"error": f"{type(error).__name__}: {error}"}, status_code=400)
        names = [value.name for value in self.session.get_outputs()]
        outputs = [
            {"name": name, "datatype": NAMES[array.dtype], "shape": array.shape, "data": array.reshape(-1).tolist()}
            for name, array in zip(names, found, strict=True)
        ]
        return JSONResponse({"outputs": outputs})


application = Network.bind(str(MODEL))
