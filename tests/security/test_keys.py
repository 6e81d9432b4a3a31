"""CVE-2026-24206, -24207, -47481 and CVE-2023-48022: no route, verb or spelling answers without a key."""

import json
import os
import signal

import pytest
from tests.security.conftest import BODY, KEY, OTHER_KEY, check_error, request, serving

pytestmark = pytest.mark.slow

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
PATHS = (
    "/v2",
    "/v2/",
    "/v2/models",
    "/v2/models/steps",
    "/v2/models/steps/versions/3",
    "/v2/models/steps/ready",
    "/v2/models/steps/infer",
    "/v2/models/steps/versions/3/infer",
    "/docs",
    "/docs/start.js",
    "/openapi.json",
    "/metrics",
    "/v2/repository/index",
    "/v2/repository/models/steps/load",
    "/no/such/path",
)
OPEN = ("/v2/health/live", "/v2/health/ready")


def spellings(path):
    """The path itself, then others that some reader would take for it."""
    first, _, rest = path[1:].partition("/")
    yield path
    yield "/" + path
    yield path.replace("/", "//")
    yield path + "/"
    yield path + "//"
    yield path.upper()
    yield path + ";a=b"
    yield f"/{first};a=b/{rest}"
    yield path.replace("/", "%2f")
    yield "/" + path[1:].replace("/", "%2F")
    yield path.replace("s", "%73")
    yield path.replace("v2", "%762")
    yield "/." + path
    yield "/x/.." + path
    yield "/x/%2e%2e" + path
    yield path + "/."
    yield path + "?a=b"
    yield path + "#a"
    yield path + "%00"
    yield path + "%20"
    yield path.replace("/", "\\")
    yield "/v2/health/live/.." + path
    yield "/v2/health/live" + path
    yield "http://127.0.0.1" + path


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_answers_without_a_key_in_any_spelling(locked, verb):
    asked = 0
    for path in PATHS:
        for spelling in spellings(path):
            found = locked.send(request(verb, spelling, body=BODY if verb == "POST" else b""))
            status = int(found.split(b" ", 2)[1])
            assert status in (400, 401), (verb, spelling, found)
            assert b"steps" not in found.partition(b"\r\n\r\n")[2] or status == 400
            asked += 1
    assert asked == len(PATHS) * 24


@pytest.mark.parametrize("verb", VERBS)
def test_open_paths_are_open_for_get_and_head_in_one_spelling_only(locked, verb):
    for path in OPEN:
        for spelling in spellings(path):
            found = locked.send(request(verb, spelling))
            is_same = spelling in (path, path + "?a=b", path + "#a", "http://127.0.0.1" + path)
            expected = (200,) if verb in ("GET", "HEAD") and is_same else (400, 401)
            assert int(found.split(b" ", 2)[1]) in expected, (verb, spelling, found)
            assert verb != "HEAD" or expected != (200,) or found.endswith(b"\r\n\r\n")


def test_with_a_key_only_the_one_spelling_leads_there(locked):
    for path in ("/v2/models/steps/infer", "/v2/models/steps/versions/3/infer"):
        statuses = {}
        for spelling in spellings(path):
            found = locked.send(request("POST", spelling, f"X-API-Key: {KEY}", body=BODY))
            statuses[spelling] = int(found.split(b" ", 2)[1])
        good = {spelling for spelling, status in statuses.items() if status == 200}
        assert good == {path, path + "?a=b", path + "#a", "http://127.0.0.1" + path}
        assert {statuses[spelling] for spelling in statuses.keys() - good} <= {400, 404}


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        ((), 401, "unauthorized"),
        (("Authorization: Basic cm9ib3Q6eA==",), 401, "unauthorized"),
        (("Authorization: Bearer",), 401, "unauthorized"),
        (("Authorization: Bearer ",), 401, "unauthorized"),
        (("X-API-Key:",), 401, "unauthorized"),
        (("Cookie: key=" + KEY,), 401, "unauthorized"),
        (("Authorization: Bearer " + KEY[:-1],), 403, "forbidden"),
        (("Authorization: Bearer " + KEY + "x",), 403, "forbidden"),
        (("Authorization: Bearer " + KEY.upper(),), 403, "forbidden"),
        (("X-API-Key: robot:" + KEY,), 403, "forbidden"),
        (("X-API-Key: " + "x" * 3000,), 403, "forbidden"),
        (("X-API-Key: " + KEY, "Authorization: Bearer " + KEY), 403, "forbidden"),
        (("X-API-Key: " + KEY, "X-API-Key: " + KEY), 400, "malformed_request"),
        (("Authorization: Bearer " + KEY, "Authorization: Basic eA=="), 400, "malformed_request"),
    ],
)
def test_what_is_no_key_is_refused_alike_on_every_path(locked, lines, status, code):
    for verb, path in (("POST", "/v2/models/steps/infer"), ("GET", "/v2/models"), ("GET", "/no/such/path")):
        found = locked.ask(request(verb, path, *lines, body=BODY if verb == "POST" else b""))
        assert check_error(found, status) == code
        assert ("www-authenticate" in found[1]) is (status == 401)


