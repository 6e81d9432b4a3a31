"""xLSTM's sLSTM (Beck et al. 2024, equations 8 to 17): exponential gates, whose stabiliser m is a state of its own."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from cellgate.export.exportable import prepare
from cellgate.export.options import ExportOptions
from cellgate.export.pipeline import build, verify_artefacts
from cellgate.export.proof.verify import VerifyOptions
from cellgate.model import SequenceModel

pytestmark = [pytest.mark.long, pytest.mark.no_cover]

I, H = 5, 6


def advance(gates: Tensor, c: Tensor, n: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return o, c, n and m of the next step; the forget gate is a sigmoid, taken as its logarithm."""
    z, i, f, o = gates.chunk(4, 1)
    log_f = F.logsigmoid(f)
    higher = torch.maximum(log_f + m, i)
    let_in, kept = torch.exp(i - higher), torch.exp(log_f + m - higher)
    return torch.sigmoid(o), kept * c + let_in * torch.tanh(z), kept * n + let_in, higher


class Cell(nn.Module):
    def __init__(self, input_dim: int, hidden_dim: int, *, least: float = 0.0) -> None:
        super().__init__()
        self.state_spec = tuple((name, hidden_dim) for name in "hcnm")
        self.input_layer = nn.Linear(input_dim, 4 * hidden_dim)
        self.hidden_layer = nn.Linear(hidden_dim, 4 * hidden_dim, bias=False)
        self.least = least

    def forward(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        h, c, n, m = state[0], state[1], state[2], state[3]
        o, c, n, m = advance(self.input_layer(x) + self.hidden_layer(h), c, n, m)
        h = o * c / torch.clamp(n.abs(), min=self.least)
        return h, [h, c, n, m]


class Loop(nn.Module):
    """In a forward of one's own, from m = -inf, which is the logarithm of nothing."""

    def __init__(self, least: float = 1.0) -> None:
        super().__init__()
        self.cell_input, self.recurrent = nn.Linear(I, 4 * H), nn.Linear(H, 4 * H, bias=False)
        self.head, self.least = nn.Linear(H, 3), least

    def forward(self, x: Tensor) -> Tensor:
        h = c = n = torch.zeros(x.size(0), H)
        m = torch.full((x.size(0), H), float("-inf"))
        seen = []
        for t in range(x.size(1)):
            o, c, n, m = advance(self.cell_input(x[:, t]) + self.recurrent(h), c, n, m)
            h = o * c / torch.clamp(n.abs(), min=self.least)
            seen.append(self.head(h))
        return torch.stack(seen, 1)


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64-gates"])
def test_cell_is_verified_from_large_states_and_saturated_gates(wide: bool) -> None:
    options = ExportOptions(name="slstm", float64_gates=wide, verify=VerifyOptions(drift_steps=300, threads=1))
    network = SequenceModel(I, H, 3, cell=Cell, least=1.0)

    report = verify_artefacts(build(network, options), options)

    assert (report.verdict, report.streamable) == ("equivalent", True)


def test_division_by_the_normaliser_itself_is_sensitive_to_a_given_state_and_not_refused() -> None:
    options = ExportOptions(name="slstm", verify=VerifyOptions(drift_steps=300, threads=1))
    network = SequenceModel(I, H, 3, cell=Cell)

    report = verify_artefacts(build(network, options), options)

    assert report.verdict in {"equivalent", "sensitive"}
    assert not any(case.sensitive for case in report.cases if case.state == "zero" and case.magnitude == "normal")


@pytest.mark.parametrize("scale", [1.0, 30.0], ids=["usual", "saturated"])
def test_loop_from_minus_infinity_gives_what_the_module_gives_row_by_row(exported: Any, scale: float) -> None:
    module = Loop().eval()
    graph = exported(prepare(module))
    lengths = np.array([90, 1, 17, 2], np.int32)
    x = (scale * np.random.default_rng(3).standard_normal((4, 90, I))).astype(np.float32)

    (y,) = graph.run(x, lengths)

    for row, count in enumerate(lengths):
        with torch.no_grad():
            expected = module(torch.from_numpy(x[row : row + 1, :count]))[0].numpy()
        np.testing.assert_allclose(y[row, :count], expected, atol=1e-5)
