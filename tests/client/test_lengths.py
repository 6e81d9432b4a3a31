"""Lengths: what each description draws, that seeds rule, and that wrong descriptions are told in one sentence."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgate.client.errors import ClientError, LengthsError
from cellgate.client.lengths import MAX_STEPS, PRESETS, check_steps, fit, parse_lengths

DESCRIPTIONS = ["fixed:17", "uniform:3-9", "lognormal:40,0.8", "lognormal:40,0.8,5-300", *PRESETS]


@pytest.mark.parametrize("text", DESCRIPTIONS)
def test_equal_seeds_draw_equal_lengths(text):
    lengths = parse_lengths(text)

    assert lengths.draw(100, 7).tolist() == parse_lengths(text).draw(100, 7).tolist()
    assert lengths.draw(0, 7).size == 0
    if not text.startswith("fixed"):
        assert lengths.draw(100, 7).tolist() != lengths.draw(100, 8).tolist()


def test_fixed_lengths_are_all_alike():
    assert parse_lengths("fixed:17").draw(3, 0).tolist() == [17, 17, 17]


@given(st.integers(1, 500), st.integers(0, 500), st.integers(0, 2**31 - 1))
def test_uniform_lengths_stay_in_their_range(low, more, seed):
    drawn = parse_lengths(f"uniform:{low}-{low + more}").draw(50, seed)

    assert low <= drawn.min()
    assert drawn.max() <= low + more


def test_uniform_lengths_include_both_ends():
    assert set(parse_lengths("uniform:3-5").draw(200, 0).tolist()) == {3, 4, 5}


@given(st.floats(1, 1000), st.floats(0, 3), st.integers(1, 100), st.integers(0, 1000), st.integers(0, 2**31 - 1))
def test_lognormal_lengths_are_clipped(median, sigma, low, more, seed):
    drawn = parse_lengths(f"lognormal:{median},{sigma},{low}-{low + more}").draw(50, seed)

    assert low <= drawn.min()
    assert drawn.max() <= low + more


def test_lognormal_lengths_have_the_median_and_deviation_asked_for():
    drawn = parse_lengths("lognormal:1000,0.5").draw(20_000, 0)

    assert np.median(drawn) == pytest.approx(1000, rel=0.02)
    assert np.log(drawn).std() == pytest.approx(0.5, rel=0.02)


def test_the_presets_are_the_three_workloads():
    means = {name: parse_lengths(name).draw(20_000, 0).mean() for name in PRESETS}

    assert means["small"] == pytest.approx(18, rel=0.02)
    assert means["medium"] == pytest.approx(53, rel=0.03)
    assert means["large"] == pytest.approx(141, rel=0.06)
    assert fit("small", parse_lengths("small"), 7) == (parse_lengths("small"), "small (uniform:7-29)")
    assert fit("fixed:3", parse_lengths("fixed:3"), 4) == (parse_lengths("fixed:3"), "fixed:3")


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("least_steps", [21, 900])
def test_a_preset_begins_with_what_the_network_needs_and_says_so(name, least_steps):
    lengths, described = fit(name, parse_lengths(name), least_steps)

    drawn = lengths.draw(5_000, 0)
    assert drawn.min() == least_steps
    assert drawn.max() >= least_steps
    assert described == f"{name} ({PRESETS[name]}), from {least_steps} steps on"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_ends_with_what_the_network_takes_and_says_so(name):
    lengths, described = fit(name, parse_lengths(name), 1, 25)

    assert lengths.draw(5_000, 0).max() == 25
    assert described == f"{name} ({PRESETS[name]}), up to 25 steps"


@pytest.mark.parametrize("content", ["5\n3\n\n9\n", "length\n5\n3\n9", "\ufeff5\r\n3\r\n9\r\n"])
def test_a_file_holds_one_length_a_line(tmp_path, content):
    path = tmp_path / "lengths.txt"
    path.write_bytes(content.encode())

    assert sorted(parse_lengths(f"file:{path}").draw(3, 0).tolist()) == [3, 5, 9]


def test_a_column_of_a_table_is_taken_by_its_name(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('name, steps\n"a, b",5\nc, 7\n\n')

    assert sorted(parse_lengths(f"file:{path}:steps").draw(2, 0).tolist()) == [5, 7]


def test_a_colon_in_the_name_of_a_file_is_no_column(tmp_path):
    path = tmp_path / "a:b"
    path.write_text("4\n")

    assert parse_lengths(f"file:{path}").draw(1, 0).tolist() == [4]


@given(st.lists(st.integers(1, 99), min_size=1, max_size=20), st.integers(0, 100), st.integers(0, 1000))
def test_listed_lengths_come_equally_often(tmp_path_factory, values, count, seed):
    path = tmp_path_factory.getbasetemp() / "listed.txt"
    path.write_text("\n".join(map(str, values)))
    drawn = parse_lengths(f"file:{path}").draw(count, seed)

    whole, rest = divmod(count, len(values))
    for value in set(values):
        assert values.count(value) * whole <= (drawn == value).sum() <= values.count(value) * (whole + (rest > 0))
    assert len(drawn) == count


@pytest.mark.parametrize(
    ("text", "expected", "found"),
    [
        ("", "fixed:N, uniform", "none of them"),
        ("huge", "or one of small, medium, large", "none of them"),
        ("fixed", "fixed:N", "none of them"),
        ("file:", "file:PATH", "none of them"),
        ("fixed:0", f"a length in 1 .. {MAX_STEPS}", "'0'"),
        ("fixed:1.5", "a length in", "'1.5'"),
        (f"fixed:{MAX_STEPS + 1}", "a length in", str(MAX_STEPS + 1)),
        ("uniform:5", "LOW-HIGH with 1 <= LOW <= HIGH", "'5'"),
        ("uniform:9-3", "LOW-HIGH with 1 <= LOW <= HIGH", "'9-3'"),
        ("uniform:0-3", "LOW-HIGH", "'0-3'"),
        ("lognormal:40", "lognormal:MEDIAN,SIGMA", "1 parts"),
        ("lognormal:a,1", "MEDIAN in 1 .. ", "'a'"),
        ("lognormal:0.5,1", "MEDIAN in 1 .. ", "'0.5'"),
        ("lognormal:40,-1", "SIGMA in 0 .. 5", "'-1'"),
        ("lognormal:40,nan", "SIGMA in 0 .. 5", "'nan'"),
        ("lognormal:40,1,5", "LOW-HIGH", "'5'"),
    ],
)
def test_a_wrong_description_is_one_sentence(text, expected, found):
    with pytest.raises(LengthsError) as raised:
        parse_lengths(text)

    assert f"lengths {text!r}: expected " in str(raised.value)
    assert expected in str(raised.value)
    assert found in str(raised.value)
    assert isinstance(raised.value, ClientError)


@pytest.mark.parametrize(
    ("content", "column", "expected"),
    [
        (b"", "", "at least one length in the file, found none"),
        (b"steps\n", "", "at least one length in the file, found none"),
        (b"3\nx\n", "", "in line 2, found 'x'"),
        (b"3\n0\n", "", "in line 2, found '0'"),
        (b"3.5\n", "", "in line 1, found '3.5'"),
        (b"\xff\xfe3", "", "UTF-8 text in the file, found other bytes"),
        (b"a,b\n1,2\n", ":c", "a column 'c' in the first line, found a, b"),
        (b"", ":c", "a column 'c' in the first line, found no columns"),
        (b"a,b\n1\n", ":b", "in line 2, found ''"),
        (b"a,b\n" + b"x" * 200_000 + b",1\n", ":b", "comma-separated values in the file, found field larger"),
    ],
)
def test_a_file_without_lengths_is_one_sentence(tmp_path, content, column, expected):
    path = tmp_path / "lengths.txt"
    path.write_bytes(content)

    with pytest.raises(LengthsError, match="lengths 'file:") as raised:
        parse_lengths(f"file:{path}{column}")
    assert expected in str(raised.value)


def test_a_file_that_is_missing_or_too_large_is_one_sentence(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**26 + 1)

    with pytest.raises(LengthsError, match="found no such file or directory"):
        parse_lengths(f"file:{tmp_path / 'none'}")
    with pytest.raises(LengthsError, match="expected a file of at most 67108864 bytes"):
        parse_lengths(f"file:{tmp_path / 'large'}")


def test_the_default_clip_of_a_lognormal_keeps_its_median():
    assert parse_lengths("lognormal:200000,0").draw(1, 0).tolist() == [200_000]
    assert math.isfinite(parse_lengths("lognormal:40,5").draw(1000, 0).max())


def test_lengths_that_a_network_does_not_take_are_told_with_the_shortest():
    drawn = parse_lengths("uniform:3-9").draw(200, 0)

    check_steps("uniform:3-9", drawn, 3)
    check_steps("uniform:3-9", drawn[:0], 4)
    with pytest.raises(
        LengthsError, match="'uniform:3-9': expected lengths of at least 4, which the network needs, fo"
    ):
        check_steps("uniform:3-9", drawn, 4)


def test_lengths_that_a_network_does_not_take_are_told_with_the_longest():
    drawn = parse_lengths("uniform:3-9").draw(200, 0)

    check_steps("uniform:3-9", drawn, 3, 9)
    with pytest.raises(LengthsError, match="expected lengths of at most 8, for the network takes no more, found 9; l"):
        check_steps("uniform:3-9", drawn, 3, 8)
