"""The float64 oracle and the tolerances that follow from it.

What float32 may get wrong is not typed in. A float32 result is, to first order, the exact result for data that are
off by a few roundings (backward error analysis: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed.,
sections 1.5 and 3.1): about u * sqrt(K) in a sum of K products, u = 2^-24, and a few u more in each product, because
what an activation gave the step before is a factor of it. So the oracle runs each case again on weights and inputs
that are off by random amounts of that size, and with a state that drifts at every step (rounding.py); how far the
outputs move is how far rounding can move them in this network, after these steps, at this width. The tolerance is a
fixed multiple of that movement plus a few units in the last place for the activations of the last step.
docs/equivalence.md derives the constants and says what they were measured against.

Where the movement is a good part of the outputs themselves the network is chaotic: float32 means nothing there, whoever
computes it. Such a case is reported as sensitive and not bounded.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...bundle.axes import over_time
from ...bundle.manifest import GraphSignature
from ...model.layer import LSTMLayer
from ...model.reference import run_reference
from ..exportable import Exportable
from .compare import Array, ulp
from .reference_view import reference_view
from .rounding import Drift, DriftingCell

F64 = NDArray[np.float64]

UNIT_ROUNDOFF: Final = {"float32": 2.0**-24, "float16": 2.0**-11}
# Two random draws seldom meet the worst direction; a factor of 8 above what they moved leaves room for it, while a
# wrong gate, a dropped bias or a lost step is thousands of times larger.
SAFETY: Final = 8.0
DRAWS: Final = 2
# Libraries approximate tanh and the sigmoid by rational functions. Measured, in units of u near 1: onnxruntime 4.5 and
# 2.8, torch 1.2 and 1.5; a hidden state is a product of one of each.
ACTIVATION_ULPS: Final = 8.0
# What one step may add to a state at the most, in units of u: a gate near 1 is off by half a spacing of float32, which
# is u just below 1, and by as much again for its approximation; measured at the worst 0.35 (forget bias 17). Signs that
# stay are the worst direction already, so SAFETY is taken out of it: SAFETY times this is 1 u a step.
ACTIVATION_DRIFT: Final = 1.0 / SAFETY
# SAFETY times a movement above this share of the largest output says that float32 keeps fewer than two digits.
SENSITIVE_SHARE: Final = 1e-2


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What a case should give.

    Attributes:
        outputs: float64, by output name.
        tolerances: allowed absolute error, by output name.
        sensitive: outputs that are chaotic in this case and therefore not bounded.
    """

    outputs: dict[str, F64]
    tolerances: dict[str, float]
    sensitive: frozenset[str]


class Judge(Protocol):
    """Whoever knows what is right.

    Attributes:
        name: what computes, for reports.
    """

    name: str

    def truth(self, inputs: Mapping[str, Array]) -> Truth:
        """Return the outputs of a case and how far float32 may be from them."""


class Oracle:
    """Runs cases in float64, exactly or with every datum off by rounding.

    Attributes:
        name: what computes: this house's NumPy reference, which shares no code with torch or onnxruntime, or, for a
            network that it cannot know, the module itself in float64, every row at its own length, without padding.
            Rows of equal length run together; that they do not disturb each other is what the law "alone" checks.
    """

    def __init__(self, exportable: Exportable) -> None:
        self._signature = exportable.signature
        known = reference_view(exportable.network)
        self.name = "NumPy float64, from the equations" if known else "the module in float64, each row unpadded"
        self._relative_error = UNIT_ROUNDOFF["float32"] * (sum_length(exportable.network) ** 0.5 + ACTIVATION_ULPS)
        self._run: Callable[[Mapping[str, Array], np.random.Generator | None], list[F64]]
        self._run = self._numpy_run(*known) if known else self._torch_run(exportable.network)

    def truth(self, inputs: Mapping[str, Array]) -> Truth:
        """Return the outputs of a case and how far float32 may be from them."""
        names = [spec.name for spec in self._signature.outputs]
        exact = dict(zip(names, self._run(inputs, None), strict=True))
        movement = dict.fromkeys(names, 0.0)
        for draw in range(DRAWS):
            moved = self._run(inputs, np.random.default_rng(draw))
            for name, array in zip(names, moved, strict=True):
                movement[name] = max(movement[name], float(np.abs(array - exact[name]).max()))
        given = [float(np.abs(inputs[pair.input]).max()) for pair in self._signature.state]
        return tolerate(exact, movement, max(given, default=0.0))

    def outputs(self, inputs: Mapping[str, Array]) -> dict[str, F64]:
        """Return the exact outputs alone."""
        names = [spec.name for spec in self._signature.outputs]
        return dict(zip(names, self._run(inputs, None), strict=True))

    def _shaken(self, array: Array, random: np.random.Generator | None) -> F64:
        """Return float64, each element off by a random relative amount of the size of rounding where asked."""
        exact = array.astype(np.float64)
        if random is None or not np.issubdtype(array.dtype, np.floating):
            return exact
        shaken: F64 = exact * (1.0 + self._relative_error * random.choice([-1.0, 1.0], exact.shape))
        return shaken

    def _numpy_run(
        self, description: dict[str, Any], weights: dict[str, Array]
    ) -> Callable[[Mapping[str, Array], np.random.Generator | None], list[F64]]:
        signature = self._signature

        def run(inputs: Mapping[str, Array], random: np.random.Generator | None) -> list[F64]:
            x = inputs[signature.sequence]
            y, state = run_reference(
                description,
                {name: self._shaken(array, random) for name, array in weights.items()},
                x if x.dtype == np.int64 else self._shaken(x, random),
                inputs[signature.lengths] if signature.lengths else None,
                [self._shaken(inputs[pair.input], random) for pair in signature.state] or None,
                _drift(random),
            )
            return [y, *state]

        return run

    def _torch_run(self, network: nn.Module) -> Callable[[Mapping[str, Array], np.random.Generator | None], list[F64]]:
        exact_network = copy.deepcopy(network).double().eval()

        def run(inputs: Mapping[str, Array], random: np.random.Generator | None) -> list[F64]:
            module = exact_network
            if random is not None:
                module = copy.deepcopy(exact_network)
                for parameter in module.parameters():
                    # asarray: NumPy makes a plain number of an array without axes.
                    shaken = np.asarray(self._shaken(parameter.detach().numpy(), random))
                    parameter.data = torch.from_numpy(shaken)
                _let_drift(module, random)
            moved = {name: self._shaken_input(array, random) for name, array in inputs.items()}
            return run_without_padding(module, self._signature, moved)

        return run

    def _shaken_input(self, array: Array, random: np.random.Generator | None) -> Array:
        return self._shaken(array, random) if np.issubdtype(array.dtype, np.floating) else array


