"""Ray Serve with ``@serve.batch``: one replica, raw bytes in and out."""

import asyncio
import signal
from typing import Any

import ray
from network import BATCH, BATCH_WAIT_S, MODEL, PORT, Network
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Speaker:
    """The replica; the proxy in front of it is a process of its own."""

    def __init__(self, model: str) -> None:
        self.network = Network(model)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
    async def run_batch(self, sequences: list[Any]) -> list[Any]:
        """Return one row of 9 for each sequence."""
        return list(self.network.run(sequences))

    async def __call__(self, request: Request) -> Response:
        """Answer one sequence, float32 [T, I], with its 9 scores, float32."""
        scores = await self.run_batch(self.network.sequence(await request.body()))
        return Response(scores.tobytes(), media_type="application/octet-stream")


async def main() -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    # Two CPUs are only what the scheduler counts (the proxy and the replica); the process is pinned to one.
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, object_store_memory=100 * 2**20)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    await asyncio.to_thread(serve.run, Speaker.bind(MODEL), route_prefix="/predict")
    await stop.wait()
    await asyncio.to_thread(serve.shutdown)
    ray.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
