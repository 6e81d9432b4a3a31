"""Golden cases there and back, and each way of not fitting the signature."""

from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellgate.bundle.errors import GoldenError
from cellgate.bundle.golden import GoldenCase, pack_golden, unpack_golden
from cellgate.bundle.manifest import GraphSignature, TensorSpec


def _arrays(case):
    return {f"in/{name}": array for name, array in case.inputs.items()} | {
        f"out/{name}": array for name, array in case.outputs.items()
    }


def _assert_same(found, expected):
    assert [case.id for case in found] == [case.id for case in expected]
    for one, other in zip(found, expected, strict=True):
        assert _arrays(one).keys() == _arrays(other).keys()
        for name, array in _arrays(other).items():
            assert _arrays(one)[name].dtype == array.dtype
            np.testing.assert_array_equal(_arrays(one)[name], array)


def test_packed_cases_come_back(cases, signature):
    _assert_same(unpack_golden(pack_golden(cases), signature), cases)


def test_cases_come_sorted_by_id_and_bytes_do_not_depend_on_order(cases, signature):
    data = pack_golden(reversed(cases))

    assert data == pack_golden(cases)
    assert [case.id for case in unpack_golden(data, signature)] == ["case-0", "case-1"]


def test_unpacked_arrays_cannot_be_written(cases, signature):
    array = unpack_golden(pack_golden(cases), signature)[0].inputs["x"]

    with pytest.raises(ValueError, match="read-only"):
        array[...] = 0


def test_strided_and_big_endian_arrays_are_stored_as_their_values(cases, signature):
    """safetensors takes the buffer as it lies in memory; a transposed view would come back as other numbers."""
    x = cases[1].inputs["x"]
    strided = np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    big = cases[1].inputs["h0"].astype(">f4")
    odd = replace(cases[1], inputs={**cases[1].inputs, "x": strided, "h0": big})

    assert not strided.flags.c_contiguous
    _assert_same(unpack_golden(pack_golden([odd]), signature), [cases[1]])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), B=st.integers(1, 4), T=st.integers(1, 6), dtype=st.sampled_from(["float32", "float16"]))
def test_any_lawful_case_comes_back(signature, data, B, T, dtype):
    sizes = {"B": B, "T": T}
    specs = {
        part: tuple(replace(spec, dtype=dtype if spec.dtype == "float32" else spec.dtype) for spec in specs)
        for part, specs in (("inputs", signature.inputs), ("outputs", signature.outputs))
    }
    finite = st.floats(-6e4, 6e4, width=16)

    def array(spec):
        shape = [sizes.get(axis, axis) for axis in spec.shape]
        values = st.integers(1, T) if spec.dtype == "int32" else finite
        count = int(np.prod(shape))
        return np.array(data.draw(st.lists(values, min_size=count, max_size=count)), spec.dtype).reshape(shape)

    case = GoldenCase(
        id="a",
        inputs={spec.name: array(spec) for spec in specs["inputs"]},
        outputs={spec.name: array(spec) for spec in specs["outputs"]},
    )

    _assert_same(unpack_golden(pack_golden([case]), replace(signature, **specs)), [case])


def _input(name, change):
    return lambda case: replace(case, inputs={**case.inputs, name: change(case.inputs[name])})


def _output(name, change):
    return lambda case: replace(case, outputs={**case.outputs, name: change(case.outputs[name])})


def _at(index, value):
    def change(array):
        changed = array.copy()
        changed[index] = value
        return changed

    return change


def _without(name):
    return lambda case: replace(case, inputs={key: array for key, array in case.inputs.items() if key != name})


