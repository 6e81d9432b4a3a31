"""Columns that do not fit, and modules of several inputs that are told none: each is refused with what helps."""

from typing import Any

import pytest
from torch import Tensor, nn

from cellgate.export.errors import SignatureError, SourceError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.columns import read_columns
from cellgate.model import SequenceModel

from .several_inputs import Aged, Answered, Filled, Mixed

ALL = "x=3,delta=1,tokens=1,static=2"  # of Mixed


@pytest.mark.parametrize(
    ("module", "columns", "how", "sentence"),
    [
        pytest.param(Mixed(), "x=3,dt=1", {}, r"no argument 'dt' for --columns, expected one of x,", id="name"),
        pytest.param(
            Mixed(), "x=3,delta=1", {}, r"needs 'tokens', .*--columns x=3,delta=1,tokens=WIDTH,static=", id="one left"
        ),
        pytest.param(
            Filled(),
            "values=4,missing=3",
            {},
            r"runs with no form of its inputs \(--columns values \(4\).*it said RuntimeError.*; give another width",
            id="width",
        ),
        pytest.param(
            Answered(joint=True), "q=1,r=1", {}, r"for the highest numbers .* together.*kind=1:BT:int64:10", id="joint"
        ),
        pytest.param(Aged(), "x=3,age=1", {}, r"gives NaN for 1 step.*never negative.*x=3:abs", id="narrower"),
        pytest.param(Mixed(), ALL, {"input_dim": 7}, "expected no --input-dim", id="width too"),
        pytest.param(Mixed(), ALL, {"told": {"sequence": "x"}}, "no --argument sequence", id="part too"),
    ],
)
def test_columns_that_do_not_fit_are_refused_with_what_does(
    module: nn.Module, columns: str, how: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SignatureError, match=sentence):
        prepare(module, columns=read_columns(columns), **how)


def test_network_of_this_house_has_one_input() -> None:
    with pytest.raises(SourceError, match="has one input, expected no --columns"):
        prepare(SequenceModel(3, 4, 2), columns=read_columns("x=3"))


def test_module_without_columns_is_told_of_them() -> None:
    with pytest.raises(SignatureError, match=r"needs 'delta'.*--columns x=WIDTH,delta=WIDTH,tokens=WIDTH,static="):
        prepare(Mixed())


def test_dict_is_told_what_helps() -> None:
    class Keyed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4, batch_first=True)

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return self.rnn(batch["x"])[0]  # type: ignore[no-any-return]

    with pytest.raises(
        SignatureError, match=r"\(--columns batch \(3\).*where forward takes a dict.*a module around it"
    ):
        prepare(Keyed(), columns=read_columns("batch=3"))
