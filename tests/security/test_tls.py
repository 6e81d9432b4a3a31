"""TLS with a certificate made here: a real connection, two workers, both routes, and files that are wrong."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack

import pytest
from tests.security.conftest import BODY, KEY, PATIENCE_S, PROGRAM, check_error, read_all, request, responses, serving

from cellgate.serve.gate.tls import key_file_warnings, tls_context
from cellgate.serve.start_errors import CertificateError

pytestmark = pytest.mark.slow


def make_certificate(folder, name, *options):
    """Make a certificate for 127.0.0.1 that is its own authority."""
    folder.mkdir(exist_ok=True)
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=test", *options]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    key.chmod(0o600)
    return cert, key


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    return make_certificate(tmp_path_factory.mktemp("certificate"), "one", "-noenc")


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory, security_bundle, certificate, keys_file):
    cert, key = certificate
    options = ("--tls-cert", str(cert), "--tls-key", str(key), "--workers", "2", "--api-keys-file", str(keys_file))
    with serving(tmp_path_factory.mktemp("tls"), security_bundle, *options) as server:
        yield server


def until(condition):
    while not condition():
        os.sched_yield()


def ask(server, certificate, data, **versions):
    context = ssl.create_default_context(cafile=str(certificate[0]))
    for name, value in versions.items():
        setattr(context, name, value)
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(data)
        return connection.version(), responses(read_all(connection))


@pytest.mark.parametrize("lines", [(), ("Content-Type: application/json; charset=utf-8",)], ids=["hot", "asgi"])
def test_both_routes_are_encrypted_and_ask_for_the_key(encrypted, certificate, lines):
    for _ in range(8):  # either worker
        version, (found,) = ask(
            encrypted, certificate, request("POST", "/v2/models/steps/infer", *lines, f"X-API-Key: {KEY}", body=BODY)
        )
        assert (version, found[0]) == ("TLSv1.3", 200)
    _, (refused,) = ask(encrypted, certificate, request("POST", "/v2/models/steps/infer", *lines, body=BODY))
    assert check_error(refused, 401) == "unauthorized"


def test_a_crowd_that_connects_at_once_is_encrypted_too(encrypted, certificate):
    context = ssl.create_default_context(cafile=str(certificate[0]))
    asked = request("POST", "/v2/models/steps/infer", f"X-API-Key: {KEY}", body=BODY)
    with ExitStack() as opened:
        plain = [opened.enter_context(encrypted.connect()) for _ in range(40)]
        for one in plain:
            connection = opened.enter_context(context.wrap_socket(one, server_hostname="127.0.0.1"))
            connection.sendall(asked)
            (found,) = responses(read_all(connection))
            assert found[0] == 200


def test_tls_1_2_is_taken_and_older_is_not(encrypted, certificate):
    version, (found,) = ask(
        encrypted, certificate, request("GET", "/v2/health/live"), maximum_version=ssl.TLSVersion.TLSv1_2
    )
    assert (version, found[0]) == ("TLSv1.2", 200)
    with pytest.warns(DeprecationWarning, match="TLSv1"), pytest.raises(ssl.SSLError):
        ask(encrypted, certificate, b"", minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)


def test_plain_http_on_the_port_gets_no_answer(encrypted):
    assert b"HTTP/1.1 200" not in encrypted.send(request("GET", "/v2/health/live"))


def test_limits_hold_behind_tls(encrypted, certificate):
    _, (found,) = ask(encrypted, certificate, b"GET /v2 HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: a\r\n" * 200 + b"\r\n")

    assert check_error(found, 431) == "headers_too_large"


def test_the_health_check_of_a_container_asks_over_tls_too(encrypted, certificate, tmp_path):
    other = make_certificate(tmp_path, "other", "-noenc")
    address, other_name = (f"https://{host}:{encrypted.port}" for host in ("127.0.0.1", "localhost"))

    def status_of(*url, believed=certificate):
        environ = {**os.environ, "CELLGATE_PORT": str(encrypted.port)}
        environ |= {} if believed is None else {"CELLGATE_TLS_CERT": str(believed[0])}
        command = [sys.executable, "-c", PROGRAM, "ready", *url]
        return subprocess.run(command, env=environ, timeout=PATIENCE_S, check=False).returncode

    assert (status_of(), status_of(believed=other)) == (0, 1)
    # By hand, it has to be believed by the system or named, and the address has to stand in it.
    assert (status_of(address), status_of(address, believed=other), status_of(address, believed=None)) == (0, 1, 1)
    assert status_of(other_name) == 1


def test_lines_of_the_start_say_https_and_the_curl_line_works(encrypted, certificate):
    (page,) = [line for line in encrypted.lines if line.startswith("OpenAPI page:")]
    (line,) = [line for line in encrypted.lines if line.startswith("try it:")]

    assert page.endswith(f"https://127.0.0.1:{encrypted.port}/docs")
    if shutil.which("curl"):
        words = [word.replace("$KEY", KEY) for word in shlex.split(line.removeprefix("try it:"))]
        done = subprocess.run(words, capture_output=True, check=True, timeout=PATIENCE_S)
        assert json.loads(done.stdout)["model_name"] == "steps"


def test_files_that_are_wrong_are_told_in_one_sentence(tmp_path, certificate):
    cert, key = map(str, certificate)
    other_cert, other_key = map(str, make_certificate(tmp_path, "other", "-noenc"))
    _, locked_key = map(str, make_certificate(tmp_path, "locked", "-passout", "pass:secret"))
    empty = tmp_path / "empty"
    empty.write_text("nothing")
    cut = tmp_path / "cut.pem"
    cut.write_text("-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n")
    table = [
        (str(tmp_path / "none"), key, "tls_cert .*none: expected a readable file, found no such file"),
        (cert, str(tmp_path), "tls_key .*: expected a readable file, found is a directory"),
        (str(empty), key, "tls_cert .*empty: expected a PEM file, found no line"),
        (other_cert, key, "tls_key .*one.key: expected the private key of .*other.pem, found that of another one"),
        (cert, other_key, "tls_key .*: expected the private key of "),
        (cert, locked_key, "tls_key .*: expected a key that is not encrypted"),
        (str(cut), key, "tls_cert .*cut.pem: expected a certificate and, in "),
        (key, cert, "expected a certificate and, in "),
    ]
    for one, two, message in table:
        with pytest.raises(CertificateError, match=message):
            tls_context(one, two)


def test_key_that_everybody_may_read_is_warned_about(certificate, tmp_path):
    key = tmp_path / "key"
    shutil.copy(certificate[1], key)
    key.chmod(0o644)

    assert key_file_warnings(str(certificate[1])) == []
    assert "everybody on this machine" in key_file_warnings(str(key))[0]


def move(made, to):
    """Put a pair in the place of another one, as whoever renews it does."""
    for one, other in zip(made, to, strict=True):
        shutil.copy(one, other)
        other.chmod(0o600)


def is_believed(port, authority):
    """Whether a new connection shows a certificate of this authority."""
    context = ssl.create_default_context(cafile=str(authority))
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1"),
        ):
            return True
    except ssl.SSLCertVerificationError:
        return False


def ports_of(server):
    """Of HTTP, gRPC, and control by HTTP."""
    lines = {line.partition(":")[0]: line for line in server.lines}
    return [
        int(re.search(r":(\d+)\b", lines[name].partition(":")[2])[1]) for name in ("OpenAPI page", "gRPC", "control")
    ]


def test_a_renewed_certificate_is_shown_to_new_connections_after_sighup_and_a_bad_one_is_not(
    tmp_path, security_bundle, certificate
):
    old = tmp_path / "old.pem"
    shutil.copy(certificate[0], old)
    pair = tmp_path / "served.pem", tmp_path / "served.key"
    move(certificate, pair)
    renewed = make_certificate(tmp_path / "new", "renewed", "-noenc")
    options = (
        "--tls-cert",
        str(pair[0]),
        "--tls-key",
        str(pair[1]),
        "--workers",
        "2",
        "--control",
        "--control-port",
        "0",
    )
    frontends = 4  # two of HTTP, gRPC's, and control's, which has both
    with serving(tmp_path / "run", security_bundle, *options) as server:
        ports = ports_of(server)
        context = ssl.create_default_context(cafile=str(old))
        with (
            server.connect() as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as kept,
        ):
            move(renewed, pair)
            server.process.send_signal(signal.SIGHUP)
            until(lambda: server.logged().count("the certificate was read again") == frontends)
            believed = [[is_believed(port, one) for one in (renewed[0], old)] for port in ports for _ in range(8)]
            kept.sendall(request("GET", "/v2/health/live"))
            (answer,) = responses(read_all(kept))
        shutil.copy(certificate[1], pair[1])  # not the key of this certificate
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.logged().count("the certificate is as before: tls_key ") == frontends)
        believed += [[is_believed(port, one) for one in (renewed[0], old)] for port in ports for _ in range(8)]

    assert believed == [[True, False]] * (2 * 8 * len(ports))
    assert answer[0] == 200
    assert "expected the private key of" in server.logged()
