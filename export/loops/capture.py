"""A module captured with its loop written out, as an Unrolled.

PyTorch's capturer runs a Python loop and records its steps one after the other. Elsewhere that is to be avoided; here
it is wanted.

Rules of this file: it runs the module under the capturer, and judges nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from ..foreign.call_modes import DataKept
from ..graph.capture_error import not_captured
from ..graph.eager_answers import answered_as_eager
from ..graph.size_guards import frozen_axis_error, quiet_capture, size_guards_recorded
from .unrolled import Unrolled
from .value import BATCH, INPUT, WEIGHT, Reading, Ref

_aten = torch.ops.aten
# Views that are read as they stand: PyTorch would write none of them out, or the rest of this folder knows them.
_VIEWS: Final = frozenset(
    {
        _aten.alias.default,
        _aten.chunk.default,
        _aten.contiguous.default,
        _aten.detach.default,
        _aten.expand.default,
        _aten.permute.default,
        _aten.reshape.default,
        _aten.select.int,
        _aten.slice.Tensor,
        _aten.split.Tensor,
        _aten.split_with_sizes.default,
        _aten.squeeze.default,
        _aten.squeeze.dim,
        _aten.squeeze.dims,
        _aten.t.default,
        _aten.to.dtype,
        _aten.to.dtype_layout,
        _aten.transpose.int,
        _aten.unbind.int,
        _aten.unsqueeze.default,
        _aten.view.default,
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Captured:
    """What the capturer made of a module and a number of steps.

    Attributes:
        program: its operations.
        steps: T.
        batch_axis: of the sequence, 0 or 1.
    """

    program: torch.export.ExportedProgram
    steps: int
    batch_axis: int


def capture(call: nn.Module, example: Tensor, batch_axis: int) -> Iterator[Captured]:
    """Capture ``call(example)`` with the batch free, in the forms that a loop can be looked for in.

    First as it stands, unless an operation changes a tensor; then, unless it would be the same, as PyTorch writes it
    out, without changes in place and with every view as one of a few. PyTorch runs everything twice again for that,
    which is most of the time that a capture takes.

    Args:
        call: takes the sequence and returns one tensor.
        example: the sequence; its other leading axis is time.
        batch_axis: 0 or 1.

    Raises:
        FrozenAxisError: the batch is not free; names file and line.
        ExportError: the module cannot be captured.
    """
    steps = example.shape[1 - batch_axis]
    with _captures(), answered_as_eager(call), DataKept():
        free = {batch_axis: torch.export.Dim("B", min=1)}
        program = torch.export.export(call, (example,), dynamic_shapes=(free,), strict=False)
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    if not any(_changes_a_tensor(target) for target in targets):
        program.graph.eliminate_dead_code()
        yield Captured(program=program, steps=steps, batch_axis=batch_axis)
        if not any(_is_unread_view(target) for target in targets):
            return
    with _captures():
        program = program.run_decompositions({})
    yield Captured(program=program, steps=steps, batch_axis=batch_axis)


def unroll(captured: Captured, reading: Reading = Reading.AS_IT_STANDS) -> Unrolled:
    """Return the values of a captured module; ``reading`` is that of Unrolled."""
    unrolled = Unrolled(captured.steps, reading)
    read = _Reader(captured.program, unrolled, captured.batch_axis)
    read.all()
    return unrolled


@contextmanager
def _captures() -> Iterator[None]:
    """Tell what the capturer says in sentences of ours."""
    guards: list[str] = []
    try:
        with quiet_capture(), size_guards_recorded(guards), torch.no_grad():
            yield
    except torch._dynamo.exc.UserError as err:  # noqa: SLF001 - its only name
        raise frozen_axis_error(str(err), guards) from err
    except Exception as err:
        if guards:
            raise frozen_axis_error(str(err), guards) from err
        raise not_captured(err) from err


def _changes_a_tensor(target: Any) -> bool:
    """Whether an operation writes in place, or holds a graph of its own, whose operations may."""
    if not isinstance(target, torch._ops.OpOverload):  # noqa: SLF001 - its only name
        return isinstance(target, torch._ops.HigherOrderOperator)  # noqa: SLF001 - its only name
    return bool(target._schema.is_mutable)  # noqa: SLF001 - its only name


def _is_unread_view(target: Any) -> bool:
    """Whether an operation gives a view of a kind that is read only once PyTorch has written it as another."""
    if not isinstance(target, torch._ops.OpOverload) or target in _VIEWS:  # noqa: SLF001 - its only name
        return False
    return any(result.alias_info is not None for result in target._schema.returns)  # noqa: SLF001 - its only name


class _Reader:
    """Turns a captured program into values."""

    def __init__(self, program: torch.export.ExportedProgram, unrolled: Unrolled, batch_axis: int) -> None:
        self._program = program
        self._unrolled = unrolled
        self._batch_axis = batch_axis
        self._numbers: dict[Any, int] = {}
        self._known: dict[Any, str] = {}
        self._batch: Any = None

    def all(self) -> None:
        signature = self._program.graph_signature
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, names.get(node.name))
            elif node.op == "call_function":
                self._operation(node)
            elif node.op == "output":
                outputs = [
                    spec.arg.name
                    for spec in signature.output_specs
                    if spec.kind == torch.export.graph_signature.OutputKind.USER_OUTPUT
                ]
                by_name = {known.name: number for known, number in self._numbers.items()}
                self._unrolled.result = by_name[outputs[0]]

    def _placeholder(self, node: Any, weight: str | None) -> None:
        shown = node.meta["val"]
        if weight is None:
            self._batch = shown.shape[self._batch_axis]
            self._numbers[node] = self._unrolled.add(INPUT, (), (), self._shape(shown), shown.dtype)
            return
        tensors = {**self._program.state_dict, **self._program.constants}
        weight = self._once(weight, tensors[weight])
        self._unrolled.weights[weight] = tensors[weight]
        self._numbers[node] = self._unrolled.add(WEIGHT, (weight,), (), self._shape(shown), shown.dtype)

    def _once(self, weight: str, tensor: Tensor) -> str:
        """Return the first name of a tensor that the capturer names anew each time that code reads it.

        So it does with what is no parameter or buffer by itself: parameters that code keeps in a dict or list of its
        own, and a tensor that each step makes of a number.
        """
        memory = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        name = self._known.setdefault(memory, weight)
        if name == weight and weight in self._program.constants and tensor.numel() == 1:
            return self._known.setdefault((tensor.item(), tensor.dtype, tensor.shape), weight)
        return name

    def _operation(self, node: Any) -> None:
        shown = node.meta.get("val")
        if isinstance(shown, torch.SymInt) and str(shown) == str(self._batch):
            self._numbers[node] = self._unrolled.add(BATCH, ())
            return
        if str(node.target).startswith(("aten._assert", "aten.sym_constrain")):
            return
        shape, dtype = (self._shape(shown), shown.dtype) if isinstance(shown, Tensor) else (None, None)
        args = self._argument(tuple(node.args))
        kwargs = tuple(sorted((name, self._argument(value)) for name, value in node.kwargs.items()))
        self._numbers[node] = self._unrolled.add(node.target, args, kwargs, shape, dtype)

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            return Ref(self._numbers[argument])
        if isinstance(argument, list | tuple):
            return tuple(self._argument(part) for part in argument)
        return argument

    def _shape(self, shown: Any) -> tuple[Any, ...]:
        def size(n: Any) -> Any:
            return int(n) if isinstance(n, int) else "B" if str(n) == str(self._batch) else "?"

        return tuple(size(n) for n in shown.shape)
