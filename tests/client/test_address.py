"""Addresses: taken apart, put together, refused."""

import pytest

from cellgate.client.address import Address, is_url, parse_address
from cellgate.client.errors import AddressError


@pytest.mark.parametrize(
    ("text", "expected", "url"),
    [
        ("http://h:1", Address(host="h", port=1), "http://h:1"),
        ("http://h", Address(host="h", port=80), "http://h:80"),
        ("https://h/", Address(host="h", port=443, tls=True), "https://h:443"),
        ("http://h:8/a/b/", Address(host="h", port=8, prefix="/a/b"), "http://h:8/a/b"),
        ("http://h:8/v2/", Address(host="h", port=8), "http://h:8"),
        ("http://[::1]:8", Address(host="::1", port=8), "http://[::1]:8"),
    ],
)
def test_an_address_is_taken_apart(text, expected, url):
    assert parse_address(text) == expected
    assert expected.url == url


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ftp://h", "the scheme 'ftp'"),
        ("http://", "no host"),
        ("http://h:0", "something else"),
        ("http://h:99999", "Port out of range"),
        ("http://h?x=1", "something else"),
        ("http://u:p@h", "something else"),
        ("http://h/ä", "something else"),
        ("http://h/a b", "something else"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://a..b", "label empty"),
        ("http://" + "a" * 64 + ".example", "too long"),
    ],
)
def test_what_is_no_address_is_one_sentence(text, found):
    with pytest.raises(AddressError) as raised:
        parse_address(text)

    assert str(raised.value).startswith(f"{text}: expected http://HOST:PORT")
    assert found in str(raised.value)


def test_a_url_is_told_from_a_path():
    assert is_url("http://h")
    assert is_url("HTTPS://h")
    assert not is_url("bundles/http")
    assert not is_url("localhost:8000")
