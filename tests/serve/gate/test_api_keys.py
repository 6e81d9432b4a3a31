"""The file of keys: what it may hold, who is known by it, and who may read it."""

import hashlib

import pytest

from cellgate.serve.gate.admission import admission_rules
from cellgate.serve.gate.api_keys import keys_file_warnings, read_api_keys
from cellgate.serve.settings import Settings
from cellgate.serve.start_errors import KeysFileError

from .keys_file import write_keys


def test_file_of_keys_has_names_comments_and_digests(tmp_path):
    digest = hashlib.sha256(b"the-second-of-two-keys").hexdigest()
    keys = read_api_keys(
        write_keys(tmp_path, f"# mine\n\n one:the-first-of-two-keys \ntwo:sha256:{digest.upper()}\r\n")
    )

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
        read_api_keys(write_keys(tmp_path, text))

    assert "short" not in str(caught.value)
    assert "x" * 16 not in str(caught.value)


def test_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(KeysFileError, match="expected a readable file, found no such file or directory"):
        read_api_keys(str(tmp_path / "none"))
    with pytest.raises(KeysFileError):
        admission_rules(Settings(api_keys_file=str(tmp_path)))


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1)])
def test_permissions_that_let_others_read_are_warned_about(tmp_path, mode, warnings):
    found = keys_file_warnings(write_keys(tmp_path, "one:the-first-of-two-keys", mode))

    assert len(found) == warnings
