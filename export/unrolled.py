"""What a module does with so many steps, written out: every operation once, and of each which steps it has seen.

PyTorch's capturer unrolls a Python loop over time. Here that is wanted: a module with its loop written out for a few
steps is what rolled_loop.py finds the loop in again. Operations are kept as values that are equal where target and
arguments are, so each step of the loop has the same shape, however it was written down: a slice of the sequence is a
``step`` value whether it was indexed, unbound, split or iterated over; a list that was stacked and is read again gives
its elements; an output that was filled in place is the stack that it amounts to.

Rules of this file: it runs the module once, under the capturer, and judges nothing.
"""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from .capture_error import not_captured
from .size_guards import frozen_axis_error, quiet_capture, size_guards_recorded

_aten = torch.ops.aten
INPUT: Final = "input"
WEIGHT: Final = "weight"
ROWS: Final = "rows"  # the size of the batch
STEP: Final = "step"  # (sequence, axis of time, number of the step): the sequence without its time axis
# What gives back its first argument, once a module is in evaluation mode and its graph is functional.
_SAME: Final = frozenset(
    {
        _aten.alias.default,
        _aten.clone.default,
        _aten.contiguous.default,
        _aten.detach.default,
        _aten.lift_fresh_copy.default,
    }
)
_DROPOUT: Final = frozenset({_aten.dropout.default, _aten.feature_dropout.default})
_SAME_IF_SHAPED_ALIKE: Final = frozenset(
    {
        _aten._to_copy.default,  # noqa: SLF001 - an operator's name
        _aten.expand.default,
        _aten.reshape.default,
        _aten.to.dtype,
        _aten.to.dtype_layout,
        _aten.view.default,
    }
)


@dataclass(frozen=True, slots=True)
class Ref:
    """A value of an Unrolled as an argument of another, by its number."""

    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """One operation.

    Attributes:
        target: the operator, or one of INPUT, WEIGHT, ROWS, STEP.
        args: of the operator, values among them as Refs; for a WEIGHT its name, for a STEP see there.
        kwargs: likewise, (name, argument).
        shape: of a tensor, "B" for the batch and "?" for what is computed from it; None for what is no tensor.
        dtype: of a tensor.
        steps: bit t is set where step t of some sequence went into it.
    """

    target: Any
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    shape: tuple[Any, ...] | None
    dtype: torch.dtype | None
    steps: int


