"""A report in words: what is rounded, and what is said where there is nothing to compare with."""

import math
from dataclasses import replace

import pytest

from cellgate.command.report_text import (
    comparison_rows,
    control_ratio,
    control_words,
    law_rows,
    naming,
    summary_fields,
    summary_rows,
    worst_words,
)
from cellgate.export.proof.compare import Difference
from cellgate.export.proof.findings import CaseResult, Control, Histogram, LegFact, LegResult, Worst
from cellgate.export.proof.laws import LawResult
from cellgate.export.proof.report import Report

GOOD = Difference(
    max_abs=1e-7,
    index=(0, 1),
    expected=1.0,
    found=1.0,
    ulps=0.8,
    p50=0.0,
    p90=0.0,
    p99=0.0,
    tolerance=1e-6,
    passed=True,
)
NO_CONTROL = Control(complaint="not applicable: no such layer", ours={}, theirs={}, bound={}, passed=True)


def make_report(*legs, control=NO_CONTROL, laws=(), sensitive=()):
    case = CaseResult(
        id="B1-T3", rows=1, steps=3, ragged=False, state="zero", magnitude="normal", sensitive=sensitive, legs=legs
    )
    facts = (
        LegFact(name="onnxruntime", complaint="", max_abs={}),
        LegFact(name="torchscript", complaint="NotSupportedError: lambda", max_abs={}),
    )
    return Report(
        network={},
        oracle="the oracle",
        legs=facts,
        cases=(case,),
        laws=laws,
        growth=(),
        histogram=Histogram(exponents=(), counts=(), exact=0),
        control=control,
        tools={},
    )


def leg(**outputs):
    return LegResult(leg="onnxruntime", rows=1, complaint=None, outputs=outputs)


def test_rows_name_what_ran_what_did_not_and_what_is_chaotic():
    rows = dict(summary_rows(make_report(leg(y=GOOD, h_n=GOOD), sensitive=("h_n",))))

    assert rows["verdict"] == "sensitive: 1 cases, onnxruntime against the oracle"
    assert rows["worst"] == ("y[0, 1] of onnxruntime in case B1-T3 is off by 1e-07 (0.8 ULP), 10% of the 1e-06 allowed")
    assert rows["sensitive"] == "1 of 1 cases, where float32 itself means nothing"
    assert rows["streamable"].startswith("no: the network carries no state")
    assert rows["control"] == "no layer of torch.nn to compare with: no such layer"
    assert rows["not run"] == "torchscript: NotSupportedError: lambda"


@pytest.mark.parametrize(
    ("max_abs", "tolerance", "words"),
    [
        (math.inf, 1.0, "more than the 1 allowed"),
        (1.0, 0.0, "more than the 0 allowed"),
        (9.0, 1.0, "900% of the 1 allowed"),
        (4e5, 2.0, "200,000 times the 2 allowed"),
    ],
)
def test_a_share_is_told_as_it_reads_best_and_none_of_what_is_infinite_or_not_allowed_at_all(max_abs, tolerance, words):
    worst = Worst(case="c", leg="l", output="y", max_abs=max_abs, tolerance=tolerance, index=(), ulps=1.0)

    assert words in worst_words(worst)


@pytest.mark.parametrize(("ulps", "said"), [(12.0, True), (46755988.9, False)])
def test_ulps_are_told_where_they_tell_something(ulps, said):
    worst = Worst(case="c", leg="l", output="y", max_abs=1.0, tolerance=1.0, index=(), ulps=ulps)

    assert ("ULP" in worst_words(worst)) is said


def test_a_complaint_is_the_worst():
    worst = Worst(
        case="c", leg="l", output="", max_abs=0.0, tolerance=0.0, index=(), ulps=0.0, complaint="outputs are z"
    )

    assert worst_words(worst) == "l in case c: outputs are z"


def test_comparisons_show_complaints_and_chaos():
    legs = (LegResult(leg="eager", rows=1, complaint="y has shape (1,)", outputs={}), leg(y=GOOD, h_n=GOOD))
    rows = [tuple(row) for row in comparison_rows(make_report(*legs, sensitive=("h_n",)))]

    assert rows[0] == ("eager", "", "y has shape (1,)", "", "", "", "no")
    assert [row[-1] for row in rows[1:]] == ["yes", "sensitive"]
    assert "no" in [row[-1] for row in comparison_rows(make_report(leg(y=replace(GOOD, passed=False))))]


@pytest.mark.parametrize(
    ("ours", "theirs", "passed", "ratio", "words"),
    [
        (1.0, 2.0, True, 0.5, "up to 0.50 times those of torch.nn's layer, within the aim of 2 times plus one ULP"),
        (3.0, 1.0, False, 3.0, "up to 3.00 times those of torch.nn's layer, above the aim of 2 times plus one ULP"),
        (3.0, 1.0, False, 3.0, "far within what is allowed; --float64-gates brings them down"),
        (0.0, 0.0, True, None, "as exact as torch.nn's own layer"),
        (1.0, 0.0, True, math.inf, "up to inf times"),
    ],
)
def test_the_control_is_a_ratio(ours, theirs, passed, ratio, words):
    control = Control(complaint="", ours={"y": ours}, theirs={"y": theirs}, bound={"y": 0.0}, passed=passed)
    report = make_report(leg(y=GOOD), control=control)

    assert control_ratio(report) == ratio
    assert words in control_words(report)
    assert summary_fields(report)["control_passed"] is passed


@pytest.mark.parametrize(
    ("passed", "words"),
    [(True, "yes: chunks with carried state gave"), (False, "no: chunks with carried state differ from one pass by 1")],
)
def test_chunks_decide_whether_it_streams(passed, words):
    law = LawResult(
        name="chunks", statement="s", applies=True, comparisons=3, max_abs=1.0, passed=passed, bitwise=False
    )

    assert dict(summary_rows(make_report(leg(y=GOOD), laws=(law,))))["streamable"].startswith(words)


def test_progress_calls_a_case_a_case():
    seen = []
    named = naming(lambda *step: seen.append(step))
    for what in ("TorchScript", "B1-T3", "laws"):
        named(what, 1, 2)

    assert [what for what, _, _ in seen] == [
        "TorchScript",
        "case B1-T3",
        "alone and in batches, padded and not, whole and in chunks",
    ]


def test_a_law_that_could_not_be_checked_shows_what_stopped_it():
    law = LawResult(
        name="alone", statement="rows", applies=True, max_abs=math.inf, passed=False, bitwise=False, complaint="stopped"
    )

    assert list(law_rows([law])) == [("rows", 0, "stopped", 0.0, "no", "no")]
