"""The layer of torch that computes what a stack does: the control of a verification.

Cells of this house say themselves what they are. A cell that somebody else wrote, such as the tutorial's, is recognised
as it is for the graph; where it is an LSTM or GRU as torch knows them, its weights go into torch's layer, gate by gate.
"""

from typing import Final

import torch
from torch import nn

from ...model.layer import LSTMLayer
from ...model.stack import RecurrentStack
from ...model.torch_weights import stack_to_torch
from ..graph.fused_form import FusedForm, pack_weights
from ..graph.recognise import recognise
from ..input_width import input_dim_of

# What torch's layers compute, and for each of their gates the place that it has in the ONNX operator.
_KNOWN: Final = {
    "LSTM": (nn.LSTM, ("sigmoid", "tanh", "tanh"), (0, 2, 3, 1)),  # i, f, g, o of i, o, f, c
    "GRU": (nn.GRU, ("sigmoid", "tanh"), (1, 0, 2)),  # r, z, n of z, r, h
}


def torch_layer_of(stack: RecurrentStack) -> nn.LSTM | nn.GRU:
    """Return the torch.nn.LSTM or torch.nn.GRU, batch first, that computes what ``stack`` does.

    Raises:
        ValueError: torch has none; the message is that of ``stack_to_torch``.
    """
    try:
        return stack_to_torch(stack)
    except ValueError:
        forms = [recognise(layer.cell, input_dim_of(layer)) for layer in _layers_of(stack)]
        known = [form for form in forms if form is not None and _is_torchs(form)]
        if len(known) < len(forms) or len({form.kind for form in known}) != 1 or _runs_backwards_alone(stack):
            raise
    return _filled(stack, known)


def _is_torchs(form: FusedForm) -> bool:
    _, activations, _ = _KNOWN[form.kind]
    resets_late = form.linear_before_reset or form.kind == "LSTM"
    plain = not form.peephole_order and not form.input_forget and not any(form.negated)
    return plain and resets_late and form.activations == activations


def _runs_backwards_alone(stack: RecurrentStack) -> bool:
    return any(layer.reverse != (k % stack.num_directions == 1) for k, layer in enumerate(_layers_of(stack)))


def _layers_of(stack: RecurrentStack) -> list[LSTMLayer]:
    return [layer for layer in stack.layers if isinstance(layer, LSTMLayer)]


@torch.no_grad()
def _filled(stack: RecurrentStack, forms: list[FusedForm]) -> nn.LSTM | nn.GRU:
    kind, _, order = _KNOWN[forms[0].kind]
    like = next(stack.parameters())
    layer: nn.LSTM | nn.GRU = kind(
        stack.input_dim,
        stack.state_widths[0],
        num_layers=stack.num_layers,
        batch_first=True,
        bidirectional=stack.num_directions == 2,  # noqa: PLR2004
        dtype=like.dtype,
    )
    for k, (own, form) in enumerate(zip(_layers_of(stack), forms, strict=True)):
        suffix = f"_l{k // stack.num_directions}" + ("_reverse" if k % stack.num_directions else "")
        packed = pack_weights(own.cell, form, input_dim_of(own))
        biases = packed["b"].chunk(2)
        for name, weight in (
            ("weight_ih", packed["w"]),
            ("weight_hh", packed["r"]),
            ("bias_ih", biases[0]),
            ("bias_hh", biases[1]),
        ):
            blocks = weight.chunk(len(order))
            getattr(layer, name + suffix).copy_(torch.cat([blocks[place] for place in order]))
    return layer
