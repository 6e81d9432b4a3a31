"""The verdict follows from the records, and the JSON says all of it in JSON's own words."""

import json
import math

import pytest

from cellgate.export.proof.report import REPORT_VERSION

from ..report_sample import LAWS, case, difference, law, leg, report


def test_all_within_tolerance_is_equivalent():
    made = report()

    assert made.verdict == "equivalent"
    assert made.failures() == []
    assert (made.worst().case, made.worst().leg, made.worst().output) == ("B2-T3", "onnxruntime", "y")
    assert made.worst().max_abs == 5e-7


def test_one_value_beyond_its_tolerance_is_not_equivalent():
    made = report(case("good", leg(y=difference(1e-9))), case("bad", leg(y=difference(3e-6))))

    assert made.verdict == "not equivalent"
    assert [failure.case for failure in made.failures()] == ["bad"]
    assert made.worst().index == (0, 1)


def test_failures_come_worst_first_by_share_of_their_tolerance():
    made = report(
        case("twice", leg(y=difference(2e-6))),
        case("form", leg(complaint="outputs are none, expected y")),
        case("thrice", leg(y=difference(3e-9, 1e-9))),
    )

    assert [failure.case for failure in made.failures()] == ["form", "thrice", "twice"]
    assert made.worst().complaint == "outputs are none, expected y"


@pytest.mark.parametrize("tolerance", [1.0, math.inf])
@pytest.mark.parametrize("sensitive", [(), ("y",)])
def test_what_is_not_finite_fails_whatever_is_allowed(sensitive, tolerance):
    made = report(case("bad", leg(y=difference(math.inf, tolerance)), sensitive=sensitive))

    assert made.verdict == "not equivalent"


def test_an_error_that_is_not_a_number_fails():
    assert report(case("bad", leg(y=difference(math.nan)))).verdict == "not equivalent"


def test_a_zero_tolerance_is_kept_by_no_error_only():
    assert report(case("exact", leg(y=difference(0.0, 0.0)))).verdict == "equivalent"
    assert report(case("off", leg(y=difference(1e-30, 0.0)))).verdict == "not equivalent"


def test_a_sensitive_output_is_not_bounded_and_the_network_is_called_sensitive():
    made = report(case("B2-T300", leg(y=difference(0.5), h_n=difference(1e-7)), sensitive=("y",)))

    assert made.verdict == "sensitive"
    assert made.worst().output == "h_n"


def test_a_report_of_a_sensitive_output_alone_has_it_as_its_worst():
    assert report(case("B2-T300", leg(y=difference(0.5)), sensitive=("y",)), laws=()).worst().output == "y"


@pytest.mark.parametrize("magnitude", ["denormal", "saturated"])
def test_a_network_sensitive_to_adversarial_sequences_alone_is_not_called_so(magnitude):
    made = report(case("B2", leg(y=difference(0.5)), sensitive=("y",), magnitude=magnitude))

    assert made.verdict == "equivalent"


def test_a_failure_beside_a_sensitive_case_is_a_failure():
    made = report(case("chaos", leg(y=difference(0.5)), sensitive=("y",)), case("bad", leg(y=difference(1.0))))

    assert made.verdict == "not equivalent"


@pytest.mark.parametrize("name", ["alone", "padding", "order"])
def test_a_broken_law_is_not_equivalent(name):
    laws = tuple(law(name, passed=False, max_abs=0.1) if each.name == name else each for each in LAWS)

    made = report(laws=laws)

    assert made.verdict == "not equivalent"
    assert made.worst().case == f"laws-{name}"
    assert made.worst().complaint == f"law broken: {name} does not matter, but differs by 0.1"


def test_broken_chunks_make_a_network_that_is_not_streamable_and_nothing_worse():
    made = report(laws=(*LAWS[:3], law("chunks", passed=False, bitwise=False, max_abs=0.5)))

    assert made.verdict == "equivalent"
    assert not made.streamable


def test_streamable_is_never_assumed():
    assert report().streamable
    assert not report(laws=()).streamable
    assert not report(laws=(law("chunks", applies=False),)).streamable


def test_bits_are_claimed_only_for_laws_that_were_tried():
    assert report().is_bitwise("alone", "padding")
    assert not report(laws=(law("alone", bitwise=False), law("order"))).is_bitwise("alone", "order")
    assert report(laws=(law("alone"), law("padding", applies=False, bitwise=False))).is_bitwise("alone", "padding")
    assert not report(laws=()).is_bitwise("alone")


def test_a_report_of_nothing_has_no_worst():
    with pytest.raises(ValueError, match="holds no comparison"):
        _ = report(cases=(), laws=()).worst()


def test_json_holds_the_verdict_the_worst_and_every_record():
    made = report()

    found = json.loads(made.to_json())

    assert found["report_version"] == REPORT_VERSION
    assert (found["verdict"], found["streamable"]) == ("equivalent", True)
    assert (found["bitwise_rows"], found["bitwise_chunks"]) == (True, True)
    assert found["worst"]["case"] == "B2-T3"
    assert found["cases"][1]["legs"][1]["outputs"]["y"]["max_abs"] == 5e-7
    assert {"network", "oracle", "legs", "laws", "growth", "histogram", "control", "tools"} <= set(found)


def test_json_is_the_same_bytes_sorted_and_without_numbers_that_json_has_not():
    made = report(case("bad", leg(y=difference(math.nan, found=math.nan)), leg("eager", y=difference(math.inf))))

    text = made.to_json().decode()

    assert text == made.to_json().decode()
    assert text.endswith("}\n")
    assert json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n" == text
    assert '"inf"' in text
    assert '"nan"' in text
    assert "NaN" not in text
    assert "Infinity" not in text
