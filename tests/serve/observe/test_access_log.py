"""The access log's lines: one set of keys for all protocols, after the head that every line of the logs has."""

import json
import logging
import re
from pathlib import Path

import httpx
import pytest

import cellgate
from cellgate.serve.observe.access_log import access_logging, log_request
from cellgate.serve.observe.operation_log import operation_logging
from cellgate.serve.observe.request_watch import watch_requests

REQUEST = {
    "protocol": "grpc",
    "method": "ModelInfer",
    "path": "/inference.GRPCInferenceService/ModelInfer",
    "model": "steps",
    "status": 200,
    "answer_bytes": 7,
    "duration_s": 0.25,
    "grpc_status": "OK",
    "request_id": "client-7",
}


def written(capsys, write):
    with access_logging("frontend 1", enabled=True):
        write()
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_says_when_and_by_whom_as_the_operation_log_does(capsys):
    (line,) = written(capsys, lambda: log_request(**REQUEST))
    with operation_logging("json", "frontend 1"):
        logging.getLogger("cellgate.serve").warning("other")
    other = json.loads(capsys.readouterr().err)

    assert list(line)[:5] == list(other)[:5] == ["time", "level", "logger", "process", "pid"]
    assert (line["logger"], line["process"], line["pid"]) == ("cellgate.access", "frontend 1", other["pid"])
    assert {name: line[name] for name in list(line)[5:]} == REQUEST


def test_what_others_write_to_the_log_is_kept_as_a_message(capsys):
    (line,) = written(capsys, lambda: logging.getLogger("cellgate.access").info("a\x1bb"))

    assert line["message"] == "a\x1bb"


def test_a_program_s_own_logging_gets_the_line_as_text(caplog):
    caplog.set_level(logging.INFO, logger="cellgate.access")
    log_request(**REQUEST)

    assert json.loads(caplog.messages[0]) == REQUEST


def test_nothing_is_written_where_nobody_asked(capsys):
    with access_logging("frontend 0", enabled=False):
        log_request(**REQUEST)

    assert capsys.readouterr().err == ""


def test_long_words_of_clients_are_cut(caplog):
    caplog.set_level(logging.INFO, logger="cellgate.access")
    log_request(**{**REQUEST, "method": "M" * 100, "path": "p" * 1000})

    line = json.loads(caplog.messages[0])
    assert (len(line["method"]), len(line["path"])) == (32, 200)


async def test_the_line_names_the_model_that_was_asked_for(connect, post, make_request, make_network, caplog):
    caplog.set_level(logging.INFO, logger="cellgate.access")
    ask = make_request({"x": make_network("steps").feeds(1, 2)["x"]})
    async with connect(access_log=True) as client:
        await post(client, ask)
        await post(client, ask, "other")
        await client.get("/v2/models/steps")

    lines = [json.loads(text) for text in caplog.messages]
    assert [(line["model"], line["status"]) for line in lines] == [("steps", 200), ("", 404), ("", 200)]


async def test_another_spelling_of_a_path_is_logged_and_counted_as_it_came_and_for_no_model(connect, caplog):
    caplog.set_level(logging.INFO, logger="cellgate.access")
    spelling = "/v2/models/step%73/infer"
    async with connect(access_log=True) as client:
        refused = await client.post(httpx.URL("http://127.0.0.1", raw_path=f"{spelling}?a=b".encode()))
        metrics = (await client.get("/metrics")).text

    line = json.loads(caplog.messages[0])
    assert refused.status_code == 404
    assert (line["path"], line["model"], line["status"]) == (spelling, "", 404)
    counted = 'cellgate_requests_total{code="404",model="%s",protocol="http"} 1.0'
    assert counted % "" in metrics
    assert counted % "steps" not in metrics


async def test_where_nobody_wants_to_know_nothing_is_watched(connect):
    way = {"protocol": "grpc", "method": "ModelInfer", "path": "/", "headers": []}
    async with connect() as plain, connect(access_log=True) as logged:
        assert watch_requests(plain.app.state.serving, **way) is None
        assert watch_requests(logged.app.state.serving, **way) is not None


@pytest.mark.tree
def test_every_key_is_in_the_table_of_the_documentation():
    text = (Path(cellgate.__file__).parent / "docs" / "metrics.md").read_text()
    table = text.partition("\n## Logs\n")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE))

    head = {"time", "level", "logger", "process", "pid"}
    assert documented == head | set(REQUEST) | {"message", "traceback"}
