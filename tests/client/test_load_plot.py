"""The plot: well-formed, with every number in it, and nothing that is loaded or run."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgate.client.latency import summarise
from cellgate.client.load_plot import plot_load
from cellgate.client.samples import Recorder
from cellgate.client.svg import short, ticks


@pytest.fixture
def summary():
    recorder = Recorder()
    for place in range(400):
        status = 503 if place % 10 == 0 else 200
        recorder.add(place / 40, place / 40, place / 40 + 0.001 * (1 + place % 8), 1 + place % 8, 8, status)
    return summarise(recorder.samples(), 0.0, 10.0)


def test_a_picture_is_well_formed_and_says_what_it_shows(summary):
    drawn = plot_load(summary, "a<b at h: closed loop & more", html=False)
    root = ET.fromstring(drawn)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]

    assert "a<b at h" in words
    assert "closed loop & more" in words
    assert "1 .. 2 steps" in words
    assert f"{summary.quartiles[0].latency.count} answers" in words
    assert "red: failed requests: 503 (40)" in words
    assert "99 of 100 within 8 ms" in root.find("{http://www.w3.org/2000/svg}desc").text


def test_a_page_holds_the_numbers_and_loads_nothing(summary):
    page = plot_load(summary, "title", html=True)

    assert page.count("<tr>") == 6
    assert "<td>all</td><td>360</td>" in page
    assert "Content-Security-Policy" in page
    assert "<script" not in page
    assert not re.findall(r"(?:src|href)=", page)
    assert re.findall(r"https?://[^\"]*", page) == ["http://www.w3.org/2000/svg"]


def test_nothing_measured_is_an_empty_picture():
    ET.fromstring(plot_load(summarise(Recorder().samples(), 0.0, 0.0), "x" * 300, html=False))


def test_lengths_that_are_all_alike_are_one_part():
    recorder = Recorder()
    recorder.add(0.0, 0.0, 0.5, 7, 7, 200)

    assert ">7 steps<" in plot_load(summarise(recorder.samples(), 0.0, 1.0), "t", html=False)


@given(st.floats(1e-9, 1e12), st.integers(2, 6))
def test_ticks_are_few_even_and_reach_the_top(most, about):
    found = ticks(most, about)

    assert found[0] == 0.0
    assert found[-1] >= most * (1 - 1e-6)
    assert 2 <= len(found) <= about + 2


@pytest.mark.parametrize(
    ("value", "words"), [(0.001234, "0.00123"), (4.567, "4.57"), (123.4, "123"), (12345.6, "12,346")]
)
def test_numbers_are_short(value, words):
    assert short(value) == words


@pytest.mark.parametrize("most", [0.0, float("nan"), float("inf"), -1.0])
def test_ticks_of_nothing_are_zero_and_one(most):
    assert ticks(most) == [0.0, 1.0]
