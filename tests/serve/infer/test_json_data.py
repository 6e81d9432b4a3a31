import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cellgate.serve.errors import BadInput
from cellgate.serve.infer.json_data import array_from_json


@pytest.mark.parametrize("data", [[[1, 2.5], [3, -4]], [1, 2.5, 3, -4]], ids=["nested", "flat"])
def test_nested_and_flat_data_give_the_same_array(data):
    found = array_from_json("x", "FP32", (2, 2), data)

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[1, 2.5], [3, -4]])


@given(
    st.sampled_from(["float32", "int32", "int64"]).flatmap(
        lambda dtype: arrays.arrays(
            dtype,
            arrays.array_shapes(max_dims=4, max_side=4),
            elements={"allow_nan": False, "allow_infinity": False} if dtype == "float32" else None,
        )
    ),
    st.booleans(),
)
def test_an_array_written_as_json_comes_back_bit_for_bit(array, flat):
    datatype = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}[array.dtype.name]

    found = array_from_json("x", datatype, array.shape, (array.reshape(-1) if flat else array).tolist())

    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "message"),
    [
        pytest.param("FP32", (2,), 5, "expected an array of 2 numbers, found 5", id="scalar"),
        pytest.param("FP32", (2,), "ab", "expected an array of 2 numbers", id="string"),
        pytest.param("FP32", (2,), {"a": 1}, "expected an array of 2 numbers", id="object"),
        pytest.param("FP32", (2,), None, "expected an array of 2 numbers", id="null"),
        pytest.param("FP32", (2,), [], r"expected 2 elements for the shape \[2\], found 0", id="empty"),
        pytest.param("FP32", (2,), [1, 2, 3], "expected 2 elements .*, found 3", id="too-many"),
        pytest.param("FP32", (2, 2), [1, 2, 3], "expected 4 elements .*, found 3", id="too-few"),
        pytest.param("FP32", (2, 2), [[1, 2], [3]], "expected arrays of 2 at level 1 .*, found one of 1", id="ragged"),
        pytest.param("FP32", (2, 2), [[1, 2, 3], [4]], "expected arrays of 2 at level 1", id="ragged-same-count"),
        pytest.param("FP32", (2, 2), [[1, 2, 3, 4]], "expected arrays of 2 at level 0", id="other-shape"),
        pytest.param("FP32", (2, 3), [[1, 2], [3, 4], [5, 6]], "expected arrays of 2 at level 0", id="transposed"),
        pytest.param(
            "FP32", (2, 2), [[1, 2], 3], "expected 2 levels of nesting, .*, found a value at level 1", id="mix"
        ),
        pytest.param("FP32", (2,), [[1], [2]], r"expected only numbers \(FP32\), found \[1\] at \[0\]", id="too-deep"),
        pytest.param("FP32", (2, 1), [1, [2]], r"found \[2\] at \[1, 0\]", id="nested-late"),
        pytest.param("FP32", (2,), [1, True], r"found True at \[1\]", id="bool"),
        pytest.param("FP32", (2,), [1, None], r"found None at \[1\]", id="null-inside"),
        pytest.param("FP32", (2,), ["1", 2], r"found '1' at \[0\]", id="text"),
        pytest.param(
            "FP32", (2, 1), [1, 1e39], r"expected values that FP32 can hold, found 1e\+39 at \[1, 0\]", id="1e39"
        ),
        pytest.param("FP32", (1,), [-1e300], "expected values that FP32 can hold", id="-1e300"),
        pytest.param("FP32", (1,), [float("inf")], "expected values that FP32 can hold", id="inf"),
        pytest.param("INT64", (2,), [1, 2.0], r"expected only integers \(INT64\), found 2\.0 at \[1\]", id="fraction"),
        pytest.param("INT64", (1,), [False], "found False", id="bool-as-int"),
        pytest.param("INT64", (1,), [2**63], "values that INT64 can hold, found 9223372036854775808", id="2^63"),
        pytest.param("INT32", (2,), [1, 2**31], "values that INT32 can hold, found 2147483648", id="2^31"),
        pytest.param("INT32", (2,), [1, -(2**31) - 1], "found -2147483649", id="-2^31-1"),
        pytest.param(
            "FP16", (1,), [1.0], "datatype: expected one of FP32, INT32, INT64 in JSON, found 'FP16'", id="fp16"
        ),
        pytest.param("BYTES", (1,), ["a"], "found 'BYTES'", id="bytes"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_its_place(datatype, shape, data, message):
    with pytest.raises(BadInput, match=rf"inputs\.x.*{message}"):
        array_from_json("x", datatype, shape, data)


@pytest.mark.parametrize("shape", [(2**31 - 1,) * 8, (10**12,)])
def test_huge_shape_costs_nothing_but_a_comparison(shape):
    with pytest.raises(BadInput, match="elements for the shape"):
        array_from_json("x", "FP32", shape, [1.0])
