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
        self._ranks = {value.name: len(value.shape) for value in self._session.get_inputs()}
        self._outputs = [value.name for value in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        wanted = [output.name for output in payload.outputs or []] or self._outputs
        try:
            feed = {tensor.name: self._array(tensor) for tensor in payload.inputs}
            # In a thread, which leaves the server free to read and answer other requests
            found = await asyncio.to_thread(self._session.run, wanted, feed)
        except Exception as error:  # ONNX Runtime's and numpy's words are for who sent the request
            raise InferenceError(str(error)) from error
        outputs = [_output(name, array) for name, array in zip(wanted, found, strict=True)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)

    def _array(self, tensor):
        """Without a last axis of size 1 that the graph has not: what other servers need for one number a row."""
        array = NumpyCodec.decode_input(tensor)
        extra = array.ndim == self._ranks.get(tensor.name, array.ndim) + 1 and array.shape[-1] == 1
        return array[..., 0] if extra else array


def _output(name, array):
    """Not by NumpyCodec: it writes None for NaN, which gRPC cannot send."""
    return ResponseOutput(name=name, datatype=to_datatype(array.dtype), shape=array.shape, data=array.ravel().tolist())