class Unrolled:
    """The values of a module that ran over ``steps`` steps, each after those that it reads.

    Attributes:
        steps: T.
        values: see Value.
        result: number of the module's output.
        weights: parameters, buffers and constants by name.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.values: list[Value] = []
        self.result = -1
        self.weights: dict[str, Tensor] = {}
        self._numbers: dict[Any, int] = {}

    def find(self, target: Any, args: Any, kwargs: Any) -> int | None:
        """Return the number of the value that has target and arguments, if there is one."""
        return self._numbers.get(_key(target, args, kwargs))

    def add(
        self, target: Any, args: tuple[Any, ...], kwargs: tuple[Any, ...] = (), shape: Any = None, dtype: Any = None
    ) -> int:
        """Return the number of a value, which may be there already, or may be another in disguise."""
        same = self._simpler(target, args, shape, dtype)
        if same is not None:
            return same
        key = _key(target, args, kwargs)
        if key not in self._numbers:
            steps = 1 << args[2] if target == STEP else 0
            for number in refs_in((args, kwargs)):
                steps |= self.values[number].steps
            self._numbers[key] = len(self.values)
            self.values.append(
                Value(target=target, args=args, kwargs=kwargs, shape=shape, dtype=dtype, steps=steps),
            )
        return self._numbers[key]

    def reachable(self) -> list[int]:
        """Return the numbers of the values that the output needs, in order."""
        needed, open_ = set(), [self.result]
        while open_:
            number = open_.pop()
            if number not in needed:
                needed.add(number)
                open_ += refs_in((self.values[number].args, self.values[number].kwargs))
        return sorted(needed)

    def _simpler(self, target: Any, args: tuple[Any, ...], shape: Any, dtype: Any) -> int | None:
        if target in _SAME or (target in _DROPOUT and args[2] is False):
            return args[0].number  # type: ignore[no-any-return]
        if target is _aten.copy.default and self._shape(args[0]) == self._shape(args[1]):
            return args[1].number  # type: ignore[no-any-return]
        if target in _SAME_IF_SHAPED_ALIKE and isinstance(args[0], Ref):
            before = self.values[args[0].number]
            alike = before.shape == shape and before.dtype == dtype and "?" not in (shape or ("?",))
            return args[0].number if alike else None
        rule = _RULES.get(target)
        return None if rule is None else rule(self, *args)

    def _shape(self, ref: Ref) -> tuple[Any, ...]:
        return self.values[ref.number].shape or ()

    # The rules below give the number of an equal value, or None.

    def _select(self, source: Ref, axis: int, index: Any) -> int | None:
        value, shape = self.values[source.number], self._shape(source)
        axis %= len(shape)
        if not isinstance(index, int):
            return None
        if value.target is _aten.stack.default and _axis_of(value, len(shape)) == axis:
            return value.args[0][index].number  # type: ignore[no-any-return]
        if shape[axis] != self.steps:
            return None
        index %= self.steps
        inner = self._select_inside(value, len(shape), axis, index)
        if inner is not None or value.steps:
            return inner
        return self.add(STEP, (source, axis, index), (), shape[:axis] + shape[axis + 1 :], value.dtype)

    def _select_inside(self, value: Value, rank: int, axis: int, index: int) -> int | None:
        """Return the step of a sequence that was joined, filled in place, or transposed."""
        if value.target is _aten.cat.default and _axis_of(value, rank) == axis and len(value.args[0]) == self.steps:
            return self._squeeze(value.args[0][index], axis)
        if value.target == _FILLED and value.args[2] == axis:
            filled = value.args[3] == index
            return value.args[1].number if filled else self._selected(value.args[0], axis, index)
        order = _order_of(value, rank)
        if order is None:
            return None
        inner = self._selected(value.args[0], order[axis], index)
        kept = [k - (k > order[axis]) for k in order if k != order[axis]]
        if kept == sorted(kept):
            return inner
        shape = self.values[inner].shape or ()
        return self.add(
            _aten.permute.default, (Ref(inner), tuple(kept)), (), tuple(shape[k] for k in kept), value.dtype
        )

    def _selected(self, source: Ref, axis: int, index: int) -> int:
        found = self._select(source, axis, index)
        if found is not None:
            return found
        shape = self._shape(source)
        rest = shape[:axis] + shape[axis + 1 :]
        return self.add(_aten.select.int, (source, axis, index), (), rest, self.values[source.number].dtype)

    def _squeeze(self, source: Ref, axis: int) -> int:
        value, shape = self.values[source.number], self._shape(source)
        if value.target is _aten.unsqueeze.default and value.args[1] % len(shape) == axis:
            return value.args[0].number  # type: ignore[no-any-return]
        return self.add(_aten.squeeze.dim, (source, axis), (), shape[:axis] + shape[axis + 1 :], value.dtype)

    def _squeeze_all(self, source: Ref) -> int:
        """Return what squeeze() gives for any batch but one row, where it would take the batch's axis too."""
        shape = self._shape(source)
        axes = tuple(k for k, size in enumerate(shape) if size == 1)
        if not axes:
            return source.number
        rest = tuple(size for size in shape if size != 1)
        return self.add(_aten.squeeze.dims, (source, axes), (), rest, self.values[source.number].dtype)

    def _cat(self, parts: tuple[Ref, ...], axis: int = 0) -> int | None:
        """Return the stack that joining steps along a new axis of one amounts to."""
        rank = len(self._shape(parts[0]))
        inner = []
        for part in parts:
            value = self.values[part.number]
            if value.target is not _aten.unsqueeze.default or value.args[1] % rank != axis % rank:
                return None
            inner.append(value.args[0])
        shape = self._shape(parts[0])
        shape = (*shape[: axis % rank], len(parts), *shape[axis % rank + 1 :])
        return self.add(_aten.stack.default, (tuple(inner), axis % rank), (), shape, self.values[parts[0].number].dtype)

    def _squeeze_rule(self, source: Ref, axis: Any) -> int | None:
        value, rank = self.values[source.number], len(self._shape(source))
        axes = [axis % rank] if isinstance(axis, int) else [k % rank for k in axis]
        undone = value.target is _aten.unsqueeze.default and axes == [value.args[1] % rank]
        return value.args[0].number if undone else None

    def _unsqueeze(self, source: int, axis: int) -> int:
        value = self.values[source]
        shape = (*(value.shape or ())[:axis], 1, *(value.shape or ())[axis:])
        return self.add(_aten.unsqueeze.default, (Ref(source), axis), (), shape, value.dtype)

    def _item(self, source: Any, index: Any) -> int | None:
        value = self.values[source.number]
        if not value.args or not isinstance(value.args[0], Ref):
            return None
        shape = self._shape(value.args[0])
        if value.target is _aten.unbind.int:
            axis = value.args[1] if len(value.args) > 1 else 0
            return self._select(value.args[0], axis, index)
        if value.target in {_aten.split.Tensor, _aten.split_with_sizes.default}:
            axis, sizes = (value.args[2] if len(value.args) > 2 else 0) % len(shape), value.args[1]  # noqa: PLR2004
            single = sizes == 1 or (isinstance(sizes, tuple) and set(sizes) == {1})
        elif value.target is _aten.chunk.default:
            axis = (value.args[2] if len(value.args) > 2 else 0) % len(shape)  # noqa: PLR2004
            single = value.args[1] == shape[axis]
        else:
            return None
        if not single or shape[axis] != self.steps:
            return None
        inner = self._select(value.args[0], axis, index)
        return None if inner is None else self._unsqueeze(inner, axis)

    def _slice(self, source: Ref, axis: int = 0, start: Any = None, end: Any = None, stride: Any = 1) -> int | None:
        shape = self._shape(source)
        axis %= len(shape)
        size, start = shape[axis], 0 if start is None else start
        if stride != 1 or not isinstance(start, int) or not (end is None or isinstance(end, int)):
            return None
        if start == 0 and (end is None or end >= _ENDLESS or (isinstance(size, int) and end >= size)):
            return source.number
        if size != self.steps:
            return None
        first, last = start % size, size if end is None or end >= size else end % size
        if last != first + 1:
            return None
        inner = self._select(source, axis, first)
        return None if inner is None else self._unsqueeze(inner, axis)

    def _slice_scatter(
        self, base: Ref, source: Ref, axis: int = 0, start: Any = None, end: Any = None, stride: Any = 1
    ) -> int | None:
        shape = self._shape(base)
        axis %= len(shape)
        if stride == 1 and self._shape(source) == shape and start in {None, 0}:
            return source.number
        if stride != 1 or shape[axis] != self.steps or not isinstance(start, int) or end != start + 1:
            return None
        return self._scatter(base, Ref(self._squeeze(source, axis)), axis, start)

    def _select_scatter(self, base: Ref, source: Ref, axis: int, index: Any) -> int | None:
        shape = self._shape(base)
        if shape[axis % len(shape)] != self.steps or not isinstance(index, int):
            return None
        return self._scatter(base, source, axis % len(shape), index % self.steps)

    def _scatter(self, base: Ref, source: Ref, axis: int, index: int) -> int | None:
        """Return the stack of all steps where this fills the last one, else the filling itself."""
        filled, inner = {index: source}, self.values[base.number]
        while inner.target == _FILLED and inner.args[2] == axis:
            filled.setdefault(inner.args[3], inner.args[1])
            inner = self.values[inner.args[0].number]
        shape, dtype = self._shape(base), self.values[base.number].dtype
        if len(filled) == self.steps:
            return self.add(_aten.stack.default, (tuple(filled[t] for t in range(self.steps)), axis), (), shape, dtype)
        return self.add(_FILLED, (base, source, axis, index), (), shape, dtype)