_WRONG = {
    "input missing": (_without("h0"), "case-1/in: expected c0, h0, lengths, x, found c0, lengths, x"),
    "input unknown": (lambda case: replace(case, inputs={**case.inputs, "z": np.zeros(1)}), "case-1/in: .*found .*z"),
    "no outputs": (lambda case: replace(case, outputs={}), "case-1/out: expected c_n, h_n, y, found nothing"),
    "dtype": (
        _input("x", lambda a: a.astype(np.float64)),
        r"case-1/in/x: expected float32 .* found float64 \[2, 5, 2\]",
    ),
    "rank": (_output("y", lambda a: a[0]), r"case-1/out/y: expected float32 .* found float32 \[5, 3\]"),
    "fixed axis": (_input("h0", lambda a: a[..., :2]), r"case-1/in/h0: .* found \[1, 2, 2\]"),
    "two sizes for B": (_input("c0", lambda a: a[:, :1]), r"case-1/in/c0: .*'B': 2.* found \[1, 1, 3\]"),
    "two sizes for T": (_output("y", lambda a: a[:, :4]), r"case-1/out/y: .*'T': 5.* found \[2, 4, 3\]"),
    "empty batch": (_input("x", lambda a: a[:0]), r"case-1/in/x: .* found \[0, 5, 2\]"),
    "NaN": (_output("y", _at((1, 2, 0), np.nan)), r"case-1/out/y: expected finite values, found nan at \[1, 2, 0\]"),
    "infinite": (_input("x", _at((0, 0, 1), -np.inf)), r"case-1/in/x: .* found -inf at \[0, 0, 1\]"),
    "length 0": (_input("lengths", _at(0, 0)), r"case-1/in/lengths: expected values in 1 .. 5, found 0 .. 5"),
    "length over T": (_input("lengths", _at(1, 6)), r"case-1/in/lengths: expected values in 1 .. 5, found 5 .. 6"),
}


@pytest.mark.parametrize("name", _WRONG)
def test_case_that_does_not_fit_is_refused(cases, signature, name):
    change, expected = _WRONG[name]

    with pytest.raises(GoldenError, match=expected):
        unpack_golden(pack_golden([cases[0], change(cases[1])]), signature)


@pytest.mark.parametrize(("token", "fits"), [(-1, False), (0, True), (6, True), (7, False)])
def test_tokens_must_be_in_the_vocabulary(token, fits):
    signature = GraphSignature(
        inputs=(TensorSpec(name="tokens", dtype="int64", shape=("B", "T")),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("B", 2)),),
        sequence="tokens",
        lengths=None,
        vocabulary_size=7,
    )
    case = GoldenCase(id="a", inputs={"tokens": np.array([[3, token]])}, outputs={"y": np.zeros((1, 2), np.float32)})
    data = pack_golden([case])

    if fits:
        assert unpack_golden(data, signature)[0].inputs["tokens"].tolist() == [[3, token]]
    else:
        with pytest.raises(GoldenError, match=r"a/in/tokens: expected values in 0 .. 6"):
            unpack_golden(data, signature)


@pytest.mark.parametrize(
    ("steps", "length", "complaint"),
    [
        (3, 3, None),
        (5, 3, None),
        (2, 2, r"a/in/x: expected at least 3 steps, found 2"),
        (5, 2, r"a/in/lengths: expected values in 3 .. 5, found 2 .. 2"),
    ],
)
def test_cases_have_the_steps_that_the_network_needs(steps, length, complaint):
    signature = GraphSignature(
        inputs=(
            TensorSpec(name="x", dtype="float32", shape=("B", "T", 1)),
            TensorSpec(name="lengths", dtype="int32", shape=("B",)),
        ),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("B", 2)),),
        sequence="x",
        lengths="lengths",
        least_steps=3,
    )
    inputs = {"x": np.zeros((1, steps, 1), np.float32), "lengths": np.array([length], np.int32)}
    data = pack_golden([GoldenCase(id="a", inputs=inputs, outputs={"y": np.zeros((1, 2), np.float32)})])

    if complaint is None:
        assert unpack_golden(data, signature)[0].inputs["x"].shape[1] == steps
    else:
        with pytest.raises(GoldenError, match=complaint):
            unpack_golden(data, signature)


