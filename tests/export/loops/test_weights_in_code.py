"""Loops whose code writes into its weights, keeps them in a dict, wants a GPU or squeezes the batch: taken as is."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from cellgate.export.errors import ExportError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.call_modes import CpuOnly

from .looped_modules import I
from .weights_in_code import (
    KeepsItsState,
    KeptWithinBounds,
    ProjectedLast,
    SentToTheGpu,
    SqueezedByName,
    WeightsInADict,
    WidthOfNoLayer,
)

pytestmark = pytest.mark.long


@pytest.mark.covering("batch-squeezed")
@pytest.mark.parametrize(
    ("make", "operators", "time_first"),
    [
        pytest.param(ProjectedLast, ["Scan", "Scan"], False, id="projected-last"),
        pytest.param(SentToTheGpu, ["Scan"], False, id="sent-to-the-gpu"),
        pytest.param(KeptWithinBounds, ["Scan"], False, id="weights-clamped"),
        pytest.param(WeightsInADict, ["Scan"], False, id="weights-in-a-dict"),
        pytest.param(SqueezedByName, ["Scan"], True, id="batch-squeezed"),
        pytest.param(KeepsItsState, ["Scan"], False, id="state-kept"),
        pytest.param(WidthOfNoLayer, ["Scan"], True, id="steps-first-width-of-no-layer"),
    ],
)
def test_graph_gives_what_the_module_gives(
    exported: Any, make: Callable[[], nn.Module], operators: list[str], time_first: bool
) -> None:
    torch.manual_seed(0)
    module = make().eval()
    exportable = prepare(copy.deepcopy(module))
    graph = exported(exportable)

    assert [layer.operator for layer in exportable.layers] == operators
    assert {"lengths", "h0"} <= {*graph.inputs}
    for rows, steps in ((1, 1), (2, 3), (3, 19)):
        x = torch.randn(rows, steps, I)
        with torch.no_grad(), CpuOnly():
            expected = copy.deepcopy(module)(x.transpose(0, 1) if time_first else x)
        zeros = [torch.zeros(1, rows, pair.shape[-1]).numpy() for pair in exportable.signature.inputs[2:]]
        found = graph.run(x.numpy(), torch.full((rows,), steps, dtype=torch.int32).numpy(), *zeros)[0]
        if time_first:
            expected = expected.reshape(steps, rows, -1).transpose(0, 1)
        assert float((expected - torch.from_numpy(found)).abs().max()) < 2e-6


def test_weights_that_each_step_changes_are_refused() -> None:
    class Fading(KeptWithinBounds):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.kept.data.mul_(0.9)
            return super().forward(x)

    with pytest.raises(
        ExportError, match=r"changes kept in every call, so that the next .*, as w = self\.kept\.clone\(\)"
    ):
        prepare(Fading())
