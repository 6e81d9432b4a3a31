"""Modules of several inputs, cut out of one sequence by --columns: each argument gets what its form says."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import SignatureError, UnsupportedLayerError
from cellgate.export.exportable import Exportable, prepare
from cellgate.export.foreign.columns import read_columns
from cellgate.export.options import ExportOptions
from cellgate.export.pipeline import build, verify_artefacts
from cellgate.export.proof.verify import VerifyOptions
from cellgate.export.torchscript import export_torchscript

from .several_inputs import (
    Acts,
    Aged,
    Answered,
    ByPlace,
    Chooses,
    Decayed,
    Filled,
    Mixed,
    NeedsItsState,
    Places,
    Resets,
    Speaker,
    Steps,
    StepsFirst,
    Streams,
)

pytestmark = pytest.mark.long

B, T = 3, 6
ALL = "x=3,delta=1,tokens=1,static=2"  # of Mixed


def prepared(module: nn.Module, columns: str, **how: Any) -> Exportable:
    return prepare(module, columns=read_columns(columns), **how)


def run(exported: Any, exportable: Exportable, x: Tensor) -> np.ndarray:
    """Return y of the graph for whole rows, from zero state."""
    graph = exported(exportable)
    given = [torch.full((len(x),), x.size(1), dtype=torch.int32)] if exportable.signature.lengths else []
    states = [torch.zeros_like(state) for state in exportable.example(len(x), x.size(1))[1 + len(given) :]]
    return graph.run(*(tensor.numpy() for tensor in (x, *given, *states)))[0]  # type: ignore[no-any-return]


def side_by_side(*parts: Tensor) -> Tensor:
    """Return x [B, T, I] of parts [B, T, width], [B, T], or constant ones with a single step."""
    whole = [(part.unsqueeze(-1) if part.dim() == 2 else part).float() for part in parts]
    return torch.cat([part.expand(-1, T, -1) for part in whole], 2)


def test_each_argument_gets_its_columns_in_the_form_that_the_module_takes(exported: Any) -> None:
    module = Mixed().eval()
    exportable = prepared(module, ALL)
    x, delta, static = torch.randn(B, T, 3), torch.rand(B, T), torch.randn(B, 2)
    tokens = torch.randint(0, 10, (B, T))

    actual = run(exported, exportable, side_by_side(x, delta, tokens, static.unsqueeze(1)))

    with torch.no_grad():
        np.testing.assert_allclose(actual, module(x, delta, tokens, static).numpy(), atol=2e-6)
    assert exportable.description["columns"] == (
        "x (3), delta (1, [B, T]), tokens (1, [B, T], whole numbers 0 to 9), static (2, [B, 2], of the first step)"
    )


def test_what_is_told_is_what_is_found(exported: Any) -> None:
    module = Mixed().eval()

    found = prepared(module, ALL)
    told = prepared(module, "x=3:BTI:float32,delta=1:BT,tokens=1:BT:int64:10,static=2:BI")

    assert told.description == found.description


def test_torchscript_cuts_as_the_graph_does() -> None:
    module = Mixed().eval()
    exportable = prepared(module, ALL)

    compiled = export_torchscript(exportable)

    assert compiled.module is not None, compiled.reason
    x = torch.randn(B, T, 7) * 4
    with torch.no_grad():
        expected = module(x[..., :3], x[..., 3], x[..., 4].round().clamp(0, 9).long(), x[:, 0, 5:])
        torch.testing.assert_close(compiled.module(x), expected)


NUMBERS = torch.Generator().manual_seed(5)
VALUES = torch.randn(B, T, 4, generator=NUMBERS)
ONES = torch.randint(0, 2, (B, T, 4), generator=NUMBERS)
SPOKEN = torch.tensor([6, 0, 3])


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("module", "columns", "parts", "given"),
    [
        pytest.param(
            Decayed(),
            "values=4,mask=4,delta=4",
            (VALUES, ONES, VALUES.abs()),
            (VALUES, ONES.float(), VALUES.abs()),
            id="a loop",
        ),
        pytest.param(
            Aged(),
            "x=3,age=1:abs",
            (VALUES[..., :3], VALUES[..., 3].abs()),
            (VALUES[..., :3], VALUES[..., 3].abs()),
            id="times",
        ),
        pytest.param(Answered(), "q=1,r=1", (ONES[..., 0] + 9, ONES[..., 1]), None, id="tokens alone"),
        pytest.param(
            Answered(joint=True),
            "q=1:int64:11,r=1:int64:2",
            (ONES[..., 0] + 9, ONES[..., 1]),
            None,
            id="tokens of one table, told",
        ),
        pytest.param(
            Speaker(),
            "mel=6,speaker_id=1",
            (torch.cat([VALUES, VALUES[..., :2]], 2), SPOKEN.view(B, 1, 1)),
            (torch.cat([VALUES, VALUES[..., :2]], 2), torch.full((B,), T), SPOKEN),
            id="one number a sequence",
        ),
        pytest.param(Filled(), "values=4,missing=4", (VALUES, ONES), (VALUES, ONES.bool()), id="bool"),
        pytest.param(
            StepsFirst(),
            "x=4,delta=1,static=2",
            (VALUES, VALUES[..., 0], VALUES[:, :1, :2]),
            (VALUES.transpose(0, 1), VALUES[..., 0].t(), VALUES[:, 0, :2]),
            id="steps first",
        ),
        pytest.param(ByPlace(), "x=2,delta=1", (VALUES[..., :2], VALUES[..., 2:3]), None, id="by place"),
    ],
)
def test_modules_of_several_inputs_give_in_onnxruntime_what_they_give_by_themselves(
    exported: Any, module: nn.Module, columns: str, parts: Sequence[Tensor], given: Sequence[Tensor] | None
) -> None:
    module = module.eval()

    actual = run(exported, prepared(module, columns), side_by_side(*parts))

    with torch.no_grad():
        expected = module(*(parts if given is None else given))
    expected = expected.transpose(0, 1) if isinstance(module, StepsFirst) else expected
    np.testing.assert_allclose(actual, expected.numpy(), atol=3e-6)


@pytest.mark.parametrize(("module", "columns"), [(Acts(), "obs=5,last_action=1,reward=1"), (Steps(), "obs=5,before=2")])
def test_state_stays_an_argument_of_its_own(exported: Any, module: nn.Module, columns: str) -> None:
    graph = exported(prepared(module, columns))

    assert [pair.input for pair in graph.exportable.signature.state] == ["h0", "c0"]
    assert graph.largest_difference() < 2e-6
    assert export_torchscript(graph.exportable).reason == ""


def test_whole_numbers_of_a_single_step_are_told_how_many_they_are_or_refused() -> None:
    module = Chooses().eval()
    with pytest.raises(SignatureError, match=r"and how many whole numbers there are, as .*kind=1:BT:int64:10"):
        prepared(module, "obs=3,before=1:BT:int64")

    network = prepared(module, "obs=3,before=1:BT:int64:4").network
    obs, before, h = torch.randn(B, T, 3), torch.arange(B * T).view(B, T) % 4, torch.zeros(B, 5)
    with torch.no_grad():
        actual = network(side_by_side(obs, before))[0]
        for t in range(T):
            h = module(obs[:, t], before[:, t], h)
            torch.testing.assert_close(actual[:, t], h)


def test_layer_in_a_loop_that_needs_its_state_is_told_why_and_the_remedy_works(exported: Any) -> None:
    with pytest.raises(
        UnsupportedLayerError, match=r"runs its recurrent layers in a loop .* needs hidden.*default None"
    ):
        prepared(NeedsItsState(), "obs=5,masks=1:2")

    module = Resets().eval()
    obs, masks = torch.randn(B, T, 5), torch.tensor([[1.0] * T, [1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 0, 1]])
    actual = run(exported, prepared(module, "obs=5,masks=1:2"), side_by_side(obs, masks))

    with torch.no_grad():
        np.testing.assert_allclose(actual, module(obs, masks)[0].numpy(), atol=2e-6)


@pytest.mark.covering("laws-alone")
@pytest.mark.parametrize("case", ["B5-T17-ragged", "B2-T24-saturated", "laws-alone"])
def test_every_form_of_it_is_compared_like_that_of_any_network(case: str) -> None:
    options = ExportOptions(name="mixed", columns=read_columns(ALL), verify=VerifyOptions(only_case=case))

    report = verify_artefacts(build(Mixed(), options), options)

    assert report.verdict == "equivalent"
    assert "torchscript" in {leg.name for leg in report.legs if not leg.complaint}


def test_columns_of_one_argument_are_counted_one_by_one(exported: Any) -> None:
    module = Places().eval()
    exportable = prepared(module, "x=2,place=2")
    x, place = torch.randn(B, T, 2), torch.tensor([[4, 0], [0, 2], [3, 1]])

    actual = run(exported, exportable, side_by_side(x, place.unsqueeze(1)))

    assert (
        exportable.description["columns"] == "x (2), place (2, [B, 2], of the first step, whole numbers 0 to 4, 0 to 2)"
    )
    with torch.no_grad():
        np.testing.assert_allclose(actual, module(x, place).numpy(), atol=2e-6)
    assert export_torchscript(exportable).reason == ""


@pytest.mark.parametrize("streams", [2, 6])
def test_streams_of_tokens_are_found_however_many_they_are(streams: int) -> None:
    module = Streams(streams).eval()

    exportable = prepared(module, ",".join(["x=3", *(f"{name}=1" for name in "abcdef"[:streams])]))

    assert exportable.description["columns"].endswith(f"(1, [B, T], whole numbers 0 to {streams + 1})")
    assert len(exportable.signature.columns) == streams + 1
