"""A model of MLServer: one ONNX file by ONNX Runtime. MLServer itself brings no runtime for ONNX."""

import asyncio

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.codecs.numpy import to_datatype
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from mlserver.utils import get_model_uri


class OrtRuntime(MLModel):
    async def load(self) -> bool:
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3  # errors only
        settings.intra_op_num_threads = 1  # requests side by side use the other processors
        settings.inter_op_num_threads = 1
        path = await get_model_uri(self._settings, wellknown_filenames=["model.onnx"])
        self._session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        self._outputs = [value.name for value in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        wanted = [output.name for output in payload.outputs or []] or self._outputs
        try:
            feed = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
            _check_lengths(feed)
            # In a thread, which leaves the server free to read and answer other requests
            found = await asyncio.to_thread(self._session.run, wanted, feed)
        except Exception as error:  # ONNX Runtime's and numpy's words are for who sent the request
            raise InferenceError(str(error)) from error
        outputs = [_output(name, array) for name, array in zip(wanted, found, strict=True)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def _check_lengths(feed):
    """Raises ValueError where lengths (B, 1) are none of input (B, T, I): ONNX Runtime would answer.

    A network that was not shipped has lengths (B,), and its T may be another axis.
    """
    x, lengths = feed.get("input"), feed.get("lengths")
    if x is None or x.ndim != 3 or lengths is None or lengths.ndim != 2:
        return  # what of this is wrong, ONNX Runtime says
    T = x.shape[1]
    for row, length in enumerate(lengths.ravel().tolist()):
        if not 1 <= length <= T:
            raise ValueError(f"lengths of row {row} is {length}, and has to be from 1 to {T}, the steps of the input")


def _output(name, array):
    """Not by NumpyCodec: it writes None for NaN, which gRPC cannot send."""
    return ResponseOutput(name=name, datatype=to_datatype(array.dtype), shape=array.shape, data=array.ravel().tolist())
