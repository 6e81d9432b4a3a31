"""One run of a network on the kernels: what is where, step after step.

Rules of this file: everything is queued on the GPU's stream, and nothing waits but what the runtime does of it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from ...bundle.manifest import GraphSignature
from ..arrays import Array, Arrays
from ..errors import EngineError
from .fuse import Home
from .gpu import Gpu
from .lstm_kernel import LstmKernel
from .memory import Placed, RowOrder, Scratch
from .products import Products, Weights
from .steps import Concat, Lstm, Product, Split, Squeeze, Stage, Step, Swap

DeviceTensor = Any  # Placed, or onnxruntime.OrtValue
Names = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The runtime's graph of a stage: an open session, its device, the names of what it takes and gives.

    Attributes:
        read: names of what it gives to later stages; of the rest only the caller wants to know.
    """

    session: Any
    device: str
    inputs: Names
    outputs: Names
    read: frozenset[str]


@dataclass(kw_only=True, slots=True)
class Network:
    """What the runs of a network share.

    Attributes:
        gpu: where.
        signature: of the graph.
        products: the GPU's kernels for products and moves.
        stages: each with the runtime's part of it, if it has one.
        layers: of each `Lstm`, by the names of its outputs.
        weights: of each `Product`, likewise.
        homes: of outputs that are parts of another.
        order: of the run's rows, by their lengths.
        whole: of as many rows, all equally long, for layers that take no lengths.
        memory: of each tensor between steps, by name.
    """

    gpu: Gpu
    signature: GraphSignature
    products: Products
    stages: Sequence[tuple[Stage, Part | None]]
    layers: Mapping[Names, LstmKernel]
    weights: Mapping[Names, Weights]
    homes: Mapping[str, Home]
    order: RowOrder = field(init=False)
    whole: dict[int, RowOrder] = field(default_factory=dict)
    memory: dict[str, Scratch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.order = RowOrder(self.gpu)


class TooManyRowsError(EngineError):
    """A layer has more rows than its kernel takes on this GPU."""


class KernelRun:
    """One run.

    Args:
        network: of which.
        feeds: inputs on the host.
        kept: the other inputs, on the device.
        wanted: outputs to bring to the host.
    """

    def __init__(
        self, network: Network, feeds: Arrays, kept: Mapping[str, DeviceTensor], wanted: Collection[str]
    ) -> None:
        self._network, self._gpu, self._feeds, self._wanted = network, network.gpu, feeds, frozenset(wanted)
        self._placed: dict[str, Any] = dict(kept)
        self._hosted: dict[str, Any] = {}  # by the runtime
        self._gpu.enter()

    def finish(self) -> tuple[dict[str, Array], dict[str, DeviceTensor]]:
        """Queue the run; return (the wanted outputs, the others) by name."""
        network = self._network
        for stage, part in network.stages:
            if part is not None:
                self._run_part(part)
            for step in stage.steps:
                self._take(step)
        return self._answer()

    def _run_part(self, part: Part) -> None:
        binding = part.session.io_binding()
        for name in part.inputs:
            found = self._placed.get(name)
            if found is None:
                binding.bind_cpu_input(name, self._feeds[name])
            elif isinstance(found, Placed):
                binding.bind_input(name, part.device, 0, np.float32, found.shape, found.address)
            else:
                binding.bind_ortvalue_input(name, found)
        hosted = self._wanted - part.read
        for name in part.outputs:
            binding.bind_output(name, "cpu" if name in hosted else part.device)
        part.session.run_with_iobinding(binding)
        for name, value in zip(part.outputs, binding.get_outputs(), strict=True):
            (self._hosted if name in hosted else self._placed)[name] = value

    def _take(self, step: Step) -> None:
        match step:
            case Lstm():
                self._lstm(step, self._at(step.inputs[0]))
            case Product():
                x, weights = self._at(step.inputs[0]), self._network.weights[step.outputs]
                found = self._new(step.outputs[0], (*x.shape[:-1], weights.outputs))
                self._network.products.multiply(weights, x.address, prod(x.shape[:-1]), found.address)
            case Squeeze():
                x = self._at(step.inputs[0])
                axes = {axis % len(x.shape) for axis in step.axes}
                self._placed[step.outputs[0]] = x.part(0, [size for k, size in enumerate(x.shape) if k not in axes])
            case Split():
                x = self._at(step.inputs[0])
                shape = (x.shape[0] // len(step.outputs), *x.shape[1:])
                for place, name in enumerate(step.outputs):
                    self._placed[name] = x.part(place * prod(shape), shape)
            case Concat():
                home = self._network.homes.get(step.inputs[0])
                if home is None or home[0] != step.outputs[0]:  # else the parts are there already
                    self._concat(step, [self._at(name) for name in step.inputs])
            case Swap():
                x = self._at(step.inputs[0])
                first, second, third = x.shape
                found = self._new(step.outputs[0], (second, first, third))
                self._network.products.swap(x.address, (first, second, third), found.address)

    def _lstm(self, step: Lstm, x: Placed) -> None:
        layer, hidden = self._network.layers[step.outputs], step.r.shape[1]
        steps, rows = (x.shape[1], x.shape[0]) if step.batch_first else x.shape[:2]
        if rows > layer.most_rows:
            raise TooManyRowsError(f"runtime: expected at most {layer.most_rows} rows, found {rows}")
        shapes = ((steps, 1, rows, hidden), (1, rows, hidden), (1, rows, hidden))
        names = (step.outputs[0], *(name or f"{step.outputs} {place}" for place, name in enumerate(step.outputs[1:])))
        outputs = [self._new(name, shape).address if name else 0 for name, shape in zip(names, shapes, strict=True)]
        begin = [self._at(name).address if name else 0 for name in step.inputs[2:]]
        order = self._order(step.inputs[1], rows, steps)
        size = (steps, rows)
        layer.run(x.address, size, order, begin, outputs, batch_first=step.batch_first, clears=step.clears)

    def _order(self, lengths: str, rows: int, steps: int) -> RowOrder:
        if not lengths:
            order = self._network.whole.get(rows)
            if order is None:
                order = self._network.whole[rows] = RowOrder(self._gpu)
            order.put(np.full(rows, steps, dtype=np.int32))
            return order
        given = self._feeds[lengths]
        if len(given) != rows:
            raise EngineError(f"runtime: expected {rows} lengths, found {len(given)}")
        self._network.order.put(given)
        return self._network.order

    def _concat(self, step: Concat, parts: Sequence[Placed]) -> None:
        shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
        address = self._new(step.outputs[0], shape).address
        for part in parts:
            self._gpu.copy(part.address, address, part.size_bytes)
            address += part.size_bytes

    def _at(self, name: str) -> Placed:
        """Return where values are; what is on the host is sent."""
        found = self._placed.get(name)
        if found is None:
            array = np.ascontiguousarray(self._feeds[name])
            found = self._new(name, array.shape)
            self._gpu.upload(array, found.address)
        elif not isinstance(found, Placed):
            found = self._placed[name] = Placed(self._gpu, found.data_ptr(), tuple(found.shape()), found)
        return found

    def _new(self, name: str, shape: tuple[int, ...]) -> Placed:
        home = self._network.homes.get(name)
        if home is not None:
            whole, place, count = home
            found = self._placed.get(whole) or self._new(whole, (count * shape[0], *shape[1:]))
            found = self._placed[name] = found.part(place * prod(shape), shape)
            return found
        memory = self._network.memory.get(name)
        if memory is None:
            memory = self._network.memory[name] = Scratch(self._gpu)
        found = self._placed[name] = Placed(self._gpu, memory.at_least(4 * prod(shape)), shape)
        return found

    def _answer(self) -> tuple[dict[str, Array], dict[str, DeviceTensor]]:
        host: dict[str, Array] = {name: value.numpy() for name, value in self._hosted.items()}
        for name in self._wanted - host.keys():
            found = self._placed.get(name)
            if found is not None and not _is_float(found):
                host[name] = found.numpy()
                continue
            values = self._at(name)
            host[name] = np.empty(values.shape, dtype=np.float32)
            self._gpu.download(values.address, host[name])
        left = {spec.name for spec in self._network.signature.outputs} - self._wanted
        return host, {name: self._at(name) if _is_float(self._placed[name]) else self._placed[name] for name in left}


def _is_float(tensor: DeviceTensor) -> bool:
    return isinstance(tensor, Placed) or tensor.data_type() == "tensor(float)"
