"""The module around a network of several inputs that docs/modules.md shows: it exports, and is right."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cellgate.export.errors import SignatureError
from cellgate.export.exportable import prepare

pytestmark = pytest.mark.long

PAGE = Path(__file__).parents[3] / "docs" / "modules.md"


@pytest.fixture
def page() -> dict[str, Any]:
    """Return what the page's code defines; its modules find their code by the name of a module."""
    namespace: dict[str, Any] = {"__name__": __name__}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, f"<{PAGE.name}>", "exec"), namespace)
    return namespace


def test_inputs_cut_out_of_one_reach_the_network_as_they_were(exported: Any, page: dict[str, Any]) -> None:
    module = page["OneInput"]().eval()
    graph = exported(module, input_dim=7)
    lengths = torch.tensor([6, 2, 4])
    x, delta, static = torch.randn(3, 6, 3), torch.rand(3, 6), torch.randn(3, 2)
    tokens = torch.randint(0, 10, (3, 6))
    parts = [x, delta.unsqueeze(2), tokens.unsqueeze(2).float(), static.unsqueeze(1).expand(-1, 6, -1)]
    states = [np.zeros_like(tensor.numpy()) for tensor in graph.exportable.example(3, 6)[2:]]

    actual = graph.run(torch.cat(parts, 2).numpy(), lengths.int().numpy(), *states)[0]

    for row, count in enumerate(lengths.tolist()):
        given = (x[row : row + 1, :count], delta[row : row + 1, :count], tokens[row : row + 1, :count])
        with torch.no_grad():
            expected = module.net(*given, static[row : row + 1])
        assert float(np.abs(actual[row : row + 1] - expected.numpy()).max()) < 2e-6


def test_the_network_itself_is_refused_with_the_way_to_that_page(page: dict[str, Any]) -> None:
    network: nn.Module = page["Visits"]()

    with pytest.raises(SignatureError, match=r"needs 'delta'.*cuts it out of one x.*\(docs/modules.md, several"):
        prepare(network)
