"""A model of Triton's python backend: one ONNX file by ONNX Runtime, request by request, nothing joined."""

import json

import onnxruntime
import triton_python_backend_utils as backend  # Triton puts it on the path


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3  # errors only
        settings.intra_op_num_threads = 1  # answers do not depend on the number of cores
        settings.inter_op_num_threads = 1
        path = config["parameters"]["path"]["string_value"]
        self.session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        feed = {name: backend.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
        try:
            found = self.session.run(self.outputs, feed)
        except Exception as error:  # the client is told, and the server goes on
            return backend.InferenceResponse(error=backend.TritonError(str(error)))
        named = zip(self.outputs, found, strict=True)
        return backend.InferenceResponse([backend.Tensor(name, array) for name, array in named])
