"""What a graph says in another form than torch gives what torch's own gives, for every number of steps."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cellgate.export.graph.free_pooling import free_form_of
from cellgate.export.graph.free_twins import linspace

E = 4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": (torch.arange(7) < 5).expand(7, 7)},
        {"attn_mask": (torch.arange(7) < torch.tensor([[3], [7]])).unsqueeze(1)},
    ],
    ids=["plain", "causal", "scaled", "mask-of-all", "mask-of-each-row"],
)
@pytest.mark.parametrize("heads", [(), (3,)])
def test_attention_is_that_of_torch(heads: tuple[int, ...], options: dict[str, Any]) -> None:
    query, key, value = (torch.randn(2, *heads, 7, E, dtype=torch.float64) for _ in range(3))
    if heads and "attn_mask" in options and options["attn_mask"].dim() > 2:
        options = {"attn_mask": options["attn_mask"].unsqueeze(1)}
    attend = functional.scaled_dot_product_attention

    found = free_form_of(attend)(query, key, value, **options)

    assert torch.allclose(found, attend(query, key, value, **options), rtol=1e-12, atol=1e-12)


class Attending(nn.Module):
    """Weighs the steps of its layer by a causal attention without heads, and by how far the sequence is."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, E, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rnn(x)[0]
        place = torch.linspace(0, 1, steps=x.shape[1], device=x.device).unsqueeze(-1)
        return functional.scaled_dot_product_attention(y, y, y, is_causal=True) * place


def test_both_are_exported_and_the_ramp_is_torchs_for_every_length(exported: Any) -> None:
    module = Attending().eval()

    graph = exported(module)

    for steps in range(1, 40):
        x = torch.randn(2, steps, 3)
        with torch.no_grad():
            expected = module(x).numpy()
        assert abs(graph.run(x.numpy(), torch.zeros(1, 2, E).numpy())[0] - expected).max() < 2e-6


def test_ramp_of_a_plain_number_of_steps_is_torchs_own() -> None:
    assert torch.equal(linspace(-1, 2, 7), torch.linspace(-1, 2, 7))


@pytest.mark.parametrize("function", [torch.median, torch.kthvalue])
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("keepdim", [False, True])
def test_what_stands_in_the_middle_is_that_of_torch(function: Any, named: bool, keepdim: bool) -> None:
    for steps in (1, 2, 3, 8):
        signal = torch.randn(2, steps, E)
        k = () if function is torch.median else (1 + steps // 3,)
        options = {"dim": 1, "keepdim": keepdim} if named else {}
        places = () if named else (1, keepdim)

        found = free_form_of(function)(signal, *k, *places, **options)

        expected = function(signal, *k, *places, **options)
        assert torch.equal(found.values, expected.values)
        assert torch.equal(found.indices, expected.indices)
    assert free_form_of(torch.median)(signal) == signal.median()


class Middles(nn.Module):
    """Answers with the median over the steps and the least of them."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, E, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rnn(x)[0]
        return torch.cat([torch.median(input=y, dim=1).values, torch.kthvalue(y, 1, 1)[0]], 1)


def test_median_over_time_is_exported_for_every_length(exported: Any) -> None:
    module = Middles().eval()

    graph = exported(module)

    for rows, steps in ((1, 1), (2, 2), (3, 7), (1, 40)):
        x = torch.randn(rows, steps, 3)
        with torch.no_grad():
            expected = module(x).numpy()
        assert abs(graph.run(x.numpy(), torch.zeros(1, rows, E).numpy())[0] - expected).max() < 2e-6
