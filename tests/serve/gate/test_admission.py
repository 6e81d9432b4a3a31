"""The decision itself: who may ask what, from a request's head alone."""

import hashlib

import pytest

from cellgate.serve.errors import BodyTooLarge
from cellgate.serve.gate.admission import Admission, AdmissionRules, Admitted, admission_rules
from cellgate.serve.gate.admission_gate import AdmissionGate
from cellgate.serve.gate.api_keys import ApiKeys, keys_file_warnings, read_api_keys
from cellgate.serve.gate.authority import is_local_name, origin_authority, parse_authority
from cellgate.serve.gate.open_paths import OPEN_PATHS
from cellgate.serve.head_errors import Forbidden, ForeignOrigin, MalformedRequest, Unauthorized, UnknownPath, WrongHost
from cellgate.serve.routes.docs_page import docs_routes
from cellgate.serve.settings import Settings
from cellgate.serve.start_errors import KeysFileError

KEY = b"a-key-of-the-tests-0001"
KEYS = ApiKeys({"robot": hashlib.sha256(KEY).digest(), "phone": hashlib.sha256(b"another").digest()})
OPEN = frozenset(OPEN_PATHS["health"])
INFER = b"/v2/models/m/infer"


def admit(method="POST", path=INFER, peer="192.0.2.1", *, rules=None, **headers):
    given = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return Admission(rules or AdmissionRules()).admit(method, path, given, peer)


def test_without_keys_everything_is_admitted():
    assert admit(host=b"a") == Admitted()


@pytest.mark.parametrize("name", ["authorization", "x_api_key"])
def test_key_is_known_by_its_holder(name):
    value = b"Bearer " + KEY if name == "authorization" else KEY

    assert admit(rules=AdmissionRules(keys=KEYS), **{name: value}) == Admitted(client="robot")


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, Unauthorized),
        ({"authorization": b"Basic x"}, Unauthorized),
        ({"authorization": b"bearer "}, Unauthorized),
        ({"x_api_key": b"x"}, Forbidden),
        ({"x_api_key": KEY, "authorization": b"Bearer " + KEY}, Forbidden),
    ],
)
@pytest.mark.parametrize("path", [INFER, b"/", b"", b"*", b"/v2/health/live/", b"/metrics", b"/inference.GRPC/x"])
def test_everything_that_is_not_listed_needs_a_key_whether_there_is_such_a_path_or_not(headers, error, path):
    with pytest.raises(error):
        admit("GET", path, rules=AdmissionRules(keys=KEYS, open_paths=OPEN), **headers)


@pytest.mark.parametrize(("method", "path"), OPEN_PATHS["health"])
def test_open_paths_need_none_and_only_with_their_own_verb(method, path):
    rules = AdmissionRules(keys=KEYS, open_paths=OPEN)

    assert admit(method, path, rules=rules) == Admitted()
    with pytest.raises(Unauthorized):
        admit("PUT", path, rules=rules)


def test_open_paths_of_the_page_are_all_that_the_page_has():
    assert {path for _, path in OPEN_PATHS["docs"]} == {route.path.encode() for route in docs_routes(lambda: b"{}")}


@pytest.mark.parametrize(
    "host", [b"127.0.0.1", b"127.0.0.1:8000", b"[::1]:8000", b"localhost:1", b"a.localhost", b"pod_1"]
)
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "192.0.2.1", None])
def test_local_names_are_this_server_wherever_the_client_is(host, peer):
    assert admit(peer=peer, host=host) == Admitted()


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", [b"evil.example", b"EVIL.example:8000", b"127.0.0.1.evil.example", b"localhost.evil"])
def test_dns_rebinding_a_public_name_from_this_machine_is_refused(peer, host):
    with pytest.raises(WrongHost):
        admit("GET", b"/v2", peer, host=host)


def test_listed_host_is_this_server_and_then_no_other_public_name_is():
    rules = AdmissionRules(hosts=frozenset({"models.example"}))

    assert admit(peer="127.0.0.1", host=b"Models.Example.:80", rules=rules) == Admitted()
    with pytest.raises(WrongHost):
        admit(host=b"evil.models.example", rules=rules)


@pytest.mark.parametrize(
    "host", [b"", b"a/b?", b"a b", b"me@a", b"a:b", b"a:123456", b"[::1", b"\xff", b"a,b", b"-a", b"." * 9]
)
def test_host_that_is_none_is_malformed(host):
    with pytest.raises(MalformedRequest):
        admit(host=host)


@pytest.mark.parametrize("name", [b"host", b"origin", b"authorization", b"x-api-key", b"content-length"])
def test_header_that_decides_may_not_stand_twice(name):
    with pytest.raises(MalformedRequest, match="expected it once"):
        Admission(AdmissionRules()).admit("GET", b"/v2", [(name, b"1"), (name, b"1")], None)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "WEBSOCKET"])
