"""JSON that a hostile file may hold, and what strictness refuses."""

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgate.bundle.strict_json import MAX_DEPTH, StrictJsonError, dump_json, parse_json

_LIMIT = 4 * 2**20
_json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('ab"\\[{é', max_size=3), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"{} x", "Extra data"),
        (b'{"a": 1, "a": 1}', "'a' twice"),
        (b'[{"b": {"a": 1, "a": 2}}]', "'a' twice"),
        (b"[NaN]", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "1e999"),
        (b"[-1e999]", "-1e999"),
        (b"\xff\xfe", "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'"a\nb"', "control character"),
        (b"1" * 5000, "digits"),
        (b"[" * (MAX_DEPTH + 1), "levels of nesting"),
        (b'{"a":' * (MAX_DEPTH + 1), "levels of nesting"),
        (b"[" * 2**20, "levels of nesting"),
    ],
)
def test_not_strict_json_is_refused_with_the_reason(data, expected):
    with pytest.raises(StrictJsonError, match=expected):
        parse_json(data, max_bytes=_LIMIT)


def test_longer_than_allowed_is_refused_unseen():
    with pytest.raises(StrictJsonError, match="at most 10 bytes, found 11"):
        parse_json(b" " * 11, max_bytes=10)


def test_nesting_up_to_the_limit_is_read():
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, max_bytes=_LIMIT)


def test_brackets_in_strings_do_not_nest():
    text = '["' + "[{" * 100 + '", "\\"[[[[' + "[" * 100 + '"]'

    assert parse_json(text.encode(), max_bytes=_LIMIT) == json.loads(text)


def test_side_by_side_is_not_nested():
    assert len(parse_json(b"[" + b",".join([b"[]"] * 1000) + b"]", max_bytes=_LIMIT)) == 1000


@pytest.mark.parametrize("unit", [b'\\"', b'"', b'"\\', b"\\", b'[]"'])
def test_no_input_takes_quadratic_time(unit):
    """4 MiB of quotes and backslashes: a pattern that tries again at every quote would take hours."""
    data = (b'"' + unit * _LIMIT)[:_LIMIT]
    start = time.perf_counter()

    with pytest.raises(StrictJsonError):
        parse_json(data, max_bytes=_LIMIT)

    assert time.perf_counter() - start < 20


@given(_json_values)
def test_what_is_dumped_is_parsed_to_the_same(value):
    data = dump_json(value)

    assert parse_json(data, max_bytes=_LIMIT) == value
    assert dump_json(parse_json(data, max_bytes=_LIMIT)) == data


@given(st.dictionaries(st.text("abcdef", max_size=3), st.integers(), max_size=5))
def test_order_of_keys_does_not_change_the_bytes(value):
    assert dump_json(dict(reversed(value.items()))) == dump_json(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": {1, 2}}, b"bytes", "\ud800", {(1, 2): 3}])
def test_what_json_cannot_say_is_not_dumped(value):
    with pytest.raises(StrictJsonError, match="expected a value that JSON can say"):
        dump_json(value)


def test_endless_value_is_not_dumped():
    value = []
    value.append(value)

    with pytest.raises(StrictJsonError):
        dump_json(value)


@given(st.binary(max_size=60) | st.text('[]{}",:\\u0tfn1e-.', max_size=40).map(str.encode))
def test_any_bytes_are_json_or_refused(data):
    try:
        value = parse_json(data, max_bytes=_LIMIT)
    except StrictJsonError:
        return
    assert json.loads(data) == value
