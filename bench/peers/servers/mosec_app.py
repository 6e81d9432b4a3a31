"""mosec: a server in Rust with one Python worker behind it; batches of 8, 2 ms; raw bytes in and out."""

from typing import Any

from mosec import Server, Worker
from network import BATCH, BATCH_WAIT_S, Network


class Inference(Worker):
    """deserialize and serialize see one request each, forward a batch."""

    def __init__(self) -> None:
        self.network = Network()

    def deserialize(self, data: bytes) -> Any:
        """Return the sequence, [T, I]."""
        return self.network.sequence(data)

    def forward(self, data: list[Any]) -> list[Any]:
        """Return one row of 9 for each sequence."""
        return list(self.network.run(data))

    def serialize(self, data: Any) -> bytes:
        """Return the 9 scores, float32."""
        return bytes(data.tobytes())


if __name__ == "__main__":
    server = Server()
    server.append_worker(Inference, num=1, max_batch_size=BATCH, max_wait_time=round(BATCH_WAIT_S * 1000))
    server.run()
