"""docs/http.md says what is: its curl lines work, its tables agree with the code."""

import json
import re
import shlex
from pathlib import Path

import httpx
import numpy as np
import pytest

from cellgate.serve import errors, head_errors, stream_errors
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.settings import Settings

from .listening import listening

PAGE = (Path(__file__).parents[2] / "docs/http.md").read_text()
COMMANDS = [shlex.split(block.replace("\\\n", " ")) for block in re.findall(r"```sh\n(curl.*?)```", PAGE, re.DOTALL)]


@pytest.fixture
async def client(connect, bundle_paths, open_served):
    """The page's network is the tests' own one that answers at every step."""
    async with connect(*open_served(BundlePlace(bundle_paths["steps"], "demo"))) as opened:
        yield opened


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: f"{len(' '.join(words))}-characters")
async def test_curl_lines_work_as_they_stand(client, words):
    path = words[2].removeprefix("http://127.0.0.1:8000")
    if len(words) == 3:
        response = await client.get(path)
    else:
        name, value = words[4].split(": ")
        response = await client.post(path, headers={name: value}, content=words[-1])

    assert words[:2] == ["curl", "-s"]
    assert response.status_code == 200, response.text


def test_there_are_curl_lines_to_try():
    assert len(COMMANDS) == 4


async def test_printed_error_is_the_real_one(client):
    printed = json.loads(re.search(r'```json\n(\{"error".*?)\n```', PAGE, re.DOTALL)[1])
    tensor = {"name": "x", "shape": [1, 2, 7], "datatype": "FP32", "data": [0] * 14}

    response = await client.post("/v2/models/demo/infer", json={"inputs": [tensor]})

    assert response.json() == printed


def test_table_of_errors_has_every_class_with_its_status():
    table = dict(re.findall(r"^\| (\d{3}) \| ([^|]+) \|", PAGE, re.MULTILINE))
    classes = [
        item
        for item in {**vars(errors), **vars(head_errors), **vars(stream_errors)}.values()
        if isinstance(item, type) and issubclass(item, errors.ServeError) and item.code != "start"
    ]

    assert len(classes) == 35
    for item in classes:
        assert f"`{item.code}`" in table[str(item.status)]


@pytest.mark.parametrize(
    "name",
    [
        "max_body_bytes",
        "max_batch_rows",
        "max_steps",
        "max_row_steps",
        "max_answer_elements",
        "max_waiting",
        "max_waiting_bytes",
        "workers",
        "max_lanes",
        "run_limit_s",
        "engine_hang_s",
        "trial_limit_s",
    ],
)
def test_numbers_in_the_tables_are_the_defaults(name):
    (text,) = re.findall(rf"^\| `{name}` \| ([^|]+) \|", PAGE, re.MULTILINE)
    number, _, unit = text.replace(",", "").strip().partition(" ")

    assert float(number) * (2**20 if unit == "MiB" else 1) == getattr(Settings(), name)


def test_hot_route_is_on_as_the_table_says():
    assert "| `hot_route` | true |" in PAGE
    assert Settings().hot_route


@pytest.fixture
def page():
    """The page's Python, all of it in its order."""
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "<http.md>", "exec"), names)
    return names


def test_binary_example_asks_a_server_that_listens(page, bundle_paths, open_served, make_network):
    network = make_network("steps")
    x = network.feeds(2, 3)["x"]
    zeros = {name: np.zeros((1, 2, 3), np.float32) for name in ("h0", "c0")}

    with listening(*open_served(BundlePlace(bundle_paths["steps"], "demo"))) as host, httpx.Client() as client:
        found = page["ask"](client, f"http://{host}/v2/models/demo/infer", x)

    np.testing.assert_allclose(found, network.compute({"x": x, **zeros})["y"], rtol=0, atol=1e-5)


def test_live_example_asks_a_server_that_listens(page, bundle_paths, open_served, make_request):
    requests = [make_request({"x": np.zeros((1, T, 2), np.float32)}, id=str(T)) for T in (1, 2)]

    with listening(*open_served(BundlePlace(bundle_paths["steps"], "demo"))) as host:
        found = page["live"](f"ws://{host}/v2/models/demo/stream", requests)

    assert [(answer["id"], answer["outputs"][0]["shape"]) for answer in found] == [("1", [1, 1, 4]), ("2", [1, 2, 4])]
