"""The loop over time around a module that takes one step: y [B, T, O] from x [B, T, I] and zero state.

Rules of this file: the loop itself and its text for TorchScript; nothing is found out or proved here.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..foreign.cut_inputs import scripted
from ..script_around import script_around
from .step_call import StepCall
from .step_form import StateLeaf, StepForm, filled, flat


class StepLoop(nn.Module):
    """A module that takes one step, called for one after the other.

    Its class is named like that of the module, for what is said of it.

    Args:
        call: the module.
        kind: the name of the module's class as it came.
    """

    def __init__(self, call: StepCall, kind: str) -> None:
        super().__init__()
        self.call = call
        self.__class__ = type(kind, (StepLoop,), {})

    def forward(self, x: Tensor) -> Tensor:
        """Return y [B, T, O]."""
        state = self.call.form.zeros(x.size(0), _dtype_of(self))
        said = []
        for step in x.unbind(1):
            y, state = self.call(step, state)
            said.append(y)
        return torch.stack(said, 1)


def _dtype_of(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.get_default_dtype())


def scripted_loop(loop: StepLoop) -> nn.Module:
    """Return the compiled loop: the module compiled, and around it a loop that is written for its form.

    Raises:
        Exception: whatever the compiler says to the module.
    """
    compiled = script_around(scripted(loop.call.module), "step")
    compiled.define(loop_text(loop.call.form))
    return compiled  # type: ignore[no-any-return]


def loop_text(form: StepForm) -> str:
    """Return the forward of the compiled loop, which knows how the module takes its state and gives it back."""
    states = [f"s{k}" for k in range(len(form.leaves))]
    place = form.axes.find("1")
    step = "step" if place < 0 else f"step.unsqueeze({place})"
    named = {form.arguments.sequence: step}
    named |= {name: _text(filled(tree, states)) for name, tree in zip(form.arguments.state, form.template, strict=True)}
    given = [named.pop(name) for name in form.arguments.positional if name in named]
    arguments = ", ".join([*given, *(f"{name}={text}" for name, text in named.items())])
    dtype = "torch.float32" if form.takes_tokens else "x.dtype"
    return "\n".join(
        [
            "def forward(self, x):",
            "    said = []",
            *(f"    s{k} = torch.zeros({_sizes(leaf)}, dtype={dtype})" for k, leaf in enumerate(form.leaves)),
            "    for step in x.unbind(1):",
            *(f"        {line}" for line in _taken_apart(form, f"self.step({arguments})")),
            *(f"        s{k} = r{number}" for k, number in enumerate(form.states)),
            f"        said.append(r{form.answer}.reshape([x.size(0), {form.output_dim}]))",
            "    return torch.stack(said, 1)",
            "",
        ]
    )


def _taken_apart(form: StepForm, result: str) -> list[str]:
    """Return the lines that call each tensor of a result r0, r1 and on; TorchScript unpacks no dict."""
    names = [f"r{k}" for k in range(sum(1 for _ in flat(form.result)))]
    if not form.in_dict:
        return [f"{_unpacked(filled(form.result, names))} = {result}"]
    return [f"found = {result}", *(f"{name} = found[{key!r}]" for name, key in zip(names, form.names, strict=True))]


def _sizes(leaf: StateLeaf) -> str:
    return "[" + ", ".join([*map(str, leaf.before), "x.size(0)", *map(str, leaf.after)]) + "]"


def _text(tree: Any) -> str:
    """Return a tree of names as Python writes it."""
    if isinstance(tree, tuple):
        return "(" + "".join(f"{_text(part)}, " for part in tree) + ")"
    return "[" + ", ".join(map(_text, tree)) + "]" if isinstance(tree, list) else str(tree)


def _unpacked(tree: Any) -> str:
    """Return names to unpack a result into; a list is unpacked like a tuple."""
    if not isinstance(tree, tuple | list):
        return str(tree)
    return "(" + ", ".join(map(_unpacked, tree)) + ("," if len(tree) == 1 else "") + ")"
