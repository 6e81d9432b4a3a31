"""What the exporter would write in a form that is not exact: in one that is.

The exporter says ``logsigmoid`` as Log(Sigmoid(x)), which is -inf below -17, ``logaddexp`` as Log(Exp(a) + Exp(b)),
which overflows at 89, ``log1p`` as Log(1 + x) and ``expm1`` as Exp(x) - 1, which lose what makes them worth calling. A
cell with exponential gates, such as xLSTM's, is made of these. ``a // b`` of sizes it says as Div, which rounds towards
zero, and so counts a window too few in ``-(-T // 4)``.

Rules of this file: one translation for each operator of torch, of operators that every provider of onnxruntime has; no
value that torch keeps finite becomes infinite or NaN. Errors stay below 8 u (``ACTIVATION_ULPS`` of the oracle).
"""

import math
import operator
from collections.abc import Callable
from typing import Any, Final

import torch
from onnxscript import opset18 as op

_LOG_2: Final = math.log(2.0)
_TINY: Final = 2.0**-126  # the smallest normal float32
_NO_REST: Final = 2.0**25  # from here on 1 + x is x


def exact_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return them as torch.onnx.export takes them in custom_translation_table.

    Their parameters are called as in torch's schema: up to torch 2.10 the exporter passes over one that is not.
    """
    return {
        torch.ops.aten.log_sigmoid.default: _log_sigmoid,
        torch.ops.aten.log1p.default: _log1p,
        torch.ops.aten.expm1.default: _expm1,
        torch.ops.aten.logaddexp.default: _logaddexp,
        operator.floordiv: _floordiv,
    }


def _log_sigmoid(self: Any) -> Any:
    """min(x, 0) - log1p(exp(-|x|))."""
    return op.Sub(op.Min(self, _like(self, 0.0)), _log1p_up_to_one(op.Exp(op.Neg(op.Abs(self)))))


def _log1p_up_to_one(y: Any) -> Any:
    """log(u) with u = 1 + y rounded, and the first order of what the rounding took away: (y - (u - 1)) / u."""
    u = op.Add(y, 1.0)
    return op.Add(op.Log(u), op.Div(op.Sub(y, op.Sub(u, 1.0)), u))


def _log1p(self: Any) -> Any:
    """As above; -1 gives -inf, and large values and infinity have no rest."""
    u = op.Add(self, 1.0)
    whole = op.Log(u)
    rest = op.Div(op.Sub(self, op.Sub(u, 1.0)), op.Max(u, _like(u, _TINY)))
    return op.Where(op.Less(u, _NO_REST), op.Add(whole, rest), whole)


def _expm1(self: Any) -> Any:
    """tanh(x / 2) (exp(x) + 1)."""
    return op.Mul(op.Tanh(op.Mul(self, 0.5)), op.Add(op.Exp(self), 1.0))


def _logaddexp(self: Any, other: Any) -> Any:
    """max(a, b) + log1p(exp(-|a - b|)); equal ones, which may be infinite, have no difference."""
    apart = op.Add(op.Max(self, other), _log1p_up_to_one(op.Exp(op.Neg(op.Abs(op.Sub(self, other))))))
    return op.Where(op.Equal(self, other), op.Add(self, _LOG_2), apart)


def _floordiv(self: Any, other: Any) -> Any:
    """(a - a mod b) / b, where mod has the sign of b, as in Python."""
    return op.Div(op.Sub(self, op.Mod(self, other)), other)


def _like(x: Any, number: float) -> Any:
    constant: Any = op.Constant(value_float=number)
    return op.CastLike(constant, x)
