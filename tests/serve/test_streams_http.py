"""Streams over HTTP: the hot route and the route that it stands for give the same bytes, in the words of the docs."""

import asyncio
import json
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
import uvicorn
from uvicorn.server import ServerState

from cellgate.serve.app import create_app
from cellgate.serve.connection.hot_surface import http_protocol
from cellgate.serve.engine.engine import Engine
from cellgate.serve.engine.engine_limits import EngineLimits
from cellgate.serve.engine.threaded import ThreadedEngine
from cellgate.serve.settings import Settings
from cellgate.serve.streams.limits import StreamLimits
from cellgate.serve.streams.sqlite_store import SqliteStore
from cellgate.serve.streams.store_choice import open_store
from cellgate.serve.streams.streaming_engine import StreamingEngine

I = 2


@asynccontextmanager
async def listen(engine_models, store=None, **changes):
    """Serve streams on a free port of this event loop; yield a client of it."""
    settings = Settings(device="cpu", threads=1, **changes)
    store = store or open_store(settings)
    streaming = StreamingEngine(Engine(engine_models, EngineLimits.of(settings)), store, StreamLimits.of(settings))
    engine = ThreadedEngine(streaming, streaming.order)
    streaming.waker = engine.wake
    loop = asyncio.get_running_loop()
    engine.start(loop)
    app = create_app([model.served for model in engine_models], settings, engine)
    config = uvicorn.Config(app, http=http_protocol(app, settings), ws="none", log_config=None)
    config.load()
    state = ServerState()

    def make():
        return config.http_protocol_class(config=config, server_state=state, app_state={}, _loop=loop)

    async with app.router.lifespan_context(app):
        server = await loop.create_server(make, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                yield client
        finally:
            server.close()
            for connection in list(state.connections):
                connection.transport.abort()
            engine.close()


def body_of(x, outputs=None, **parameters):
    tensor = {"name": "x", "shape": x.shape, "datatype": "FP32", "data": x.reshape(-1).tolist()}
    request = {"inputs": [tensor], "parameters": parameters}
    if outputs:
        request["outputs"] = [{"name": name} for name in outputs]
    return json.dumps(request).encode()


def binary_of(x, **parameters):
    tensor = {"name": "x", "shape": x.shape, "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True, **parameters}}).encode()
    return head + x.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


async def ask(client, content, headers=None, name="steps"):
    return await client.post(f"/v2/models/{name}/infer", content=content, headers=headers or {})


@pytest.fixture
def x():
    return np.random.default_rng(3).normal(size=(1, 12, I)).astype(np.float32)


def conversation(x):
    """Everything that a stream can be answered with, in order."""
    start, go_on = {"sequence_id": 7, "sequence_start": True, "sequence_step": 0}, {"sequence_id": 7}
    yield body_of(x[:, :3], **start), {}
    yield body_of(x[:, :3], **start), {}
    yield body_of(x[:, 3:5], ["h_n", "y"], **go_on, sequence_step=1), {}
    yield binary_of(x[:, 5:6], **go_on, sequence_step=2)
    yield binary_of(x[:, 5:6], **go_on, sequence_step=2)
    yield body_of(x[:, 6:7], **go_on, sequence_step=2), {}
    yield body_of(x[:, 6:7], **go_on, sequence_step=9), {}
    yield body_of(x[:, 6:7], **start), {}
    yield body_of(x[:, 6:7], **go_on), {}
    yield body_of(np.concatenate([x, x])[:, 6:7], **go_on), {}
    yield body_of(x[:, 7:], **go_on, sequence_step=4, sequence_end=True), {}
    yield body_of(x[:, 7:], **go_on, sequence_step=4, sequence_end=True), {}
    yield body_of(x[:, 7:], **go_on, sequence_step=5), {}
    yield body_of(x[:, 7:], sequence_id="7"), {}
    yield body_of(x[:, 7:], sequence_start=True), {}
    yield body_of(x, sequence_id="ä\n", sequence_start=True, sequence_end=True), {}


STATUSES = [200, 200, 200, 200, 200, 422, 409, 409, 200, 400, 200, 200, 410, 404, 400, 200]


async def test_both_routes_answer_a_stream_with_the_same_bytes(engine_models, x):
    found = []
    for hot_route in (True, False):
        async with listen(engine_models, hot_route=hot_route) as client:
            answers = [await ask(client, *asked) for asked in conversation(x)]
        found.append([(answer.status_code, answer.content) for answer in answers])

    assert [status for status, _ in found[0]] == STATUSES
    assert found[0] == found[1]


async def test_an_answer_says_its_stream_its_step_and_whether_it_is_replayed(engine_models, x):
    async with listen(engine_models) as client:
        answers = [await ask(client, *asked) for asked in conversation(x)]
    heads = [
        json.loads(answer.content[: int(answer.headers.get("inference-header-content-length", len(answer.content)))])
        for answer in answers
    ]

    assert [head.get("parameters") for head in heads[:5]] == [
        {"sequence_id": 7, "sequence_step": 0},
        {"sequence_id": 7, "sequence_step": 0, "replayed": True},
        {"sequence_id": 7, "sequence_step": 1},
        {"sequence_id": 7, "sequence_step": 2},
        {"sequence_id": 7, "sequence_step": 2, "replayed": True},
    ]
    assert heads[8]["parameters"] == {"sequence_id": 7}
    assert heads[15]["parameters"] == {"sequence_id": "ä\n"}
    assert [head.get("code") for head in heads[5:8]] == ["step_conflict", "step_gap", "stream_exists"]
    assert [head.get("expected_step") for head in heads[5:8]] == [3, 3, 3]
    assert heads[12]["code"] == "stream_ended"
    assert heads[13]["code"] == "unknown_stream"


async def test_chunks_over_http_are_the_whole(engine_models, make_network, x):
    ys = []
    async with listen(engine_models) as client:
        for place in range(4):
            flags = {"sequence_start": place == 0, "sequence_end": place == 3}
            content, headers = binary_of(x[:, 3 * place : 3 * place + 3], sequence_id=2**64 - 1, **flags)
            answer = await ask(client, content, headers)
            ys.append(np.frombuffer(answer.content[int(answer.headers["inference-header-content-length"]) :], "<f4"))
        whole = await ask(client, *binary_of(x))
    y = np.frombuffer(whole.content[int(whole.headers["inference-header-content-length"]) :], "<f4")

    assert np.concatenate(ys).tobytes() == y.tobytes()
    feeds = {"x": x, "h0": np.zeros((1, 1, 3), np.float32), "c0": np.zeros((1, 1, 3), np.float32)}
    assert np.abs(y - make_network("steps").compute(feeds)["y"].reshape(-1)).max() <= 1e-5


async def test_metadata_says_where_streams_are_kept_and_no_more(engine_models, tmp_path):
    for store, words in (("memory", ("memory", "false")), (f"sqlite:{tmp_path}/secret", ("sqlite", "true"))):
        async with listen(engine_models, stream_store=store) as client:
            metadata = (await client.get("/v2/models/steps")).json()
            assert (metadata["properties"]["stream_store"], metadata["properties"]["streams_durable"]) == words
            assert "secret" not in json.dumps(metadata)
            assert {"sequence", "sequence(string_id)"} <= set((await client.get("/v2")).json()["extensions"])


async def test_streams_on_a_durable_store_answer_alike(engine_models, x, tmp_path):
    found = []
    for store in ("memory", f"sqlite:{tmp_path}/s"):
        async with listen(engine_models, stream_store=store) as client:
            answers = [await ask(client, *asked) for asked in conversation(x)]
        found.append([(answer.status_code, answer.content) for answer in answers])

    assert found[0] == found[1]


async def test_a_store_that_is_gone_is_503_with_retry_after_and_whole_sequences_go_on(engine_models, x, tmp_path):
    store = SqliteStore(tmp_path / "s", 9)
    async with listen(engine_models, store) as client:
        assert (await ask(client, body_of(x, sequence_id=1, sequence_start=True))).status_code == 200
        store.close()
        answer = await ask(client, body_of(x, sequence_id=2, sequence_start=True))

        assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
        assert answer.headers["retry-after"] == "1"
        assert (await ask(client, body_of(x))).status_code == 200


async def test_a_stream_is_shown_forked_moved_and_closed(engine_models, x):
    path = "/v2/models/steps/streams"
    async with listen(engine_models) as client, listen(engine_models) as other:
        for place in range(2):
            content = body_of(x[:, 3 * place : 3 * place + 3], sequence_id=7, sequence_start=not place)
            assert (await ask(client, content)).status_code == 200
        shown = (await client.get(f"{path}/7")).json()
        assert (shown["sequence_id"], shown["sequence_step"], shown["ended"]) == (7, 1, None)
        assert (await client.get(f"{path}/n:7")).status_code == 200
        assert (await client.get(f"{path}/s:7")).json()["code"] == "unknown_stream"

        forked = await client.post(f"{path}/7/fork", content=b'{"to": "other"}')
        assert (forked.status_code, forked.json()["sequence_id"], forked.json()["sequence_step"]) == (200, "other", 1)
        again = await client.post(f"{path}/7/fork", content=b'{"to": "other"}')
        assert (again.status_code, again.json()["expected_step"]) == (409, 2)

        state = await client.get(f"{path}/7/state")
        assert state.headers["content-type"] == "application/octet-stream"
        assert (await other.put(f"{path}/7/state", content=state.content)).status_code == 200
        rest = [(await ask(one, body_of(x[:, 6:], sequence_id=7))).content for one in (client, other)]
        fork = await ask(client, body_of(x[:, 6:], sequence_id="other"))
        whole = (await ask(client, body_of(x))).json()["outputs"][0]["data"]
        assert rest[0] == rest[1]
        for answer in (json.loads(rest[0]), fork.json()):
            assert answer["outputs"][0]["data"] == whole[-6 * 4 :]

        assert (await client.delete(f"{path}/other")).json()["ended"] == "closed"
        assert (await ask(client, body_of(x, sequence_id="other"))).json()["code"] == "stream_ended"
        assert (await client.get(f"{path}/other/state")).status_code == 410


@pytest.mark.parametrize(
    ("method", "rest", "content", "status", "words"),
    [
        ("GET", "steps/streams/8", None, 404, "found none of 8"),
        ("GET", "none/streams/8", None, 404, "expected one of"),
        ("GET", "steps/streams/n:x", None, 400, "expected n: and a number"),
        ("GET", "steps/streams/s:", None, 400, "expected an id"),
        ("GET", f"steps/streams/{'a' * 257}", None, 400, "text of at most 256 bytes"),
        ("GET", f"steps/streams/n:{'9' * 20}", None, 400, "sequence_id: expected an integer"),
        ("GET", f"steps/streams/{'9' * 6000}", None, 400, "text of at most 256 bytes"),
        ("GET", "steps/streams/%ff", None, 400, "stream: expected an id in UTF-8"),
        ("DELETE", "steps/streams/a%c3", None, 400, "stream: expected an id in UTF-8"),
        ("GET", "steps/streams/%ef%bf%bd", None, 404, "found none of '\ufffd'"),
        ("GET", "steps/streams/s:%c3%a4", None, 404, "found none of 'ä'"),
        ("POST", "steps/streams/8/fork", b"{", 400, "expected a JSON object"),
        ("POST", "steps/streams/8/fork", b'{"to": 0}', 400, "expected the id of a stream"),
        ("POST", "steps/streams/8/fork", b'{"from": 1}', 400, "expected only the fields to"),
        ("POST", "steps/streams/8/fork", b'{"to": 7, "to": 9}', 400, "expected every field of an object once"),
        ("POST", "steps/streams/8/fork", b'{"to": "a:\\":b"}', 404, "found none of 8"),
        ("POST", "steps/streams/8/fork", b'{"to": {"a": 1}}', 400, "sequence_id: expected"),
        ("POST", "steps/streams/8/fork", b'{"to": 9}', 404, "found none of 8"),
        ("PUT", "steps/streams/8/state", b"no state", 400, "expected the state of a stream"),
        ("PUT", "steps/streams/8/state", b"\0" * 2000, 413, "at most 1024 bytes"),
        ("PATCH", "steps/streams/8", b"", 405, "expected the method"),
    ],
)
async def test_what_is_no_order_is_refused_in_a_sentence(engine_models, method, rest, content, status, words):
    async with listen(engine_models, max_body_bytes=1024) as client:
        answer = await client.request(method, f"/v2/models/{rest}", content=content)

        assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text


async def test_an_engine_without_streams_says_so(connect):
    async with connect() as client:
        answer = await client.get("/v2/models/steps/streams/8")

    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "streams: expected a server with them, found none; send whole sequences",
    )


async def carry_on(client, chunk, state, **more):
    answer = await ask(client, *binary_of(chunk, sequence_state=state, **more))
    head = json.loads(answer.content[: int(answer.headers["inference-header-content-length"])])
    return head["parameters"], answer.content[int(answer.headers["inference-header-content-length"]) :]


@pytest.mark.parametrize("hot_route", [True, False])
async def test_a_carried_state_goes_on_at_any_server_with_the_key(engine_models, x, tmp_path, hot_route):
    (tmp_path / "keys").write_text("k" * 32)
    settings = {"state_keys_path": str(tmp_path / "keys"), "hot_route": hot_route}
    async with listen(engine_models, **settings) as one, listen(engine_models, **settings) as other:
        state, ys = "", []
        for place in range(4):
            client = (one, other)[place % 2]
            told, y = await carry_on(client, x[:, 3 * place : 3 * place + 3], state)
            assert told["sequence_step"] == place
            state = told["sequence_state"]
            ys.append(y)
        whole = await ask(one, *binary_of(x))
        assert b"".join(ys) == whole.content[int(whole.headers["inference-header-content-length"]) :]

        rest = body_of(x[:, :3], ["c_n", "y"], sequence_state=state)
        forks = [await ask(client, rest) for client in (one, other)]
        assert forks[0].json()["outputs"] == forks[1].json()["outputs"]
        assert [output["name"] for output in forks[0].json()["outputs"]] == ["c_n", "y"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"sequence_state": 5}, "sequence_state: expected text"),
        ({"sequence_state": "", "sequence_id": 7}, "expected either sequence_id or sequence_state"),
        ({"sequence_state": "", "sequence_start": True}, "expected it, beside a flag"),
        ({"sequence_state": "x"}, "sequence_state: expected base64"),
        ({"sequence_state": "A" * 400}, "or one with its key, gave, found another"),
    ],
)
async def test_what_is_no_state_is_refused_by_a_server_with_keys(engine_models, x, tmp_path, parameters, words):
    (tmp_path / "keys").write_text("k" * 32)
    async with listen(engine_models, state_keys_path=str(tmp_path / "keys")) as client:
        answer = await ask(client, body_of(x, **parameters))

        assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text


async def test_states_beside_a_carried_one_and_servers_without_keys_are_refused(engine_models, x, tmp_path):
    (tmp_path / "keys").write_text("k" * 32)
    h0 = {"name": "h0", "shape": [1, 1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    async with listen(engine_models, state_keys_path=str(tmp_path / "keys")) as client:
        begun = json.loads(body_of(x, sequence_state=""))
        begun["inputs"].append(h0)
        answer = await ask(client, json.dumps(begun))
        begun["parameters"]["sequence_state"] = answer.json()["parameters"]["sequence_state"]
        refused = await ask(client, json.dumps(begun))
        assert "inputs.h0: expected it beside an empty sequence_state only" in refused.json()["error"]
    async with listen(engine_models) as client:
        answer = await ask(client, body_of(x, sequence_state=""))
        assert "expected a server with --state-keys-path, found one without" in answer.json()["error"]
