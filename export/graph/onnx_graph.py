"""The ONNX graph of a network, batch and time free: capture, translate, name, clean, check.

Rules of this file: the bytes depend on the network alone, not on the order of exports in a process, on paths or on
time; a length that something freezes is an error that names the place; nothing of torch.jit is used.
"""

from typing import Any

import onnx
import torch

from ...bundle.manifest import GraphSignature
from ..error_line import said_by
from ..errors import ExportError, FrozenAxisError
from ..exportable import Exportable
from .assumptions import WrongGraphError, prove_graph, sizes_against
from .capture_error import names_place, not_captured, not_in_onnx, place_of
from .clean_graph import clean
from .eager_answers import answered_as_eager
from .exact_ops import exact_translations
from .exact_sigmoids import write_exact_sigmoids
from .hoist import hoist
from .recurrent_ops import OPSET, translation_table
from .size_guards import LONGEST_AXIS, FewStepsError, frozen_axis_error, quiet_capture, size_guards_recorded
from .spare_nodes import read_last_state, spare_zeros
from .wide_gates import widen_gates


def export_onnx(exportable: Exportable) -> bytes:
    """Return the model as ONNX bytes.

    Raises:
        FrozenAxisError: something in the network needs a certain batch or length; names file and line.
        ExportError: the network holds an operation that ONNX or its exporter cannot say.
    """
    try:
        return _graph_of(_capture(exportable), exportable)
    except FrozenAxisError as err:
        try:
            return _proved_graph(exportable)
        except WrongGraphError as wrong:
            raise FrozenAxisError(str(err).replace("; expected", f", and {wrong}; expected", 1)) from err
        except ExportError as other:
            raise (other if names_place(str(other)) and not names_place(str(err)) else err) from None


def _proved_graph(exportable: Exportable) -> bytes:
    """Return the graph of a capture that assumes something of B and T, where that turns out to be nothing.

    Raises:
        FrozenAxisError: it is something, or none can tell.
    """
    signature = exportable.signature
    program = _capture_from(exportable, signature.least_steps, assuming=True)
    sizes = sizes_against(program, signature)
    if sizes is None:
        raise FrozenAxisError("the capture assumes what none can tell")
    model = _graph_of(program, exportable)
    prove_graph(model, exportable, sizes)
    return model


def _graph_of(program: torch.export.ExportedProgram, exportable: Exportable) -> bytes:
    model = _translate(program, exportable)
    name_axes(model, exportable.signature)
    clean(model)
    widen = (widen_gates,) if exportable.float64_gates else ()
    for improve in (spare_zeros, read_last_state, hoist, write_exact_sigmoids, *widen):
        improve(model.graph)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as err:
        raise ExportError(f"the exporter made a graph that ONNX does not allow: {said_by(err)}") from err
    return bytes(model.SerializeToString(deterministic=True))


def _capture(exportable: Exportable) -> torch.export.ExportedProgram:
    """Capture for as few steps as the capturer allows; it takes a size of one for a special case."""
    *fewer, last = exportable.captures
    for least in fewer:
        try:
            return _capture_from(exportable, least)
        except FewStepsError:
            continue
    return _capture_from(exportable, last)


def _capture_from(exportable: Exportable, least_steps: int, *, assuming: bool = False) -> torch.export.ExportedProgram:
    most = exportable.signature.at_most(LONGEST_AXIS)
    ranges = {"B": (1, LONGEST_AXIS), "T": (least_steps, most)}
    axes: dict[str, Any] = {
        name: torch.export.Dim.DYNAMIC(min=low, max=high)
        if assuming  # what is assumed is judged by assumptions.py; of a named axis torch would judge it, and not well
        else torch.export.Dim(name, min=low, max=high)
        for name, (low, high) in ranges.items()
    }
    free = tuple(
        {k: axes[axis] for k, axis in enumerate(spec.shape) if isinstance(axis, str)}
        for spec in exportable.signature.inputs
    )
    # forward is (x, *rest), so the shapes of the rest are one tuple, if there is a rest.
    shapes = (free[0], free[1:]) if free[1:] else (free[0],)
    guards: list[str] = []
    try:
        asked = answered_as_eager(exportable.graph_call)
        with quiet_capture(), size_guards_recorded(guards), asked, torch.no_grad():
            program = torch.export.export(
                exportable.graph_call,
                exportable.example(),
                dynamic_shapes=shapes,
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=assuming,
            )
    except torch._dynamo.exc.UserError as err:  # noqa: SLF001 - its only name
        raise frozen_axis_error(str(err), guards, most) from err
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as err:
        if guards or (isinstance(err, AssertionError) and not place_of(err)):  # of torch's own, about sizes
            raise frozen_axis_error(str(err), guards, most) from err
        raise not_captured(err) from err
    return _without_assertions(program)


def _without_assertions(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Take out what only checks dtype and device; it cannot run where a module is mapped over rows of a free number."""
    graph = program.graph_module.graph
    for node in [node for node in graph.nodes if node.target is torch.ops.aten._assert_tensor_metadata.default]:  # noqa: SLF001 - its only name
        graph.erase_node(node)
    program.graph_module.recompile()
    return program


def _translate(program: torch.export.ExportedProgram, exportable: Exportable) -> onnx.ModelProto:
    signature = exportable.signature
    try:
        with quiet_capture():
            onnx_program = torch.onnx.export(
                program,
                exportable.example(),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[spec.name for spec in signature.inputs],
                output_names=[spec.name for spec in signature.outputs],
                custom_translation_table=translation_table() | exact_translations(),
            )
    except RuntimeError as err:  # OnnxExporterError is one, and so is what its optimiser raises
        raise not_in_onnx(err, program) from err
    assert onnx_program is not None
    return onnx_program.model_proto


def name_axes(model: onnx.ModelProto, signature: GraphSignature) -> None:
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