@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (b"https://evil.example", b"127.0.0.1:8000"),
        (b"http://evil.example:8000", b"evil.example:8000"),  # rebinding: the same origin to the browser
        (b"null", b"127.0.0.1:8000"),
        (b"http://127.0.0.1:9000", b"127.0.0.1:8000"),
        (b"file://", b"127.0.0.1:8000"),
        (b"http://127.0.0.1:8000.evil.example", b"127.0.0.1:8000"),
        (b"", b"127.0.0.1"),
    ],
)
def test_foreign_page_is_refused_on_every_verb_that_does_something(method, origin, host):
    with pytest.raises(ForeignOrigin):
        admit(method, origin=origin, host=host)
    assert admit("GET", origin=origin, host=host) == Admitted()


@pytest.mark.parametrize(
    ("origin", "host"),
    [(b"http://127.0.0.1:8000", b"127.0.0.1:8000"), (b"https://[::1]", b"[::1]"), (b"http://pod:80", b"pod")],
)
def test_own_page_may_ask(origin, host):
    assert admit(origin=origin, host=host) == Admitted()


def test_own_page_under_a_public_name_may_ask_where_the_name_is_listed():
    rules = AdmissionRules(hosts=frozenset({"models.example"}))

    assert admit(origin=b"https://models.example", host=b"models.example", rules=rules) == Admitted()


def test_listed_origin_may_ask_and_its_preflight_needs_no_key():
    rules = AdmissionRules(keys=KEYS, origins=frozenset({"https://page.example"}))
    page = {"origin": b"https://page.example", "host": b"a"}

    assert admit(x_api_key=KEY, rules=rules, **page) == Admitted("robot", b"https://page.example")
    assert admit("OPTIONS", access_control_request_method=b"POST", rules=rules, **page).is_preflight
    with pytest.raises(Unauthorized):
        admit("OPTIONS", rules=rules, **page)
    with pytest.raises(Unauthorized):
        admit(rules=rules, **page)
    with pytest.raises(ForeignOrigin):
        admit("OPTIONS", access_control_request_method=b"POST", rules=rules, origin=b"https://other.example", host=b"a")


@pytest.mark.parametrize(
    "path",
    [
        b"//v2",
        b"/v2//models",
        b"/v2/./models",
        b"/v2/..",
        b"/.",
        b"/v2%2fmodels",
        b"/v2%2Fmodels",
        b"/%76%32",
        b"/v2\\x",
        b"/%5cv2",
        b"/%2e%2e/v2",
    ],
)
def test_other_spelling_of_a_path_is_unknown(path):
    with pytest.raises(UnknownPath):
        admit("GET", path)


@pytest.mark.parametrize(
    "path", [b"/v2/", b"/v2/models/a.b-c_d~e", b"/v2/models/%24%28id%29;%0a", b"/.well-known/x", b"/a../b"]
)
def test_what_has_only_one_spelling_goes_on(path):
    assert admit("GET", path) == Admitted()


@pytest.mark.parametrize(
    ("length", "is_good"), [(b"100", True), (b"0000100", True), (b"101", False), (b"9" * 400, False), (b"-1000", True)]
)
def test_declared_length_is_limited_before_anything_is_read(length, is_good):
    rules = AdmissionRules(max_body_bytes=100)
    if is_good:  # what is no number is refused by whoever reads the body
        assert admit(content_length=length, rules=rules) == Admitted()
    else:
        with pytest.raises(BodyTooLarge):
            admit(content_length=length, rules=rules)


def test_grpc_asks_by_the_full_name_of_its_method():
    rules = AdmissionRules(keys=KEYS, open_paths=OPEN)
    infer = b"/inference.GRPCInferenceService/ModelInfer"

    assert admit("POST", b"/inference.GRPCInferenceService/ServerLive", rules=rules) == Admitted()
    assert admit("POST", infer, rules=rules, x_api_key=KEY).client == "robot"
    for path in (infer, b"inference.GRPCInferenceService/ServerLive", b"/ServerLive"):  # CVE-2026-33186
        with pytest.raises(Unauthorized):
            admit("POST", path, rules=rules)


@pytest.mark.parametrize("text", ["a", "a:1", "[::1]:80", "A.b.", "1.2.3.4"])
def test_authority_is_read(text):
    assert parse_authority(text) is not None


def test_names_are_told_apart():
    assert origin_authority("https://a.b:443") == ("a.b", "")
    assert origin_authority("http://a.b:443") == ("a.b", "443")
    assert origin_authority("null") is None
    assert [is_local_name(name) for name in ("::1", "1.2.3.4", "1.2.3", "a", "a.b", "a.localhost", "localhost.a")] == [
        True,
        True,
        False,
        True,
        False,
        True,
        False,
    ]


def write(tmp_path, text, mode=0o600):
    path = tmp_path / "keys"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return str(path)


