"""Chance that Python decides, such as teacher forcing by ``random.random() < ratio``: found out on runs.

Two runs may agree by chance, so the generators themselves are looked at: a run that leaves them as they were draws
nothing, and one that does not is run again under other seeds.

Rules of this file: the global generators are put back as they were.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import torch
from torch import Tensor

_SEEDS: Final = 32  # a choice of one in two agrees with the first in all of them once in 2^31


@torch.no_grad()
def draws_by_chance(run: Callable[[], Tensor]) -> bool:
    """Whether ``run`` draws of Python's or NumPy's global generator and gives something else under another seed."""
    with _generators_kept():
        before = _states()
        first = run()
        if _states() == before:
            return False
        for seed in range(_SEEDS):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - the generator that strangers use
            y = run()
            if y.shape != first.shape or not torch.allclose(y, first, rtol=1e-5, atol=1e-5, equal_nan=True):
                return True
    return False


def gives_another(name: str) -> str:
    """Say that a module draws by chance."""
    return (
        f"{name}.forward gives another output each time for the same input, expected the same; start from zeros in the "
        "place of torch.randn, give F.dropout training=self.training, let random.random() and teacher forcing wait for "
        "if self.training, and change no attribute in place"
    )


def _states() -> tuple[object, ...]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), kind, bytes(keys), *rest  # type: ignore[arg-type] # an array, as it is not asked for a dict


@contextmanager
def _generators_kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
