"""What --columns says, read: each argument with its width, and what else was told of it."""

import pytest
import torch

from cellgate.export.errors import SignatureError
from cellgate.export.foreign.columns import Column, read_columns, said


def test_width_alone_leaves_the_form_to_be_found() -> None:
    assert read_columns("x=3,delta=1") == (Column("x", 3), Column("delta", 1))


def test_axes_dtype_and_count_are_told_after_it() -> None:
    read = read_columns("x=3:BTI, delta=1:BT:float32:abs, kind=1:BT:int64:10, on=1:bool, place=2:BI")

    assert read == (
        Column("x", 3, "BTI"),
        Column("delta", 1, "BT", torch.float32, magnitude=True),
        Column("kind", 1, "BT", torch.int64, (10,)),
        Column("on", 1, None, torch.bool),
        Column("place", 2, "BI"),
    )


def test_what_is_told_of_the_numbers_leaves_the_dtypes_that_they_may_have() -> None:
    counted, magnitude = read_columns("kind=1:BT:10,delta=1:BT:abs")

    assert [form.dtype for form in counted.forms()] == [torch.float32, torch.int64]
    assert [form.dtype for form in magnitude.forms()] == [torch.float32]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "x=",
        "x=0",
        "x=-1",
        "x=3,",
        "3=x",
        "x=3:TBI",
        "x=3:float16",
        "x=1:bool:4",
        "x=1:int64:abs",
        "x=3 delta=1",
    ],
)
def test_other_forms_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(SignatureError, match=r"--columns: expected NAME=WIDTH.*, as x=3,delta=1:BT"):
        read_columns(text)


def test_argument_without_an_axis_for_columns_has_one() -> None:
    with pytest.raises(SignatureError, match=r"found 'x=3:BT'; write x=3:BTI"):
        read_columns("x=3:BT")


def test_argument_is_named_once() -> None:
    with pytest.raises(SignatureError, match="found x twice"):
        read_columns("x=3,x=1")


def test_forms_that_are_not_told_are_tried_vectors_first() -> None:
    assert [(form.axes, form.dtype) for form in Column("x", 1, None, torch.float32).forms()] == [
        ("BTI", torch.float32),
        ("BT", torch.float32),
        ("BI", torch.float32),
        ("B", torch.float32),
    ]
    assert [form.axes for form in Column("x", 2, None, torch.bool).forms()] == ["BTI", "BI"]


def test_whole_numbers_are_the_nearest_that_there_are() -> None:
    x = torch.tensor([[[-3.0], [1.6], [9.0]]])

    whole = Column("kind", 1, "BT", torch.int64, (4,)).cut(x, 0, 1)
    marks = Column("mask", 1, "BT", torch.float32, (2,)).cut(x, 0, 1)

    assert whole.dtype == torch.int64
    assert whole.tolist() == [[0, 2, 3]]
    assert marks.dtype == torch.float32
    assert marks.tolist() == [[0.0, 1.0, 1.0]]


def test_columns_of_one_argument_may_have_counts_of_their_own() -> None:
    (column,) = read_columns("place=2:BTI:int64:5/3")

    assert column.cut(torch.tensor([[[9.0, 9.0], [1.0, -1.0]]]), 0, 1).tolist() == [[[4, 2], [1, 0]]]
    with pytest.raises(SignatureError, match="expected one count for all columns of an argument or one for each"):
        read_columns("place=3:BTI:int64:5/3")


def test_sign_is_left_out_of_what_is_never_negative() -> None:
    assert Column("delta", 1, "BT", torch.float32, magnitude=True).cut(torch.tensor([[[-2.5]]]), 0, 1).tolist() == [
        [2.5]
    ]


def test_what_is_constant_is_read_from_the_first_step_wherever_steps_are() -> None:
    x = torch.arange(2 * 3 * 4.0).view(2, 3, 4)

    assert torch.equal(Column("place", 2, "BI").cut(x, 1, 1), x[:, 0, 1:3])
    assert torch.equal(Column("place", 1, "B").cut(x, 3, 0), x[0, :, 3])


def test_it_is_said_what_x_holds() -> None:
    columns = read_columns(
        "x=3:BTI:float32,kind=1:BT:int64:10,any=1:BT:int64,on=2:BI:bool,delta=1:BTI:abs,place=2:BI:int64:5/3"
    )

    assert said(columns) == (
        "x (3), kind (1, [B, T], whole numbers 0 to 9), any (1, [B, T], whole numbers), "
        "on (2, [B, 2], of the first step, 0 or 1), delta (1, never negative), "
        "place (2, [B, 2], of the first step, whole numbers 0 to 4, 0 to 2)"
    )
