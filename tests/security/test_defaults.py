"""What a server does before anybody has set anything: CVE-2023-43654, CVE-2024-35199, CVE-2023-48022."""

import re
import socket
from pathlib import Path

import pytest
from tests.security.conftest import check_error, request, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plain(tmp_path_factory, security_bundle):
    """A server with nothing set but a free port."""
    with serving(tmp_path_factory.mktemp("plain"), security_bundle) as server:
        yield server


def inodes(pids):
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            target = str(file.readlink())
            if target.startswith("socket:["):
                yield target[8:-1]


def listening(pids):
    """Addresses that these processes listen on: what `ss -ltn` would say of them."""
    mine, found = set(inodes(pids)), set()
    for family, name in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in mine:
                host, port = words[1].split(":")
                raw = b"".join(bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8))
                found.add((socket.inet_ntop(family, raw), int(port, 16)))
    return found


def test_cve_2024_35199_a_loopback_socket_for_each_protocol_is_all_that_listens(plain):
    (grpc_port,) = re.findall(r"^gRPC: .*:(\d+), 1 process$", "\n".join(plain.lines), re.MULTILINE)
    found = {(host.removeprefix("::ffff:"), port) for host, port in listening(plain.pids)}  # an IPv4 address in IPv6

    assert found == {("127.0.0.1", plain.port), ("127.0.0.1", int(grpc_port))}


def test_nothing_is_warned_about_on_loopback(plain):
    assert not [line for line in plain.lines if line.startswith("warning")]


def test_cve_2023_48022_page_of_somebody_else_is_refused(plain):
    lines = ("Origin: https://evil.example", "Content-Type: text/plain")

    assert (
        check_error(plain.ask(request("POST", "/v2/models/steps/infer", *lines, body=b"{}")), 403) == "foreign_origin"
    )
    for verb in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert check_error(plain.ask(request(verb, "/v2/models/steps", *lines)), 403) == "foreign_origin"


def test_cve_2023_48022_dns_rebinding_is_refused(plain):
    assert check_error(plain.ask(request("GET", "/v2", host="evil.example")), 421) == "wrong_host"


def test_socket_of_the_engine_is_in_a_folder_of_ours_alone(plain):
    mine = set(inodes(plain.pids))
    paths = [
        Path(words[7])
        for words in (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
        if len(words) == 8 and words[6] in mine and words[7].startswith("/")
    ]

    assert paths
    assert {path.parent.stat().st_mode & 0o077 for path in paths} == {0}


@pytest.mark.parametrize("options", [("--host", "0.0.0.0"), ("--host", "0.0.0.0", "--api-keys-file")])
def test_reach_from_other_machines_is_warned_about(tmp_path, security_bundle, keys_file, options):
    given = (*options, str(keys_file)) if options[-1] == "--api-keys-file" else options
    with serving(tmp_path, security_bundle, *given) as server:
        (warning,) = [line for line in server.lines if line.startswith("warning")]

    expected = "unencrypted" if options[-1] == "--api-keys-file" else "nobody is asked for a key: --api-keys-file"
    assert expected in warning
    assert warning.startswith("warning: ")
