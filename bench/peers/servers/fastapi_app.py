"""FastAPI by hand: the raw body in, raw bytes out, one sequence at a time.

Run as its documentation has it, ``uvicorn fastapi_app:app``, with uvloop and httptools (``uvicorn[standard]``).
The network runs in the event loop: with one core a thread pool would add its hand-over and win nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from network import Network


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the network once, before the first request."""
    app.state.network = Network()
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/predict", response_class=Response)
async def predict(request: Request) -> Response:
    """Answer one sequence, float32 [T, I], with its 9 scores, float32."""
    network: Network = request.app.state.network
    scores = network.run([network.sequence(await request.body())])
    return Response(scores[0].tobytes(), media_type="application/octet-stream")
