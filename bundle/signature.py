"""Whether a graph signature makes sense: every tensor plays one part, and the parts fit together.

Rules of this file: pure; it knows the records and nothing of JSON, ONNX or disks.
"""

from .axes import fewer_steps, over_time
from .errors import ManifestError
from .manifest import GraphSignature, TensorSpec

FLOATS = ("float32", "float16")
OUTPUT = "y"
_FIXED = ("I", "O")
_MOST_SIZES = 3  # of one answer, such as [horizon, features, quantiles]


def check_signature(graph: GraphSignature) -> None:
    """Refuse a signature that contradicts itself.

    Names are unique; the inputs are the sequence, the lengths if any, and one for each state; the outputs are `y` first
    and one for each state. Free axes are "B", and "T" where the tensor runs over time; a state has one "B" and is fixed
    elsewhere, and its input and output agree. Only a network without a state may need more than one step, take no more
    than so many, or answer for fewer steps than it is given; of the fewest that it takes it leaves one or more.

    Raises:
        ManifestError: names the field, expected and found.
    """
    inputs = _by_name(graph.inputs, "inputs")
    outputs = _by_name(graph.outputs, "outputs")
    both = inputs.keys() & outputs.keys()
    if both:
        _refuse("outputs", "names that no input has", ", ".join(sorted(both)))
    _check_sequence(graph, inputs)
    if graph.lengths is not None:
        lengths = _named(inputs, graph.lengths, "lengths")
        _check_form("lengths", lengths, ("int32",), (("B",),))
    _check_output(graph.outputs[0], graph)
    if graph.least_steps < 1:
        _refuse("least_steps", "at least 1", str(graph.least_steps))
    if graph.least_steps > 1 and graph.state:
        _refuse("least_steps", "1, for a chunk of a stream may be one step", str(graph.least_steps))
    if graph.most_steps is not None and graph.most_steps < graph.least_steps:
        _refuse("most_steps", f"at least least_steps, {graph.least_steps}", str(graph.most_steps))
    if graph.most_steps is not None and graph.state:
        _refuse("most_steps", "none, for the chunks of a stream are as long as they like", str(graph.most_steps))
    for index, pair in enumerate(graph.state):
        place = f"state[{index}]"
        _check_state(
            place, _named(inputs, pair.input, f"{place}.input"), _named(outputs, pair.output, f"{place}.output")
        )
    _check_parts(graph)


def _by_name(specs: tuple[TensorSpec, ...], place: str) -> dict[str, TensorSpec]:
    found = {spec.name: spec for spec in specs}
    if not specs or len(found) != len(specs):
        _refuse(place, "at least one tensor, and each name once", ", ".join(spec.name for spec in specs) or "none")
    return found


def _named(specs: dict[str, TensorSpec], name: str, place: str) -> TensorSpec:
    if name not in specs:
        _refuse(place, f"one of {', '.join(specs)}", name)
    return specs[name]


def _check_sequence(graph: GraphSignature, inputs: dict[str, TensorSpec]) -> None:
    spec = _named(inputs, graph.sequence, "sequence")
    if spec.dtype == "int64":
        _check_form("sequence", spec, ("int64",), (("B", "T"),))
        if graph.columns:
            _refuse("columns", "none, for the sequence is tokens", str(len(graph.columns)))
        if graph.vocabulary_size is None:
            _refuse("vocabulary_size", "the number of tokens, for the sequence is int64", "null")
        return
    _check_form("sequence", spec, FLOATS, (("B", "T", "I"),))
    _check_columns(graph, int(spec.shape[-1]))
    if graph.vocabulary_size is not None:
        _refuse("vocabulary_size", f"null, for the sequence is {spec.dtype}", str(graph.vocabulary_size))


