"""What PyTorch's exporters read anew at every export and is always the same: kept, for a quarter of their time.

Only what depends on nothing but its arguments is kept, and nothing where a version of PyTorch has it elsewhere. Files
that are marked `plain_exporters`, and the tests of other folders, run without, so that the exporters as they are, are
tested too. That they write the same bytes, `test_onnx_graph` shows: its other process has no tables.
"""

import functools
import typing
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

Kept = tuple[object, str, Any]
"""Whose attribute, its name, and what stands there while tables are kept."""


def keep_tables(patch: pytest.MonkeyPatch) -> None:
    """Keep the tables until the patch is undone."""
    for owner, name, kept in _tables():
        patch.setattr(owner, name, kept)


@functools.cache
def _tables() -> tuple[Kept, ...]:
    """Return all that this version of PyTorch has; made once, so that what is kept outlasts a file."""
    makers: tuple[Callable[[], Iterator[Kept]], ...] = (
        _translations,
        _signatures,
        _composite_operators,
        _annotations,
    )
    found: list[Kept] = []
    for make in makers:
        with suppress(ImportError, AttributeError):
            found += make()
    return tuple(found)


def _translations() -> Iterator[Kept]:
    """Keep what onnxscript reads of its 557 functions."""
    import onnxscript

    functions = onnxscript.values.TracedOnnxFunction
    if isinstance(functions.function_ir, property):
        kept = functools.cached_property(functions.function_ir.fget)
        kept.__set_name__(functions, "function_ir")
        yield functions, "function_ir", kept


def _signatures() -> Iterator[Kept]:
    """Keep what the annotations of these functions say."""
    from torch.onnx._internal.exporter import _schemas

    yield _schemas, "op_signature_from_function", functools.cache(_schemas.op_signature_from_function)


def _composite_operators() -> Iterator[Kept]:
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
            yield module, "_collect_all_valid_cia_ops", collect_once


def _annotations() -> Iterator[Kept]:
    """Write the annotations of py_impl, read 11,000 times an export, with the Callable that keeps what it makes."""
    import torch

    if hasattr(torch._ops, "Callable"):
        yield torch._ops, "Callable", typing.Callable
