"""Triton's ONNX Runtime backend in Python: Triton's own is built for its container, and on no package index.

Lies in a backend directory as `onnxruntime/model.py`, where Triton looks for the backend that a platform names.
"""

import json
import os
import sys

sys.path.insert(0, os.environ["TRITON_BACKEND_PACKAGES"])  # the interpreter inside Triton knows of no environment

import onnxruntime
import triton_python_backend_utils as triton  # the server brings it


class TritonPythonModel:
    """One model of the repository."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        path = os.path.join(args["model_repository"], args["model_version"], config["default_model_filename"])
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.inputs = [tensor["name"] for tensor in config["input"]]

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        feeds = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
        wanted = list(request.requested_output_names())
        found = self.session.run(wanted, feeds)
        return triton.InferenceResponse([triton.Tensor(*pair) for pair in zip(wanted, found)])  # noqa: B905
