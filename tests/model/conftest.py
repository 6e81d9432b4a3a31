"""What every test of the networks starts from: fixed random numbers, and the float64 reference as a judge."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cellgate.model import SequenceModel, run_reference

type_of_judge = Callable[..., float]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(20240229)


@pytest.fixture
def distance_to_reference() -> type_of_judge:
    """Return a function: largest |difference| of every output of a float64 network to the reference's."""

    def measure(
        network: SequenceModel, x: Tensor, lengths: Tensor | None = None, state: list[Tensor] | None = None
    ) -> float:
        with torch.no_grad():
            y, final = network(x, lengths, state)
        expected_y, expected_final = run_reference(
            network.describe(),
            {name: weight.numpy() for name, weight in network.state_dict().items()},
            x.numpy(),
            None if lengths is None else lengths.numpy(),
            None if state is None else [tensor.numpy() for tensor in state],
        )
        pairs = list(zip([y, *final], [expected_y, *expected_final], strict=True))
        assert [tuple(a.shape) for a, _ in pairs] == [b.shape for _, b in pairs]
        return max(float(np.abs(actual.numpy() - expected).max()) for actual, expected in pairs)

    return measure
