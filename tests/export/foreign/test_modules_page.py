"""The modules that docs/modules.md shows export, and their graphs give what they give."""

import re
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cellgate.export.exportable import prepare
from cellgate.export.foreign.columns import read_columns

pytestmark = pytest.mark.long

PAGE = (Path(__file__).parents[3] / "docs" / "modules.md").read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Return the page's code as a file of somebody's, for what is found of packing is found in the module's file."""
    file = tmp_path_factory.mktemp("page") / "modules_of_the_page.py"
    file.write_text("\n\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)))
    spec = spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[file.stem] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[file.stem]


def by_hand(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return what the module as the page has it says to whole rows."""
    name = type(module).__name__
    if name == "Packed":
        return module(x, torch.full((len(x),), x.size(1)))
    if name == "Pooled":
        return module(x, torch.ones(x.shape, dtype=torch.int64))
    if name == "Visits":
        return module(x[..., :3], x[..., 3], x[..., 4].round().long().clamp(0, 9), x[:, 0, 5:])
    if name == "TwoHeads":
        return torch.cat(list(module(x).values()), -1)
    if name != "OneStep":
        return module(x)
    state, outputs = module.init_hidden(len(x)), []  # type: ignore[operator]
    for step in x.unbind(1):
        output, state = module(step, state)
        outputs.append(output)
    return torch.stack(outputs, 1)


NAMES = ["Packed", "Keeps", "Pooled", "OwnLoop", "OneStep", "Visits", "OneInput", "TwoHeads", "Forecast", "Front"]
TOLD: dict[str, dict[str, Any]] = {
    "TwoHeads": {"answer": "logits,value"},
    "Visits": {"columns": read_columns("x=3,delta=1:BT,tokens=1:BT:int64:10,static=2:BI")},
    "OneInput": {"input_dim": 6},
}


@pytest.mark.covering("Front")
@pytest.mark.parametrize("name", NAMES)
def test_a_module_of_the_page_exports_and_its_graph_gives_what_it_gives(
    exported: Any, page: ModuleType, name: str
) -> None:
    module = getattr(page, name)().eval()
    graph = exported(prepare(module, **TOLD.get(name, {})))
    signature = graph.exportable.signature
    feeds = {
        spec.name: np.zeros_like(tensor) if any(spec.name == pair.input for pair in signature.state) else tensor.numpy()
        for spec, tensor in zip(signature.inputs, graph.exportable.example(3, 23), strict=True)
    }
    if signature.lengths is not None:
        feeds[signature.lengths][:] = 23

    actual = graph.run(*feeds.values())[0]

    if name == "Keeps":
        module.hidden = None
    with torch.no_grad():
        expected = by_hand(module, torch.from_numpy(feeds[signature.sequence])).numpy()
    assert actual.shape == expected.shape
    assert float(np.abs(actual - expected).max()) < 5e-6