@pytest.mark.parametrize(
    "line", [f"Authorization: Bearer {KEY}", f"authorization: bearer {OTHER_KEY}", f"X-API-KEY: {OTHER_KEY}"]
)
def test_a_known_key_opens_in_either_header(locked, line):
    status, _, body = locked.ask(request("POST", "/v2/models/steps/infer", line, body=BODY))

    assert status == 200
    assert json.loads(body)["model_name"] == "steps"


def test_keys_are_in_no_line_of_any_output(locked):
    locked.ask(request("GET", "/v2", "X-API-Key: " + KEY[:-1]))

    for text in (*locked.lines, locked.logged()):
        assert KEY not in text
        assert KEY[:-1] not in text
    assert any('"Authorization: Bearer $KEY"' in line for line in locked.lines)


def until(condition):
    while not condition():
        os.sched_yield()


def test_keys_are_exchanged_at_sighup_and_a_broken_file_changes_nothing(tmp_path, security_bundle):
    keys = tmp_path / "keys"
    keys.write_text(f"robot:{KEY}\n")
    keys.chmod(0o644)

    def status_with(server, key):
        return server.ask(request("GET", "/v2", f"X-API-Key: {key}"))[0]

    with serving(tmp_path / "run", security_bundle, "--api-keys-file", str(keys), "--workers", "2") as server:
        assert server.lines[0].startswith("warning: api_keys_file ")
        assert "others on this machine may open it (mode 644)" in server.lines[0]
        assert (status_with(server, KEY), status_with(server, OTHER_KEY)) == (200, 403)
        keys.write_text(f"phone:{OTHER_KEY}\n")
        server.process.send_signal(signal.SIGHUP)
        names = ("frontend 0", "frontend 1", "gRPC frontend")
        until(lambda: all(f"{name}: the keys were read again\n" in server.logged() for name in names))
        assert [status_with(server, KEY) for _ in range(8)] == [403] * 8
        assert [status_with(server, OTHER_KEY) for _ in range(8)] == [200] * 8
        keys.write_text("nobody\n")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.logged().count("the keys are as before") == 3)
        assert [status_with(server, OTHER_KEY) for _ in range(8)] == [200] * 8
        assert "line 1" in server.logged()
        assert "nobody" not in server.logged()


def test_a_frontend_that_starts_at_a_sighup_reads_the_keys_again_when_it_is_ready(tmp_path, security_bundle):
    """It may have read the old file, and does not listen for the signal yet."""
    keys = tmp_path / "keys"
    keys.write_text(f"robot:{KEY}\n")
    keys.chmod(0o600)

    with serving(tmp_path / "run", security_bundle, "--api-keys-file", str(keys)) as server:
        (before,) = server.modules()["frontend"]
        os.kill(before, signal.SIGKILL)
        until(lambda: "frontend 0: its process ended with signal 9" in server.logged())
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.logged().count("the keys were read again") == 2)  # by gRPC's at once
