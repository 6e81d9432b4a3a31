"""docs/http.md says what is: its curl lines work, its tables agree with the code."""

import json
import re
import shlex
from pathlib import Path

import pytest

from cellgate.serve import errors
from cellgate.serve.served_model import BundlePlace, open_models
from cellgate.serve.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs/http.md").read_text()
COMMANDS = [shlex.split(block.replace("\\\n", " ")) for block in re.findall(r"```sh\n(curl.*?)```", PAGE, re.DOTALL)]


@pytest.fixture
async def client(connect, bundle_paths):
    """The page's network is the tests' own one that answers at every step."""
    options = Settings(device="cpu", threads=1)
    async with connect(open_models([BundlePlace(bundle_paths["steps"], "demo")], options)) as opened:
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
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, errors.ServeError) and item.code != "start"
    ]

    assert len(classes) == 8
    for item in classes:
        assert f"`{item.code}`" in table[str(item.status)]


@pytest.mark.parametrize(
    "name", ["max_body_bytes", "max_batch_rows", "max_steps", "max_row_steps", "max_answer_elements", "max_waiting"]
)
def test_limits_in_the_table_are_the_defaults(name):
    (text,) = re.findall(rf"^\| `{name}` \| ([^|]+) \|", PAGE, re.MULTILINE)
    number, _, unit = text.replace(",", "").strip().partition(" ")

    assert int(number) * (2**20 if unit == "MiB" else 1) == getattr(Settings(), name)
