"""A forward written as text around a compiled module: every module gets its own, whatever was compiled before."""

import torch
from torch import Tensor, nn

from cellgate.export.script_around import script_around


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def test_modules_of_one_structure_are_compiled_into_forwards_of_their_own() -> None:
    first, second = (script_around(Doubled(), "net") for _ in range(2))

    first.define("def forward(self, x):\n    return self.net(x) + 1\n")
    second.define("def forward(self, x):\n    return self.net(x) - 1\n")

    x = torch.ones(3)
    assert torch.equal(first(x), torch.full((3,), 3.0))
    assert torch.equal(second(x), torch.full((3,), 1.0))
