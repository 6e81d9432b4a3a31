"""The signature of a network's graph: x or tokens, lengths and states in, y and states out.

Rules of this file: the names are those of every bundle (docs/bundle.md); nothing runs here.
"""

import re

from torch import nn

from ..bundle.manifest import NAME_PATTERN, GraphSignature, StatePair, TensorSpec
from .errors import SourceError


def signature_of(network: nn.Module) -> GraphSignature:
    """Return the names, dtypes and shapes of a network's graph.

    Args:
        network: a SequenceModel, StackNetwork or ForeignNetwork.

    Raises:
        SourceError: a state has a name that no input of a graph can have.
    """
    tokens = bool(getattr(network, "takes_tokens", False))
    honours_lengths = bool(getattr(network, "honours_lengths", True))
    per_step = bool(getattr(network, "per_step", getattr(network, "reads", "every_step") == "every_step"))
    I = int(network.input_dim)  # type: ignore[arg-type]
    sizes = getattr(network, "output_sizes", None) or (int(network.output_dim),)  # type: ignore[arg-type]
    sequence = (
        TensorSpec(name="tokens", dtype="int64", shape=("B", "T"))
        if tokens
        else TensorSpec(name="x", dtype="float32", shape=("B", "T", I))
    )
    inputs, pairs = [sequence], []
    steps = str(getattr(network, "answer_axis", "T"))
    outputs = [TensorSpec(name="y", dtype="float32", shape=("B", steps, *sizes) if per_step else ("B", *sizes))]
    if honours_lengths:
        inputs.append(TensorSpec(name="lengths", dtype="int32", shape=("B",)))
    for tensor in network.state_tensors():  # type: ignore[operator]
        if re.fullmatch(NAME_PATTERN, f"{tensor.name}_n{tensor.suffix}") is None:
            raise SourceError(
                f"a cell has a state called {tensor.name!r}, expected letters, digits, '.', '_' and '-', a letter or "
                "digit first, for it names an input of the graph; rename it in its state_spec"
            )
        pair = StatePair(input=f"{tensor.name}0{tensor.suffix}", output=f"{tensor.name}_n{tensor.suffix}")
        shape = (tensor.rows, "B", tensor.width)
        inputs.append(TensorSpec(name=pair.input, dtype="float32", shape=shape))
        outputs.append(TensorSpec(name=pair.output, dtype="float32", shape=shape))
        pairs.append(pair)
    return GraphSignature(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        sequence=sequence.name,
        lengths="lengths" if honours_lengths else None,
        state=tuple(pairs),
        vocabulary_size=I if tokens else None,
        least_steps=int(getattr(network, "least_steps", 1)),
        most_steps=getattr(network, "most_steps", None),
        columns=tuple(column.spec for column in getattr(network, "columns", ())),
    )
