"""What PyTorch's exporters read anew at every export and is always the same: kept, for a quarter of their time.

Only what depends on nothing but its arguments is kept, and nothing where a version of PyTorch has it elsewhere. The
tests of the installed wheel run without (CELLGATE_PLAIN_EXPORTERS), so that the exporters as they are, are tested too.
"""

import functools
import os
import typing
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def keep_tables() -> None:
    """Keep the tables from now on, in this process."""
    if os.environ.get("CELLGATE_PLAIN_EXPORTERS"):
        return
    keep: tuple[Callable[[], None], ...] = (
        _keep_translations,
        _keep_signatures,
        _keep_composite_operators,
        _keep_annotations,
    )
    for one in keep:
        with suppress(ImportError, AttributeError):
            one()


def _keep_translations() -> None:
    """Keep what onnxscript reads of its 557 functions."""
    import onnxscript

    functions = onnxscript.values.TracedOnnxFunction
    if isinstance(functions.function_ir, property):
        functions.function_ir = functools.cached_property(functions.function_ir.fget)
        functions.function_ir.__set_name__(functions, "function_ir")


def _keep_signatures() -> None:
    """Keep what the annotations of these functions say."""
    from torch.onnx._internal.exporter import _schemas

    _schemas.op_signature_from_function = functools.cache(_schemas.op_signature_from_function)


def _keep_composite_operators() -> None:
    """Keep which operators are made of others, until there are more of them."""
    import torch
    from torch._export import utils
    from torch.export import decomp_utils, exported_program

    collect = utils._collect_all_valid_cia_ops
    collected = functools.cache(lambda _registered: collect())

    def collect_once() -> set[Any]:
        registered = torch._C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
        return collected(tuple(registered))

    users = (decomp_utils, exported_program)
    if all(hasattr(module, "_collect_all_valid_cia_ops") for module in users):
        for module in users:
            module._collect_all_valid_cia_ops = collect_once


def _keep_annotations() -> None:
    """Write the annotations of py_impl, read 11,000 times an export, with the Callable that keeps what it makes."""
    import torch

    if hasattr(torch._ops, "Callable"):
        torch._ops.Callable = typing.Callable
