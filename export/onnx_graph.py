"""The ONNX graph of a network, batch and time free: capture, translate, name, clean, check.

Rules of this file: the bytes depend on the network alone, not on the order of exports in a process, on paths or on
time; a length that something freezes is an error that names the place; nothing of torch.jit is used.
"""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator

import onnx
import torch

from ..bundle.manifest import GraphSignature
from .errors import ExportError, FrozenAxisError
from .exportable import Exportable
from .recurrent_ops import OPSET, translation_table

_GUARD_LOGGER = "torch.fx.experimental.symbolic_shapes"


def export_onnx(exportable: Exportable) -> bytes:
    """Return the model as ONNX bytes.

    Raises:
        FrozenAxisError: something in the network needs a certain batch or length; names file and line.
        ExportError: the network holds an operation that ONNX or its exporter cannot say.
    """
    program = _capture(exportable)
    model = _translate(program, exportable)
    _name_axes(model, exportable.signature)
    _clean(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _capture(exportable: Exportable) -> torch.export.ExportedProgram:
    axes = {"B": torch.export.Dim("B", min=1), "T": torch.export.Dim("T", min=1)}
    free = tuple(
        {k: axes[axis] for k, axis in enumerate(spec.shape) if isinstance(axis, str)}
        for spec in exportable.signature.inputs
    )
    # forward is (x, *rest), so the shapes of the rest are one tuple.
    shapes = (free[0], free[1:])
    guards: list[str] = []
    try:
        with _quiet(), _recorded_guards(guards), torch.no_grad():
            return torch.export.export(exportable.graph_call, exportable.example(), dynamic_shapes=shapes, strict=False)
    except torch._dynamo.exc.UserError as err:  # noqa: SLF001 - its only name
        raise _as_frozen(str(err), guards) from err
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as err:
        if guards:
            raise _as_frozen(str(err), guards) from err
        raise ExportError(f"the network could not be captured as a graph: {_first_line(err)}") from err


def _as_frozen(message: str, guards: list[str]) -> FrozenAxisError:
    """Turn the capturer's complaint into one sentence with the axis, the value and the place."""
    found = re.search(r"marked (\w+) as dynamic but your code specialized it to be a constant \((\d+)\)", message)
    axis = {"B": "the batch", "T": "the time"}.get(found.group(1), found.group(1)) if found else "the batch or the time"
    value = f" to {found.group(2)}, the example's" if found else ""
    place = f" at {guards[0]}" if guards else ""
    return FrozenAxisError(
        f"something in the network freezes {axis}{value}{place}; expected both free. Loop over time in a cell inside "
        "cellgate.model.LSTMLayer, and let no Python value depend on a tensor's size"
    )


@contextlib.contextmanager
def _recorded_guards(places: list[str]) -> Iterator[None]:
    """Collect where the capturer pinned a size: its log says 'eval Eq(s0, 5) [guard added] (FILE:LINE in NAME)'."""

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = re.search(r"eval Eq\(\w+, \d+\) \[guard added\] .*?\((\S+:\d+) in (\w+)\)", record.getMessage())
            if found and not found.group(1).startswith("_"):  # _export/, _dynamo/: the capturer's own bookkeeping
                places.append(f"{found.group(1)} ({found.group(2)})")

    logger, handler = logging.getLogger(_GUARD_LOGGER), Recorder(logging.INFO)
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's talk about its own insides away from the user; errors still raise."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _translate(program: torch.export.ExportedProgram, exportable: Exportable) -> onnx.ModelProto:
    signature = exportable.signature
    try:
        with _quiet():
            onnx_program = torch.onnx.export(
                program,
                exportable.example(),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[spec.name for spec in signature.inputs],
                output_names=[spec.name for spec in signature.outputs],
                custom_translation_table=translation_table(),
            )
    except torch.onnx.OnnxExporterError as err:
        raise ExportError(f"the graph could not be said in ONNX: {_first_line(err)}") from err
    assert onnx_program is not None
    return onnx_program.model_proto


def _name_axes(model: onnx.ModelProto, signature: GraphSignature) -> None:
    """Check that the graph has the signature's names and free axes, and call the free axes B and T."""
    for values, specs in ((model.graph.input, signature.inputs), (model.graph.output, signature.outputs)):
        names = [value.name for value in values]
        if names != [spec.name for spec in specs]:
            raise ExportError(f"the graph has {names}, expected {[spec.name for spec in specs]}")
        for value, spec in zip(values, specs, strict=True):
            dims = value.type.tensor_type.shape.dim
            if len(dims) != len(spec.shape):
                raise ExportError(f"{value.name} has rank {len(dims)} in the graph, expected {len(spec.shape)}")
            for dim, axis in zip(dims, spec.shape, strict=True):
                if isinstance(axis, str) and dim.HasField("dim_value"):
                    raise FrozenAxisError(
                        f"{value.name} has axis {axis} frozen to {dim.dim_value} in the graph, expected it free"
                    )
                if isinstance(axis, str):
                    dim.dim_param = axis
                elif not dim.HasField("dim_value") or dim.dim_value != axis:
                    raise ExportError(
                        f"{value.name} has {dim.dim_value or dim.dim_param} in the graph where {axis} was expected"
                    )


def _clean(model: onnx.ModelProto) -> None:
    """Drop what tells of the machine (stack traces, paths) and what the runtime would warn about."""
    model.producer_name, model.producer_version, model.doc_string = "cellgate", "", ""
    del model.metadata_props[:]
    model.graph.name = "network"
    del model.graph.value_info[:]
    _clean_graph(model.graph)
    used = _names_used(model.graph)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _clean_graph(graph: onnx.GraphProto) -> None:
    del graph.metadata_props[:]
    graph.doc_string = ""
    for value in [*graph.input, *graph.output, *graph.value_info]:
        del value.metadata_props[:]
        value.doc_string = ""
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            attribute.doc_string = ""
            if attribute.type == onnx.AttributeProto.GRAPH:
                del attribute.g.value_info[:]
                _clean_graph(attribute.g)


def _names_used(graph: onnx.GraphProto) -> set[str]:
    used = {value.name for value in graph.output}
    for node in graph.node:
        used.update(node.input)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                used |= _names_used(attribute.g)
    return used


def _first_line(err: BaseException) -> str:
    lines = [line for line in str(err).strip().split("\n") if line.strip()]
    return f"{type(err).__name__}: {lines[0][:300]}" if lines else type(err).__name__
