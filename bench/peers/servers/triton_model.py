"""Triton's Python backend: the dynamic batcher hands over up to 8 requests at once, each with its own length."""

import json
from typing import Any

import triton_python_backend_utils as pb_utils
from network import Network


class TritonPythonModel:
    """What the backend looks for."""

    def initialize(self, args: dict[str, Any]) -> None:
        """Open the network named in the configuration of the model."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.network = Network(parameters["model"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch: x is [1, T, I] in each request, y [1, 9]."""
        sequences = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy()[0] for request in requests]
        scores = self.network.run(sequences)
        return [
            pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("y", scores[row : row + 1])])
            for row in range(len(requests))
        ]