def test_no_cases_are_refused_on_both_sides(signature):
    with pytest.raises(GoldenError, match="at least one"):
        pack_golden([])
    with pytest.raises(GoldenError, match="at least one"):
        unpack_golden(safetensors.numpy.save({}), signature)


def test_id_twice_is_refused(cases):
    with pytest.raises(GoldenError, match="case-0: expected every id once"):
        pack_golden([cases[0], cases[0]])


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "a\n"])
def test_names_that_would_not_come_back_are_refused(cases, name):
    with pytest.raises(GoldenError, match="expected keys"):
        pack_golden([replace(cases[0], id=name)])
    with pytest.raises(GoldenError, match="expected keys"):
        pack_golden([replace(cases[0], inputs={name: np.zeros(1)})])


@pytest.mark.parametrize("key", ["x", "a/x", "a/mid/x", "a/in/", "/in/x", "a/in/x/y", "a/in/../x"])
def test_keys_of_another_form_are_refused(signature, key):
    with pytest.raises(GoldenError, match="expected keys"):
        unpack_golden(safetensors.numpy.save({key: np.zeros(1, np.float32)}), signature)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "BF16", "F4", "C64", "X1"])
def test_dtypes_of_no_signature_are_refused(signature, dtype):
    header = b'{"a/in/x":{"dtype":"%s","shape":[2,2,2],"data_offsets":[0,8]}}' % dtype.encode()
    data = len(header).to_bytes(8, "little") + header + bytes(8)

    with pytest.raises(GoldenError):
        unpack_golden(data, signature)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_mutated_bytes_are_cases_or_refused(cases, signature, data):
    whole = pack_golden(cases)
    at = data.draw(st.integers(0, len(whole)))
    upto = data.draw(st.integers(at, min(at + 12, len(whole))))
    mutated = whole[:at] + data.draw(st.binary(max_size=6)) + whole[upto:]
    try:
        found = unpack_golden(mutated, signature)
    except GoldenError:
        return

    assert all(np.isfinite(array).all() for case in found for array in _arrays(case).values())


@given(data=st.binary(max_size=120))
def test_any_bytes_are_refused(data):
    with pytest.raises(GoldenError):
        unpack_golden(data, GraphSignature(inputs=(), outputs=(), sequence="x", lengths=None))


@pytest.mark.parametrize(("frames", "fits"), [(2, True), (1, False), (3, False), (5, False)])
def test_answer_has_the_steps_that_are_left(frames, fits):
    signature = GraphSignature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=("B", "T", 1)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("B", "(T-1)//2", 2)),),
        sequence="x",
        lengths=None,
        least_steps=3,
    )
    y = np.zeros((1, frames, 2), np.float32)
    data = pack_golden([GoldenCase(id="a", inputs={"x": np.zeros((1, 5, 1), np.float32)}, outputs={"y": y})])

    if fits:
        assert unpack_golden(data, signature)[0].outputs["y"].shape == (1, 2, 2)
    else:
        with pytest.raises(GoldenError, match=r"a/out/y: expected float32 \['B', '\(T-1\)//2', 2\]"):
            unpack_golden(data, signature)


@pytest.mark.parametrize(("steps", "fits"), [(4, True), (5, False)])
def test_case_has_no_more_steps_than_the_network_takes(steps, fits):
    signature = GraphSignature(
        inputs=(TensorSpec(name="x", dtype="float32", shape=("B", "T", 1)),),
        outputs=(TensorSpec(name="y", dtype="float32", shape=("B", 2)),),
        sequence="x",
        lengths=None,
        most_steps=4,
    )
    x, y = np.zeros((1, steps, 1), np.float32), np.zeros((1, 2), np.float32)
    data = pack_golden([GoldenCase(id="a", inputs={"x": x}, outputs={"y": y})])

    if fits:
        assert unpack_golden(data, signature)[0].inputs["x"].shape == (1, 4, 1)
    else:
        with pytest.raises(GoldenError, match="a/in/x: expected at most 4 steps, found 5"):
            unpack_golden(data, signature)