def _drift(random: np.random.Generator | None) -> Drift | None:
    return None if random is None else Drift(random, ACTIVATION_DRIFT * UNIT_ROUNDOFF["float32"])


def _let_drift(network: nn.Module, random: np.random.Generator) -> None:
    """Put a drifting cell in the place of each cell of a copy."""
    drift = _drift(random)
    assert drift is not None
    for layer in [module for module in network.modules() if isinstance(module, LSTMLayer)]:
        if not isinstance(layer.cell, DriftingCell):
            layer.cell = DriftingCell(layer.cell, drift)


def tolerate(exact: Mapping[str, F64], movement: Mapping[str, float], given: float = 0.0) -> Truth:
    """Turn measured movements into tolerances; pure.

    Args:
        exact: outputs.
        movement: how far each moved when every datum was off by rounding.
        given: largest absolute value of the state that the case starts from.
    """
    tolerances, sensitive = {}, set()
    for name, array in exact.items():
        scale = float(np.abs(array).max(initial=0.0))
        # Gates live on the scale of 1 whatever the largest value in this case is. A gate near zero is approximated to
        # so much of 1, not of itself, and what it multiplies may be a given state far larger than what comes out.
        tolerances[name] = SAFETY * movement[name] + ACTIVATION_ULPS * ulp(max(scale, given, 0.5))
        # Judged by the movement alone: a small output is bounded, though loosely, by what activations may do.
        if SAFETY * movement[name] > SENSITIVE_SHARE * max(scale, 1e-3):
            sensitive.add(name)
    return Truth(outputs=dict(exact), tolerances=tolerances, sensitive=frozenset(sensitive))


def sum_length(network: nn.Module) -> int:
    """Return K, the products in the longest sum of one step: the widest weight matrix beside that of its state."""
    return 2 * max((parameter.shape[-1] for parameter in network.parameters() if parameter.dim() > 1), default=1)


def run_without_padding(network: nn.Module, signature: GraphSignature, inputs: Mapping[str, Array]) -> list[F64]:
    """Run the rows of each length together, at that length; returns y, zero where padded, and the states, in order."""
    rows, steps = inputs[signature.sequence].shape[:2]
    lengths = inputs[signature.lengths] if signature.lengths else np.full(rows, steps)
    order, parts = [], []
    for count in np.unique(lengths):
        chosen = np.flatnonzero(lengths == count)
        order += chosen.tolist()
        parts.append(_run_rows(network, signature, inputs, chosen, int(count)))
    back = np.argsort(order)
    joined = join_rows(parts, signature, steps)
    return [a.take(back, axis=s.shape.index("B")) for a, s in zip(joined, signature.outputs, strict=True)]


def run_row_alone(network: nn.Module, signature: GraphSignature, inputs: Mapping[str, Array], row: int) -> list[F64]:
    """Run one row at its own length, without padding and without mates; returns y and the states, batch of one."""
    steps = int(inputs[signature.lengths][row]) if signature.lengths else inputs[signature.sequence].shape[1]
    return _run_rows(network, signature, inputs, np.array([row]), steps)


def _run_rows(
    network: nn.Module, signature: GraphSignature, inputs: Mapping[str, Array], rows: NDArray[np.integer], steps: int
) -> list[F64]:
    x = torch.from_numpy(np.ascontiguousarray(inputs[signature.sequence][rows, :steps]))
    state = [torch.from_numpy(np.ascontiguousarray(inputs[pair.input][:, rows])) for pair in signature.state]
    with torch.no_grad():
        y, final = network(x, None, state or None)
    return [tensor.numpy() for tensor in (y, *final)]


def join_rows(rows: list[list[F64]], signature: GraphSignature, steps: int) -> list[F64]:
    """Put rows that ran alone side by side, y padded with zeros to ``steps`` where it has a step axis."""
    joined = []
    for k, spec in enumerate(signature.outputs):
        arrays = [row[k] for row in rows]
        axis = over_time(spec.shape)
        if axis is not None:
            arrays = [_padded(a, axis.size(steps)) for a in arrays]
        joined.append(np.concatenate(arrays, axis=spec.shape.index("B")))
    return joined


def _padded(y: F64, steps: int) -> F64:
    return np.pad(y, [(0, steps - y.shape[1] if place == 1 else 0) for place in range(y.ndim)])
