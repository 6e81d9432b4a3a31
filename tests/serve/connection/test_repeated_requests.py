"""A head that was seen before: its request needs no parser, and is the same request."""

import json

import anyio
import pytest
from tests.both_loops import anyio_backend, the_loop_asked_for  # noqa: F401 - fixtures
from tests.serve.connection.hot_table import STATES, TABLE
from tests.serve.hot_wire import (
    HEAD,
    INFER,
    JSON,
    connect_fake,
    listen,
    raw,
    status_of,
    until,
)

from cellgate.serve.connection.guarded_protocol import GuardedProtocol

pytestmark = pytest.mark.long


@pytest.fixture
def parsed(monkeypatch):
    """Pieces that went to the parser."""
    found = []
    real = GuardedProtocol.data_received
    monkeypatch.setattr(GuardedProtocol, "data_received", lambda self, data: found.append(data) or real(self, data))
    return found


async def taken(protocol, transport, data):
    if not transport.closing:
        protocol.data_received(data)
    await anyio.wait_all_tasks_blocked()
    await until(lambda: transport.closing or not protocol._is_busy())  # a thread reads what is large


@pytest.mark.parametrize("name", TABLE)
async def test_repeated_request_gets_the_same_bytes_and_where_its_head_is_known_no_parser(
    served_models, make_fake, make_network, make_runtime_port, parsed, name
):
    data, _, is_hot = TABLE[name]
    is_known = is_hot and not name.startswith(("named", "close"))
    answers = []
    port = make_runtime_port({"steps": make_fake(make_network("steps"))})
    settings = {"max_body_bytes": 2048 if "too-long" in name else 2**20}
    async with listen([served_models["steps"]], port, **settings) as served:
        for _ in range(3):
            protocol, transport = connect_fake(served)
            for part in (data, data):
                await taken(protocol, transport, part)
            answers.append(transport.writes)

    assert answers[0] == answers[1] == answers[2]
    assert parsed.count(data) == (1 if is_known else len(parsed))


async def test_known_head_with_an_answer_for_the_other_route_is_parsed_after_all(
    served_models, make_fake, make_network, make_runtime_port, parsed, handed_over
):
    def asking_for(output):
        head = {**HEAD, "shape": [500, 10, 2], "parameters": {"binary_data_size": 40_000}}
        text = json.dumps({"inputs": [head], "outputs": [{"name": output}]}).encode().ljust(200)
        return raw(text + bytes(40_000), "Inference-Header-Content-Length: 200")

    port = make_runtime_port({"steps": make_fake(make_network("steps"))})
    async with listen([served_models["steps"]], port) as served:
        protocol, transport = connect_fake(served)
        for output in ("h_n", "y", "h_n"):
            protocol.data_received(asking_for(output))
            await until(lambda: not protocol._is_busy())

    assert parsed == [asking_for("h_n"), asking_for("y")]
    assert handed_over == [INFER.encode()]
    bodies = b"".join(transport.writes).split(b"HTTP/1.1 ")[1:]
    assert [(one[:3], b'"name":"y"' in one) for one in bodies] == [(b"200", False), (b"200", True), (b"200", False)]


async def test_line_ends_in_front_of_a_request_are_no_head(served_models, make_manual_port, parsed):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served:
        protocol, transport = connect_fake(served)
        protocol.data_received(b"\r\n\r\n" + raw(JSON))
        port.answer((await port.next_work())[0])
        protocol.data_received(b"\r\n\r\n" + JSON)  # were it taken for the head of the one before, this was a request

    assert (port.waiting, transport.closing) == ({}, True)
    assert [status_of(one) for one in transport.writes] == [200, 400]


async def test_known_head_is_admitted_as_the_client_that_sends_it(served_models, make_manual_port):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served:
        statuses = []
        for address in ("10.0.0.9", "10.0.0.9", "127.0.0.1"):
            protocol, transport = connect_fake(served)
            protocol.client = address, 7000
            protocol.data_received(raw(JSON).replace(b"Host: test", b"Host: of.others.example"))
            await anyio.wait_all_tasks_blocked()
            if port.waiting:
                port.answer((await port.next_work())[0])
            statuses.append(status_of(transport.writes[0]))

    assert statuses == [200, 200, 421]  # to this machine itself only local names


async def test_known_head_waits_behind_a_request_that_is_not_answered(served_models, make_manual_port):
    port = make_manual_port()
    async with listen([served_models["steps"]], port) as served:
        protocol, _transport = connect_fake(served)
        protocol.data_received(raw(JSON))
        port.answer((await port.next_work())[0])
        for one in (JSON, STATES):
            protocol.data_received(raw(one))
        found = []
        for _ in range(2):
            ticket, work = await port.next_work()
            found.append((work.outputs, len(port.waiting)))
            port.answer(ticket)
            await anyio.wait_all_tasks_blocked()

    assert found == [(("y",), 1), (("h_n", "y"), 1)]
