"""A module of several inputs, behind a forward that takes one sequence and cuts them out of it.

Rules of this file: it cuts as it is told; which form each argument has is found out elsewhere (column_search.py).
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import SignatureError
from ..script_around import script_around
from .columns import Column


class CutInputs(nn.Module):
    """A module whose arguments named by ``columns`` are cut out of x; the others stay as they are.

    Its class is named like that of the module, and what it lacks is the module's, for what is said and asked of it.

    Args:
        net: the module.
        columns: in the order in which x has them.
        time_axis: of x as it is given.

    Attributes:
        sequence: the name of the argument that they are cut out of.

    Raises:
        SignatureError: the module has no argument of that name.
    """

    def __init__(self, net: nn.Module, columns: Sequence[Column], time_axis: int = 1) -> None:
        super().__init__()
        self.net, self.columns, self.time_axis = net, tuple(columns), time_axis
        self.own = dict(inspect.signature(net.forward).parameters)
        named = [p for p in self.own.values() if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
        for column in columns:
            if column.name not in [p.name for p in named]:
                raise SignatureError(
                    f"{type(net).__name__}.forward({', '.join(self.own)}) has no argument {column.name!r} for "
                    f"--columns, expected one of {', '.join(p.name for p in named)}"
                )
        cut = {column.name for column in columns}
        self.rest = [p for p in named if p.name not in cut]
        self.sequence = "x" if all(p.name != "x" for p in self.rest) else "columns"
        self.positional = [p.name for p in named if p.kind is p.POSITIONAL_ONLY]
        self.__class__ = _class_of(type(net).__name__, self.sequence, self.rest)

    @property
    def width(self) -> int:
        """I of x."""
        return sum(column.width for column in self.columns)

    def take(self, x: Tensor, rest: dict[str, Any]) -> Any:
        """Return what the module gives for its arguments cut out of x, and the others."""
        if not x.is_floating_point():
            raise TypeError("x is not float32")
        arguments = {c.name: c.cut(x, start, self.time_axis) for c, start in self._places()} | rest
        ordered = [arguments.pop(name) for name in self.positional if name in arguments]
        return self.net(*ordered, **arguments)

    def _places(self) -> list[tuple[Column, int]]:
        starts = [sum(column.width for column in self.columns[:k]) for k in range(len(self.columns))]
        return list(zip(self.columns, starts, strict=True))

    def __getattr__(self, name: str) -> Any:
        """Return what this module has, else what the module in it has: a method that makes states, its sizes."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "net" not in self.__dict__.get("_modules", {}):
                raise
            return getattr(self.net, name)

    def script(self) -> nn.Module:
        """Return it compiled by TorchScript, around the module compiled.

        Raises:
            Exception: whatever the compiler says to the module.
        """
        compiled = script_around(self.net, "net")
        types = {a.name: a.type.annotation_str for a in compiled.net.forward.schema.arguments}
        taken = [p for p in self.rest if p.name in types and (p.default is p.empty or p.default is None)]
        signature = [f"{p.name}: {types[p.name]}{_default(p)}" for p in taken]
        cut = {column.name: column.text(start, self.time_axis) for column, start in self._places()}
        given = cut | {p.name: p.name for p in taken}
        words = [given.pop(name) for name in self.positional if name in given]
        words += [f"{name}={given[name]}" for name in given]
        compiled.define(
            f"def forward(self, {', '.join([self.sequence, *signature])}):\n"
            + f"    x = {self.sequence}\n" * (self.sequence != "x")
            + f"    return self.net({', '.join(words)})\n"
        )
        return compiled  # type: ignore[no-any-return]


def scripted(module: nn.Module) -> nn.Module:
    """Return a module compiled by TorchScript, whether its inputs are cut or not.

    Raises:
        Exception: whatever the compiler says to it.
    """
    compiled: nn.Module = module.script() if isinstance(module, CutInputs) else torch.jit.script(module)
    return compiled


def _default(parameter: inspect.Parameter) -> str:
    return "" if parameter.default is parameter.empty else "=None"


def _class_of(kind: str, sequence: str, rest: Sequence[inspect.Parameter]) -> type[CutInputs]:
    """Return a class whose forward takes the sequence and the arguments that are not cut."""
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, plain) for name in ("self", sequence)]
    parameters += [p if p.kind is p.KEYWORD_ONLY else p.replace(kind=plain) for p in rest]
    names = [p.name for p in parameters[1:]]

    def forward(self: CutInputs, *given: Any, **named: Any) -> Any:
        arguments = dict(zip(names, given, strict=False)) | named
        return self.take(arguments.pop(sequence), arguments)

    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what find_roles reads
    return type(kind, (CutInputs,), {"forward": forward})