_ENDLESS: Final = 2**31 - 1
_FILLED: Final = "filled"  # (base, step, axis, number of the step)
_RULES: Final[dict[Any, Callable[..., int | None]]] = {
    _aten.select.int: Unrolled._select,  # noqa: SLF001 - its own
    _aten.cat.default: Unrolled._cat,  # noqa: SLF001
    _aten.squeeze.default: Unrolled._squeeze_all,  # noqa: SLF001
    _aten.squeeze.dim: Unrolled._squeeze_rule,  # noqa: SLF001
    _aten.squeeze.dims: Unrolled._squeeze_rule,  # noqa: SLF001
    operator.getitem: Unrolled._item,  # noqa: SLF001
    _aten.slice.Tensor: Unrolled._slice,  # noqa: SLF001
    _aten.slice_scatter.default: Unrolled._slice_scatter,  # noqa: SLF001
    _aten.select_scatter.default: Unrolled._select_scatter,  # noqa: SLF001
}


def refs_in(argument: Any) -> Iterator[int]:
    """Yield the numbers of the values in an argument, however deep."""
    if isinstance(argument, Ref):
        yield argument.number
    elif isinstance(argument, tuple):
        for part in argument:
            yield from refs_in(part)


def replace_refs(argument: Any, replace: Callable[[int], Any]) -> Any:
    """Return an argument with each value in it replaced."""
    if isinstance(argument, Ref):
        return replace(argument.number)
    if isinstance(argument, tuple):
        return tuple(replace_refs(part, replace) for part in argument)
    return argument


