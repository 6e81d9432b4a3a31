"""LitServe with its batching; bodies are JSON, for that is all its requests can be (forms aside): base64 inside."""

import base64
from typing import Any

import litserve
from network import BATCH, BATCH_WAIT_S, PORT, Network


class SpeakerAPI(litserve.LitAPI):
    """decode_request and encode_response see one request each, batch .. unbatch all of a batch."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - the name is the framework's
        """Open the network, in the worker's process."""
        self.network = Network()

    def decode_request(self, request: dict[str, str]) -> Any:
        """Return the sequence, [T, I]."""
        return self.network.sequence(base64.b64decode(request["x"]))

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Leave the sequences as they are; they have unequal lengths and are padded in the network."""
        return inputs

    def predict(self, sequences: list[Any]) -> Any:
        """Return [B, 9]."""
        return self.network.run(sequences)

    def unbatch(self, output: Any) -> list[Any]:
        """Return one row for each request."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, list[float]]:
        """Return the 9 scores."""
        return {"y": output.tolist()}


if __name__ == "__main__":
    api = SpeakerAPI(max_batch_size=BATCH, batch_timeout=BATCH_WAIT_S)
    # fast_queue (ZeroMQ between the processes) is what the documentation recommends for high throughput.
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False, log_level="warning")