def _check_columns(graph: GraphSignature, features: int) -> None:
    if graph.columns and sum(column.width for column in graph.columns) != features:
        _refuse("columns", f"{features} together, as the sequence has", str(sum(c.width for c in graph.columns)))
    names = [column.name for column in graph.columns]
    if len(set(names)) != len(names):
        _refuse("columns", "each name once", ", ".join(names))
    for index, column in enumerate(graph.columns):
        lawful = {1, column.width} if column.values == "whole" else {0}
        if len(column.counts) not in lawful:
            expected = " or ".join(map(str, sorted(lawful)))
            _refuse(f"columns[{index}].counts", f"{expected} of them for {column.values}", str(len(column.counts)))


def _check_output(spec: TensorSpec, graph: GraphSignature) -> None:
    if spec.name != OUTPUT:
        _refuse("outputs[0].name", OUTPUT, spec.name)
    axis, steps = over_time(spec.shape), fewer_steps(spec.shape)
    free = ("B",) if axis is None else ("B", str(axis))
    sizes = spec.shape[len(free) :]
    fits = spec.shape[: len(free)] == free and 1 <= len(sizes) <= _MOST_SIZES
    if spec.dtype not in FLOATS or not fits or any(isinstance(size, str) for size in sizes):
        expected = f"{' or '.join(FLOATS)} [B, T, O] or [B, O], with one to three sizes for O"
        _refuse("outputs[0]", expected, f"{spec.name}: {spec.dtype} {_show(spec.shape)}")
    if steps is None:
        return
    if graph.state:
        _refuse("outputs[0].shape", '"T", for a chunk of a stream may be one step', str(steps))
    if not 1 <= steps.size(graph.least_steps) <= graph.least_steps:
        expected = f"1 .. {graph.least_steps} of the fewest steps left, which are {graph.least_steps}"
        _refuse("outputs[0].shape", expected, f"{steps.size(graph.least_steps)} by {steps}")


def _check_form(place: str, spec: TensorSpec, dtypes: tuple[str, ...], forms: tuple[tuple[str, ...], ...]) -> None:
    """A form says free axes for themselves, and a letter for a fixed size."""
    shape_form = tuple(axis if isinstance(axis, str) else 0 for axis in spec.shape)
    fits = any(shape_form == tuple(0 if axis in _FIXED else axis for axis in form) for form in forms)
    if spec.dtype not in dtypes or not fits:
        expected = f"{' or '.join(dtypes)} {' or '.join(_show(form) for form in forms)}"
        _refuse(place, expected, f"{spec.name}: {spec.dtype} {_show(spec.shape)}")


def _check_state(place: str, given: TensorSpec, returned: TensorSpec) -> None:
    if given.shape.count("B") != 1 or any(isinstance(axis, str) and axis != "B" for axis in given.shape):
        _refuse(f"{place}.input", 'one axis "B" and fixed sizes elsewhere', f"{given.name}: {_show(given.shape)}")
    if (given.dtype, given.shape) != (returned.dtype, returned.shape):
        _refuse(
            f"{place}.output",
            f"{given.dtype} {_show(given.shape)} as its input {given.name}",
            f"{returned.name}: {returned.dtype} {_show(returned.shape)}",
        )


def _check_parts(graph: GraphSignature) -> None:
    """Nothing plays two parts and nothing plays none: a server could not know what to feed or to return."""
    lengths = () if graph.lengths is None else (graph.lengths,)
    parts = (graph.sequence, *lengths, *(pair.input for pair in graph.state))
    found = tuple(spec.name for spec in graph.inputs)
    if parts != found:
        _refuse("inputs", f"sequence, lengths and states in this order: {', '.join(parts)}", ", ".join(found))
    results = (OUTPUT, *(pair.output for pair in graph.state))
    found = tuple(spec.name for spec in graph.outputs)
    if results != found:
        _refuse("outputs", f"{OUTPUT} and the states in this order: {', '.join(results)}", ", ".join(found))


def _show(shape: tuple[object, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _refuse(place: str, expected: str, found: str) -> None:
    raise ManifestError(f"manifest.json: graph.{place}: expected {expected}, found {found}")