def _key(target: Any, args: Any, kwargs: Any) -> Any:
    return target, _hashable(args), _hashable(kwargs)


def _hashable(argument: Any) -> Any:
    """Return what tells arguments apart, 1 from 1.0 and True as well."""
    if isinstance(argument, tuple):
        return tuple(_hashable(part) for part in argument)
    return argument if isinstance(argument, Ref) else (type(argument).__name__, str(argument))


def _axis_of(value: Value, rank: int) -> int:
    """Return the axis of a stack or a cat."""
    return int(value.args[1] if len(value.args) > 1 else 0) % rank


def _order_of(value: Value, rank: int) -> list[int] | None:
    """Return the order of the axes that a transposition makes, or None for what is none."""
    order = list(range(rank))
    if value.target is _aten.permute.default:
        return [k % rank for k in value.args[1]]
    if value.target is _aten.transpose.int:
        a, b = value.args[1] % rank, value.args[2] % rank
        order[a], order[b] = order[b], order[a]
        return order
    if value.target is _aten.t.default and rank == 2:  # noqa: PLR2004
        return [1, 0]
    return None


def unroll(call: nn.Module, example: Tensor, batch_axis: int) -> Unrolled:
    """Capture ``call(example)`` with the batch free.

    Args:
        call: takes the sequence and returns one tensor.
        example: the sequence; its other leading axis is time.
        batch_axis: 0 or 1.

    Raises:
        FrozenAxisError: the batch is not free; names file and line.
        ExportError: the module cannot be captured.
    """
    program = _capture(call, example, batch_axis)
    unrolled = Unrolled(example.shape[1 - batch_axis])
    read = _Reader(program, unrolled, batch_axis)
    read.all()
    return unrolled


def _capture(call: nn.Module, example: Tensor, batch_axis: int) -> torch.export.ExportedProgram:
    free = {batch_axis: torch.export.Dim("B", min=1)}
    guards: list[str] = []
    try:
        with quiet_capture(), size_guards_recorded(guards), torch.no_grad():
            program = torch.export.export(call, (example,), dynamic_shapes=(free,), strict=False)
            functional: torch.export.ExportedProgram = program.run_decompositions({})
            return functional
    except torch._dynamo.exc.UserError as err:  # noqa: SLF001 - its only name
        raise frozen_axis_error(str(err), guards) from err
    except Exception as err:
        if guards:
            raise frozen_axis_error(str(err), guards) from err
        raise not_captured(err) from err


class _Reader:
    """Turns a captured program into values."""

    def __init__(self, program: torch.export.ExportedProgram, unrolled: Unrolled, batch_axis: int) -> None:
        self._program = program
        self._unrolled = unrolled
        self._batch_axis = batch_axis
        self._numbers: dict[Any, int] = {}
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
        self._unrolled.weights[weight] = tensors[weight]
        self._numbers[node] = self._unrolled.add(WEIGHT, (weight,), (), self._shape(shown), shown.dtype)

    def _operation(self, node: Any) -> None:
        shown = node.meta.get("val")
        if isinstance(shown, torch.SymInt) and str(shown) == str(self._batch):
            self._numbers[node] = self._unrolled.add(ROWS, ())
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
