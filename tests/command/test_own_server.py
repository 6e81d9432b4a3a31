"""The server of the same environment over TLS: asked by its own certificate, and by no other."""

import json
import shutil
import ssl
import subprocess

import pytest

from .answering import answering


@pytest.fixture(scope="module")
def make_certificate(tmp_path_factory):
    """A certificate and its key by name, for a host that is not 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("certificates")

    def make(name, names="DNS:a.example"):
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=a.example"]
        command += ["-addext", f"subjectAltName={names}"]
        subprocess.run([*command, "-noenc", "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=60)
        return cert, key

    return make


@pytest.fixture
def tls_server(make_certificate, monkeypatch):
    """Listen by TLS and lay a certificate, the server's own or another one, into the environment."""

    def listen(content, *, shown="server", believed="server", names="DNS:a.example"):
        cert, key = make_certificate(shown, names)
        if believed is not None:
            monkeypatch.setenv("CELLGATE_TLS_CERT", str(cert if believed == shown else make_certificate(believed)[0]))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        return answering(200, content, tls=context)

    return listen


def test_ready_asks_a_server_with_a_certificate_by_tls_whatever_name_stands_in_it(run, tls_server, monkeypatch):
    with tls_server(b"") as (url, asked):
        monkeypatch.setenv("CELLGATE_PORT", url.rpartition(":")[2])
        done = run("ready")

    assert (done.status, done.out, done.err) == (0, f"{url} is ready\n", "")
    assert [path for path, _, _ in asked] == ["/v2/health/ready"]


def test_load_asks_the_control_listener_by_tls_too(run, tls_server, monkeypatch):
    answer = {"name": "tagger", "version": "2", "state": "loaded"}
    with tls_server(json.dumps(answer).encode()) as (url, asked):
        monkeypatch.setenv("CELLGATE_CONTROL_PORT", url.rpartition(":")[2])
        done = run("load", "tagger")

    assert (done.status, done.err) == (0, "")
    assert len(asked) == 1


def test_somebody_else_on_the_port_is_not_believed_and_gets_no_key(run, tls_server, monkeypatch):
    monkeypatch.setenv("CELLGATE_API_KEY", "secret")
    with tls_server(b"{}", shown="stranger") as (url, asked):
        monkeypatch.setenv("CELLGATE_CONTROL_PORT", url.rpartition(":")[2])
        done = run("load", "tagger")

    assert done.status == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.err
    assert asked == []


def test_at_an_address_that_was_given_the_certificate_must_name_it(run, tls_server):
    with tls_server(b"") as (url, asked):
        done = run("ready", url)

    assert done.status == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.err
    assert done.err.endswith("; ask under a name that stands in it\n")
    assert asked == []


ORDERS = (["ready"], ["load", "tagger", "--url"])


@pytest.mark.parametrize("words", ORDERS)
def test_without_its_certificate_a_server_is_not_believed_and_the_variable_that_helps_is_named(run, tls_server, words):
    with tls_server(b"", believed=None) as (url, asked):
        done = run(*words, url)

    assert done.status == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.err
    assert done.err.endswith("; set CELLGATE_TLS_CERT to its certificate\n")
    assert asked == []


def test_at_an_address_that_stands_in_it_the_certificate_is_believed(run, tls_server):
    with tls_server(b"", names="IP:127.0.0.1") as (url, asked):
        done = run("ready", url)

    assert (done.status, done.err, len(asked)) == (0, "", 1)


@pytest.mark.parametrize("words", ORDERS)
def test_who_speaks_no_tls_to_a_server_that_does_is_told_so(run, tls_server, words):
    with tls_server(b"", believed=None) as (url, _):
        done = run(*words, url.replace("https:", "http:"))

    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "; it may speak TLS: set CELLGATE_TLS_CERT to its certificate, and begin an address" in done.err


@pytest.fixture
def tls_stub(stub, make_certificate):
    """A model server by TLS, with its URL and the file of its certificate."""
    cert, key = make_certificate("stub", "IP:127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    stub.socket = context.wrap_socket(stub.socket, server_side=True)
    return stub.url.replace("http:", "https:"), cert


QUICK = ("--seconds", "0.3", "--warm-up", "0.05", "--connections", "2")


def test_bench_measures_a_server_whose_certificate_the_environment_names(run, tls_stub, monkeypatch):
    url, cert = tls_stub
    monkeypatch.setenv("CELLGATE_TLS_CERT", str(cert))
    done = run("bench", url, *QUICK)

    assert done.status == 0, done.err
    assert "failed   none" in done.out


@pytest.mark.parametrize(
    ("secure", "words"),
    [
        (True, "a certificate that is not trusted (self-signed certificate); set CELLGATE_TLS_CERT to a file with it"),
        (False, "; if it speaks TLS, its address begins with https://"),
    ],
)
def test_bench_says_what_is_missing_for_tls(run, tls_stub, secure, words):
    url, _ = tls_stub
    done = run("bench", url if secure else url.replace("https:", "http:"), *QUICK)

    assert done.status == 2
    assert done.sentence.endswith(words)


def test_bench_with_a_certificate_that_cannot_be_read_is_wrong_use(run, monkeypatch, tmp_path):
    monkeypatch.setenv("CELLGATE_TLS_CERT", str(tmp_path / "none.pem"))
    done = run("bench", "https://127.0.0.1:9", *QUICK)

    assert done.status == 2
    assert "CELLGATE_TLS_CERT: expected a PEM file, found " in done.sentence


def test_a_certificate_that_cannot_be_read_is_one_sentence(run, monkeypatch, tmp_path):
    monkeypatch.setenv("CELLGATE_TLS_CERT", str(tmp_path / "none.pem"))
    done = run("ready")

    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "CELLGATE_TLS_CERT: expected a PEM file, found " in done.err
    assert "no such file" in done.err
