"""The decision itself: who may ask what, from a request's head alone."""

import hashlib

import pytest

from cellgate.serve.errors import BodyTooLarge
from cellgate.serve.gate.admission import Admission, AdmissionRules, Admitted
from cellgate.serve.gate.api_keys import ApiKeys
from cellgate.serve.gate.open_paths import OPEN_PATHS
from cellgate.serve.head_errors import Forbidden, ForeignOrigin, MalformedRequest, Unauthorized, UnknownPath, WrongHost
from cellgate.serve.routes.docs_page import docs_routes

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
