"""Names of hosts and origins: which are read as such, and which are this machine's."""

import pytest

from cellgate.serve.gate.authority import is_local_name, origin_authority, parse_authority


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
