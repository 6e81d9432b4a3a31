"""The main job on the real data: trained, exported, verified, bundled, and asked over HTTP, with the same answers."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file

from cellgate.__main__ import main
from cellgate.serve.app import create_app
from cellgate.serve.engine.engine import Engine
from cellgate.serve.engine.engine_limits import EngineLimits
from cellgate.serve.engine.models import open_engine_models
from cellgate.serve.engine.threaded import ThreadedEngine
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.settings import Settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "japanese_vowels"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "japanese-vowels"
    words = ["export", f"{EXAMPLE}/network.py:speaker_network", "--weights", f"{EXAMPLE}/weights.safetensors"]
    assert main([*words, "--out", str(out), "--drift-steps", "100"]) == 0
    return out


@asynccontextmanager
async def served(bundle):
    """A client of the application, in front of a real engine in this process."""
    settings = Settings(device="cpu")
    models = open_engine_models([BundlePlace(bundle)], settings)
    engine = ThreadedEngine(Engine(models, EngineLimits.of(settings)))
    engine.start(asyncio.get_running_loop())
    try:
        app = create_app([model.served for model in models], settings, engine)
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            yield client
    finally:
        engine.close()


async def ask(client, x, lengths):
    """Send a padded batch and return the scores."""
    tensors = [
        {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()},
        {"name": "lengths", "shape": [len(lengths)], "datatype": "INT32", "data": lengths.tolist()},
    ]
    answer = await client.post("/v2/models/japanese-vowels/infer", json={"inputs": tensors})
    assert answer.status_code == 200
    (y,) = answer.json()["outputs"]
    return np.array(y["data"], dtype=np.float32).reshape(y["shape"])


async def test_the_served_accuracy_is_exactly_the_trained_one(bundle):
    data = load_file(EXAMPLE / "test_set.safetensors")
    right = 0
    async with served(bundle) as client:
        for first in range(0, len(data["x"]), 37):
            rows = slice(first, first + 37)
            scores = await ask(client, data["x"][rows], data["lengths"][rows])
            right += int((scores.argmax(1) == data["speaker"][rows]).sum())

    assert right == json.loads((EXAMPLE / "training.json").read_text())["test_correct"]


async def test_a_sequence_is_answered_with_the_same_bits_alone_and_among_others(bundle):
    data = load_file(EXAMPLE / "test_set.safetensors")
    async with served(bundle) as client:
        together = await ask(client, data["x"][:12], data["lengths"][:12])
        for row in range(12):
            count = int(data["lengths"][row])
            alone = await ask(client, data["x"][row : row + 1, :count], data["lengths"][row : row + 1])

            assert alone.tobytes() == together[row : row + 1].tobytes()
