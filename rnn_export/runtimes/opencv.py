"""OpenCV's dnn module on the CPU."""

from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, runtime, thread_limit

SNIPPET = """import cv2
net = cv2.dnn.readNetFromONNX("model.onnx")
for name, array in inputs.items():
    net.setInput(array, name)
names = net.getUnconnectedOutLayersNames()
found = dict(zip(names, net.forward(names)))"""


@runtime(
    "opencv",
    requires=("opencv-python-headless==5.0.0.93", "numpy==2.4.6"),
    own_environment=True,
    summary="OpenCV's dnn module, CPU",
    snippet=SNIPPET,
)
def prepare(folder: Path) -> Run:
    import cv2

    cv2.setNumThreads(thread_limit())
    cv2.setUseOptimized(True)
    net = cv2.dnn.readNetFromONNX(str(folder / "model.onnx"))
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    names = net.getUnconnectedOutLayersNames()

    def run(inputs: Any) -> dict[str, Any]:
        for name, array in inputs.items():
            net.setInput(array, name)
        return dict(zip(names, net.forward(names), strict=True))

    return run