def test_file_of_keys_has_names_comments_and_digests(tmp_path):
    digest = hashlib.sha256(b"the-second-of-two-keys").hexdigest()
    keys = read_api_keys(write(tmp_path, f"# mine\n\n one:the-first-of-two-keys \ntwo:sha256:{digest.upper()}\r\n"))

    assert len(keys) == 2
    assert keys.holder_of(b"the-first-of-two-keys") == "one"
    assert keys.holder_of(b"the-second-of-two-keys") == "two"
    assert keys.holder_of(digest.encode()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected 1 \.\. 1024 keys, found 0"),
        ("# nobody\n", "found 0"),
        ("a-key-without-a-name-before-it", "line 1 without such a name"),
        ("one:short", "something else in line 1"),
        ("one:" + "x" * 513, "something else in line 1"),
        ("one:with a space in the key", "something else in line 1"),
        ("one:sha256:abc", "something else in line 1"),
        (
            "one:the-first-of-two-keys\none:the-second-of-two-keys",
            "expected every name once, found one again in line 2",
        ),
        (b"one:\xc3\xa4" + b"x" * 20, "expected ASCII text, found another byte at position 4"),
        (b"#" * (2**20 + 1), "expected at most 1048576 bytes, found more"),
        ("\n".join(f"n{number}:{'x' * 20}" for number in range(1025)), "found 1025"),
    ],
)
def test_file_that_holds_something_else_is_refused_without_showing_it(tmp_path, text, message):
    with pytest.raises(KeysFileError, match=message) as caught:
        read_api_keys(write(tmp_path, text))

    assert "short" not in str(caught.value)
    assert "x" * 16 not in str(caught.value)


def test_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(KeysFileError, match="expected a readable file, found no such file or directory"):
        read_api_keys(str(tmp_path / "none"))
    with pytest.raises(KeysFileError):
        admission_rules(Settings(api_keys_file=str(tmp_path)))


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1)])
def test_permissions_that_let_others_read_are_warned_about(tmp_path, mode, warnings):
    found = keys_file_warnings(write(tmp_path, "one:the-first-of-two-keys", mode))

    assert len(found) == warnings


async def test_page_of_a_listed_origin_is_told_that_it_may_read(connect):
    async with connect(cors_origins="https://page.example") as client:
        page = {"Origin": "https://page.example"}
        answer = await client.get("/v2", headers=page)
        preflight = await client.options(
            "/v2/models/steps/infer", headers={**page, "Access-Control-Request-Method": "POST"}
        )
        other = await client.get("/v2", headers={"Origin": "https://other.example"})
        refused = await client.options(
            "/v2", headers={"Origin": "https://other.example", "Access-Control-Request-Method": "GET"}
        )

    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert answer.headers["vary"].lower() == "origin"
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == "https://page.example"
    assert "x-api-key" in preflight.headers["access-control-allow-headers"]
    assert preflight.headers["access-control-allow-methods"] == "DELETE, GET, POST, PUT"  # every verb of the routes
    assert "access-control-allow-credentials" not in preflight.headers
    assert other.status_code == 200
    assert "access-control-allow-origin" not in other.headers
    assert (refused.status_code, refused.json()["code"]) == (403, "foreign_origin")


async def test_page_of_a_listed_origin_may_read_why_it_was_refused(connect, tmp_path):
    async with connect(
        cors_origins="https://page.example", api_keys_file=write(tmp_path, "one:the-first-of-two-keys")
    ) as client:
        refused, other = [
            await client.get("/v2", headers={"Origin": origin})
            for origin in ("https://page.example", "https://other.example")
        ]

    assert (refused.status_code, other.status_code) == (401, 401)
    assert refused.headers["access-control-allow-origin"] == "https://page.example"
    assert refused.headers["vary"].lower() == "origin"
    assert "access-control-allow-origin" not in other.headers


async def test_document_tells_the_page_to_ask_for_a_key(connect, tmp_path):
    path = write(tmp_path, "one:the-first-of-two-keys")
    async with connect(api_keys_file=path, open_paths="docs") as client:
        document = (await client.get("/openapi.json")).json()
        page = await client.get("/docs")
        health = await client.get("/v2/health/live")

    assert set(document["components"]["securitySchemes"]) == {"bearer", "header"}
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers.get_list("x-content-type-options") == ["nosniff"]
    assert health.status_code == 401


class State:
    def __init__(self, rules):
        self.admission = Admission(rules)


@pytest.mark.parametrize("rules", [AdmissionRules(), AdmissionRules(keys=KEYS)])
async def test_websocket_is_admitted_like_everything_else(rules):
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(scope["type"])

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/v2/stream", "headers": [(b"host", b"a")], "client": ("192.0.2.1", 1)}
    await AdmissionGate(app, State(rules))(scope, None, send)
    await AdmissionGate(app, State(rules))({**scope, "headers": [(b"origin", b"http://evil.example")]}, None, send)

    assert reached == ([] if rules.keys else ["websocket"])
    statuses = [message["status"] for message in sent if message["type"] == "websocket.http.response.start"]
    assert statuses == ([401, 403] if rules.keys else [403])
    assert {message["type"] for message in sent} == {"websocket.http.response.start", "websocket.http.response.body"}
