"""The page for people: self-contained, escaped, the same bytes each time, and it says what the report says."""

import base64
import dataclasses
import hashlib
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from cellgate.export.proof.findings import Histogram, Worst
from cellgate.export.report_page.page import render_page
from cellgate.export.report_page.plots import growth_plot, histogram_plot
from cellgate.export.report_page.strip import strip_plot, used_share
from cellgate.export.report_page.text import escape, listing, number, percent, place, power, share

from ..report_sample import LAWS, case, difference, law, leg, report

_VOID = {"meta", "br"}
_HOSTILE = "<script>alert('\"')</script>"


class _Page(HTMLParser):
    """Checks that tags close in order, and collects tags, attributes and words."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(content.decode())
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words += data


_REPORTS = {
    "equivalent": report(),
    "failed": report(
        case("<bad>", leg(y=difference(3e-6)), leg("eager", y=difference(math.nan))),
        case("form", leg(complaint="outputs are <none>, expected y")),
        laws=(law("alone", passed=False, bitwise=False, max_abs=0.5), *LAWS[1:]),
    ),
    "sensitive": report(
        case("chaos", leg(y=difference(0.5)), leg("eager", y=difference(1e-7)), sensitive=("y",)),
        case("calm", leg(y=difference(1e-8))),
    ),
    "whole": report(laws=(*LAWS[:3], law("chunks", passed=False, bitwise=False, max_abs=1.0))),
    "without-lengths": report(laws=(LAWS[0], law("padding", applies=False, bitwise=False), *LAWS[2:])),
    "stateless": report(laws=(law("alone", bitwise=False, max_abs=1e-8), law("chunks", applies=False, bitwise=False))),
    "one-case": report(case("only", leg(y=difference(1e-7))), laws=(), growth=()),
    "laws-alone": report(cases=(), growth=()),
    "exact": report(histogram=Histogram(exponents=(-24,), counts=(0,), exact=5)),
}


@pytest.fixture(params=_REPORTS, name="content")
def content_(request) -> bytes:
    return render_page(_REPORTS[request.param])


def test_every_page_is_well_formed_and_every_id_is_there_once(content):
    page = _Page(content)

    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for _, attributes in page.tags:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)


def test_every_page_loads_nothing_and_runs_nothing(content):
    text = content.decode()
    page = _Page(content)

    assert "script" not in {tag for tag, _ in page.tags}
    assert not {"src", "href", "style", "onclick", "srcset"} & {name for _, found in page.tags for name in found}
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#hatching"}


def test_the_policy_allows_the_style_of_the_page_and_nothing_else(content):
    style = re.search(r"<style>(.*?)</style>", content.decode(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()

    policies = [a["content"] for tag, a in _Page(content).tags if a.get("http-equiv") == "Content-Security-Policy"]

    assert policies == [f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"]


def test_every_plot_is_an_image_with_a_title_and_a_description(content):
    drawings = re.findall(r"<svg.*?</svg>", content.decode(), re.DOTALL)

    assert drawings
    for drawing in drawings:
        root = ET.fromstring(drawing)
        assert root.get("role") == "img"
        assert root.find("title").text
        assert root.find("desc").text


def test_every_table_has_a_caption_and_headers(content):
    for table in re.findall(r"<table>.*?</table>", content.decode(), re.DOTALL):
        assert "<caption>" in table
        assert '<th scope="col"' in table


def test_the_same_report_gives_the_same_bytes(content):
    assert content in {render_page(made) for made in _REPORTS.values()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("equivalent", "✓ Equivalent."),
        ("equivalent", "used 50\N{NO-BREAK SPACE}% of what float32 rounding may do there"),
        ("equivalent", "A sequence gives the same bits"),
        ("equivalent", "It can be streamed: cut in 3 ways"),
        ("failed", "✕ Not equivalent."),
        ("failed", "It must not be served"),
        ("failed", "Rows disturb each other"),
        ("failed", "outputs are <none>, expected y"),
        ("sensitive", "! Equivalent where float32 can tell, and sensitive."),
        ("sensitive", "In 1 of 2 cases the network magnifies rounding"),
        ("equivalent", "in any order and with any padding"),
        ("equivalent", "Sequences of one request may be of unequal length: lengths says which."),
        ("without-lengths", "in a batch and in any order (on the CPU"),
        ("without-lengths", "It takes no lengths: the network would read padding like any step"),
        ("whole", "a backward direction, pooling over time, attention and the number of a step need all of it"),
        ("stateless", "the network carries no state from one call to the next"),
        ("stateless", "but not the same bits"),
        ("one-case", "Not run, because this report is of one case alone"),
        ("exact", "100\N{NO-BREAK SPACE}% of 5 values are exact"),
    ],
)
def test_the_page_says_what_was_found(name, words):
    assert words in _Page(render_page(_REPORTS[name])).words


def test_the_worst_case_is_placed_and_can_be_run_again():
    words = _Page(render_page(_REPORTS["equivalent"])).words

    assert "y[0, 1]" in words
    assert "--case B2-T3" in words
    assert "8.39 ULP" in words


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        ({}, "cellgate export SOURCE --out BUNDLE"),
        ({"source": "net.py:Net", "weights": "as the factory made them (no --weights)"}, "export net.py:Net --out"),
        ({"source": "net.py:Net", "weights": "w 1.pt, sha-256 00ff"}, "export net.py:Net --weights 'w 1.pt' --out"),
        ({"weights": "w.pt, sha-256 00ff"}, "export w.pt --out BUNDLE"),
    ],
)
def test_the_command_to_run_it_again_names_the_files_that_the_report_knows(origin, command):
    made = _REPORTS["equivalent"]

    words = _Page(render_page(dataclasses.replace(made, network={**made.network, **origin}))).words

    assert command in words


def test_a_control_that_does_not_hold_or_is_not_there_is_said():
    made = _REPORTS["equivalent"]
    broken = dataclasses.replace(made.control, passed=False, ours={})
    absent = dataclasses.replace(made.control, complaint="not applicable: <peepholes>", theirs={}, bound={})

    assert "It does not hold here." in _Page(render_page(dataclasses.replace(made, control=broken))).words
    assert (
        "There is no control: not applicable: <peepholes>."
        in _Page(render_page(dataclasses.replace(made, control=absent))).words
    )


def test_words_from_the_report_are_never_markup():
    made = report(
        case(_HOSTILE, leg(_HOSTILE, complaint=_HOSTILE), state=_HOSTILE, magnitude=_HOSTILE),
        network={"kind": _HOSTILE, _HOSTILE: [_HOSTILE]},
        oracle=_HOSTILE,
        laws=(law("alone", statement=_HOSTILE),),
        tools={_HOSTILE: _HOSTILE},
    )

    content = render_page(made)

    assert b"<script" not in content
    assert _HOSTILE in _Page(content).words


def test_the_strip_shows_failed_sensitive_and_missing_runs_apart():
    made = report(
        case("good", leg(y=difference(2e-7))),
        case("bad", leg(y=difference(2e-6))),
        case("chaos", leg(y=difference(2.0)), sensitive=("y",)),
        case("unrun"),
    )

    drawing = strip_plot(made.cases, made.legs[1:2], made.worst())

    cells = re.findall(r'<rect [^>]*class="(\w+)"><title>([^<]*)</title>', drawing)
    assert [kind for kind, _ in cells] == ["level3", "failed", "sensitive", "absent"]
    assert cells[1][1] == "bad, onnxruntime: 200\N{NO-BREAK SPACE}%"
    assert "worst of all: case 2" in drawing


def test_a_worst_that_is_no_case_is_not_pointed_at():
    made = report()
    worst = Worst(
        case="laws-order", leg="onnxruntime", output="", max_abs=1.0, tolerance=0.1, index=(), ulps=0.0, complaint="x"
    )

    assert "worst of all" not in strip_plot(made.cases, made.legs, worst)


def test_a_wrong_form_uses_more_than_any_tolerance():
    assert used_share(case("c"), leg(complaint="x")) == math.inf
    assert used_share(case("c", sensitive=("y",)), leg(y=difference(math.inf))) == math.inf


def test_labels_of_lines_that_meet_are_kept_apart():
    made = report()

    drawing = growth_plot(made.growth)

    heights = [float(y) for y in re.findall(r'<text x="269.0" y="([\d.]+)"', drawing)]
    assert len(heights) == 3
    assert min(abs(a - b) for k, a in enumerate(heights) for b in heights[:k]) >= 13.9


def test_growth_of_a_single_short_run_can_be_drawn():
    assert "<polyline" in growth_plot(report().growth[:1])


def test_bars_stand_for_the_counts_and_leave_empty_powers_out():
    drawing = histogram_plot(report().histogram)

    bars = [float(h) for h in re.findall(r'height="([\d.]+)" class="bar"', drawing)]
    assert len(bars) == 2
    assert bars[0] / bars[1] == pytest.approx(5 / 3, rel=1e-3)
    assert "one rounding near 1" in drawing
    assert "one rounding" not in histogram_plot(Histogram(exponents=(-10, -9, -8), counts=(0, 4, 0), exact=0))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (0.5, "0.5"),
        (0.00123456, "0.00123"),
        (1234.5, "1234"),
        (999.4, "999"),
        (-999.7, "-1000"),
        (3.3134e-5, "3.31 \N{MULTIPLICATION SIGN} 10⁻⁵"),
        (-2e12, "-2.00 \N{MULTIPLICATION SIGN} 10¹²"),
        (math.inf, "not finite"),
        (math.nan, "not finite"),
    ],
)
def test_numbers_are_short(value, words):
    assert number(value).replace("\N{NO-BREAK SPACE}", " ") == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0 %"),
        (1e-6, "< 0.01 %"),
        (0.004, "0.4 %"),
        (0.0737, "7.4 %"),
        (0.5, "50 %"),
        (2.0, "200 %"),
        (4210.0, "4,210 times"),
        (3.19e6, "3.19 \N{MULTIPLICATION SIGN} 10⁶ times"),
        (math.inf, "beyond any tolerance"),
    ],
)
def test_shares_are_per_cent_or_times(value, words):
    assert percent(value).replace("\N{NO-BREAK SPACE}", " ") == words


def test_small_words():
    assert [listing([]), listing(["a"]), listing(["a", "b", "c"])] == ["nothing", "a", "a, b and c"]
    assert (power(2, -24), place((0, 1)), escape("<a b='c'>")) == ("2⁻²⁴", "[0, 1]", "&lt;a b=&#x27;c&#x27;&gt;")
    assert [share(1, 2), share(1, 0), share(0, 0), share(math.nan, 1)] == [0.5, math.inf, 0.0, math.inf]
