"""docs/streams.md says what is: its curl lines work one after the other, and its answer is the real one."""

import argparse
import json
import re
import shlex
from pathlib import Path

from .test_streams_http import listen

PAGE = (Path(__file__).parents[2] / "docs/streams.md").read_text()
LINES = re.split(r"^(?=curl )", "".join(re.findall(r"```sh\n(curl.*?)```", PAGE, re.DOTALL)), flags=re.MULTILINE)[1:]
CURL = argparse.ArgumentParser()
CURL.add_argument("url")
for flag in ("-s", "-X", "-H", "-d", "-o", "--data-binary"):
    CURL.add_argument(flag, **({"action": "store_true"} if flag == "-s" else {}))


async def run(client, line, files):
    """Do what curl does, its default Content-Type included, with a folder of its own."""
    words = CURL.parse_args(shlex.split(line)[1:])
    content = files[words.data_binary.removeprefix("@")] if words.data_binary else words.d
    headers = dict([words.H.split(": ")] if words.H else [])
    if content is not None:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    path = re.sub(r"http://[\d.:]+", "", words.url).replace("/demo/", "/steps/")
    verb = words.X or ("GET" if content is None else "POST")
    answer = await client.request(verb, path, headers=headers, content=content)
    if words.o:
        files[words.o] = answer.content
    return answer


async def test_curl_lines_work_one_after_the_other_and_a_stream_moves(engine_models):
    files: dict[str, bytes] = {}
    async with listen(engine_models) as first, listen(engine_models) as second:
        answers = [await run(second if ":9000" in line else first, line, files) for line in LINES]
        replayed = await run(second, LINES[1], files)

    assert [answer.status_code for answer in answers] == [200] * 5
    printed = json.loads(re.search(r'```json\n(\{"model_name".*?)\n```', PAGE, re.DOTALL)[1])
    assert replayed.json()["parameters"] == printed["parameters"]
    assert replayed.json()["outputs"][0]["shape"] == printed["outputs"][0]["shape"]
