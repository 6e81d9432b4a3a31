"""A server whose certificate the client does not trust: said at once, with what helps, and that does help."""

import asyncio
import shutil
import ssl
import subprocess
from contextlib import contextmanager

import httpx
import pytest

from cellgate.client import AsyncClient, Client, UnreachableError
from cellgate.client.certificate import remedy_for


def ask_plain(url, question, **trust):
    with Client(url, http=httpx.Client(**trust) if trust else None) as client:
        return getattr(client, question)()


def ask_async(url, question, **trust):
    async def asked():
        async with AsyncClient(url, http=httpx.AsyncClient(**trust) if trust else None) as client:
            return await getattr(client, question)()

    return asyncio.run(asked())


@pytest.fixture(params=[ask_plain, ask_async], ids=["plain", "async"])
def ask(request):
    return request.param


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Certificates that no system trusts, with their keys: of this address, and of another name."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("certificates")
    for name, names in (("ours", "IP:127.0.0.1"), ("other", "DNS:a.example")):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "2", "-subj", f"/CN={name}"]
        command += ["-addext", f"subjectAltName={names}", "-keyout", folder / f"{name}.key"]
        subprocess.run([*command, "-out", folder / f"{name}.pem"], check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture
def serve_tls(serve_aside, certificates):
    """A server by TLS, and a list with an entry for each time that somebody began to speak with it."""

    @contextmanager
    def serve(name):
        context, begun = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
        context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
        context.sni_callback = lambda *_: begun.append(name)
        with serve_aside(tls=context) as server:
            yield server, begun

    return serve


@pytest.mark.parametrize("question", ["models", "is_ready"])
def test_a_certificate_that_is_not_trusted_is_told_at_once_with_what_helps(ask, serve_tls, question):
    with serve_tls("ours") as (server, begun):
        with pytest.raises(UnreachableError) as found:
            ask(server.url, question)

        assert len(begun) == 1
    assert str(found.value) == (
        f"{server.url}: expected a model server there, found a certificate that is not trusted (self-signed "
        "certificate); set SSL_CERT_FILE to a file with it, or give http=httpx.Client(verify=CONTEXT)"
    )


def test_what_helps_with_a_certificate_does(ask, serve_tls, certificates, monkeypatch):
    context = ssl.create_default_context(cafile=certificates / "ours.pem")
    with serve_tls("ours") as (server, _):
        assert ask(server.url, "models", verify=context) == ["toy"]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ours.pem"))
        assert ask(server.url, "models") == ["toy"]


def test_a_certificate_of_another_name_is_not_to_be_trusted(ask, serve_tls, certificates, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "other.pem"))
    with serve_tls("other") as (server, begun):
        with pytest.raises(UnreachableError, match="IP address mismatch") as told:
            ask(server.url, "models")

        assert len(begun) == 1
    assert str(told.value).endswith("; ask under a name that stands in it")


@pytest.mark.parametrize("code", [9, 10], ids=["not yet valid", "expired"])
def test_a_certificate_out_of_its_time_is_renewed_and_not_trusted(code):
    refusal = ssl.SSLCertVerificationError()
    refusal.verify_code = code  # of OpenSSL's x509_vfy.h

    assert remedy_for(refusal, "trust it") == "renew it, or set the clock"
