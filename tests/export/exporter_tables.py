"""What PyTorch's exporters read anew at every export and is always the same: kept, for a quarter of their time.

Only what depends on nothing but its arguments is kept. Where a version of PyTorch calls it by another name, nothing is.
"""

import functools
import typing
from typing import Any

import onnxscript
import torch
from torch._export import utils as export_utils
from torch.export import decomp_utils, exported_program
from torch.onnx._internal.exporter import _schemas


def keep_tables() -> None:
    """Keep the tables from now on, in this process."""
    _keep_translations()
    _keep_signatures()
    _keep_composite_operators()
    _keep_annotations()


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
    """Keep which operators are made of others, until there are more of them."""
    if not all(hasattr(module, "_collect_all_valid_cia_ops") for module in (decomp_utils, exported_program)):
        return
    collect = export_utils._collect_all_valid_cia_ops
    collected = functools.cache(lambda _registered: collect())

    def collect_once() -> set[Any]:
        registered = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
        return collected(tuple(registered))

    decomp_utils._collect_all_valid_cia_ops = exported_program._collect_all_valid_cia_ops = collect_once


def _keep_annotations() -> None:
    """Write the annotations of py_impl, read 11,000 times an export, with the Callable that keeps what it makes."""
    torch._ops.Callable = typing.Callable
