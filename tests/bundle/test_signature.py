"""A signature in which one thing is wrong is refused, and the message names the thing."""

from dataclasses import replace

import pytest

from cellgate.bundle.errors import ManifestError
from cellgate.bundle.manifest import GraphSignature, StatePair, TensorSpec
from cellgate.bundle.signature import check_signature


def _spec(name, dtype, *shape):
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def test_whole_signature_passes(signature):
    check_signature(signature)


def test_tokens_to_one_row_without_lengths_and_state_pass():
    check_signature(
        GraphSignature(
            inputs=(_spec("tokens", "int64", "B", "T"),),
            outputs=(_spec("y", "float32", "B", 9),),
            sequence="tokens",
            lengths=None,
            vocabulary_size=100,
        )
    )


def test_network_without_a_state_may_need_several_steps(signature):
    check_signature(
        replace(signature, inputs=signature.inputs[:2], outputs=signature.outputs[:1], state=(), least_steps=5)
    )


def test_state_may_be_a_counter_of_any_rank():
    """A pooling over time carries its accumulators, and those need not look like an LSTM's."""
    check_signature(
        GraphSignature(
            inputs=(_spec("x", "float16", "B", "T", 4), _spec("count", "int64", "B")),
            outputs=(_spec("y", "float16", "B", 4), _spec("count_n", "int64", "B")),
            sequence="x",
            lengths=None,
            state=(StatePair(input="count", output="count_n"),),
        )
    )


def _with(part, index, spec):
    """A change of one tensor of the whole signature; index None appends."""

    def change(signature):
        specs = list(getattr(signature, part))
        specs[len(specs) if index is None else index : len(specs) if index is None else index + 1] = (
            [] if spec is None else [spec]
        )
        return replace(signature, **{part: tuple(specs)})

    return change


def _field(**fields):
    return lambda signature: replace(signature, **fields)


_WRONG = {
    "several steps and a state": (_field(least_steps=2), "graph.least_steps: expected 1, for a chunk .* found 2"),
    "no more than so many steps and a state": (_field(most_steps=9), "graph.most_steps: expected none, for .* found 9"),
    "fewer at most than at least": (
        _field(state=(), least_steps=5, most_steps=4),
        "graph.most_steps: expected at least least_steps, 5, found 4",
    ),
    "no step": (_field(least_steps=0), "graph.least_steps: expected at least 1, found 0"),
    "no inputs": (_field(inputs=()), "graph.inputs: expected at least one"),
    "no outputs": (_field(outputs=()), "graph.outputs: expected at least one"),
    "input twice": (_with("inputs", None, _spec("h0", "float32", 1, "B", 3)), "graph.inputs: .*each name once"),
    "output twice": (_with("outputs", None, _spec("y", "float32", "B", "T", 3)), "graph.outputs: .*each name once"),
    "input and output of one name": (_with("outputs", 1, _spec("h0", "float32", 1, "B", 3)), "no input has, found h0"),
    "sequence unknown": (_field(sequence="audio"), "graph.sequence: expected one of x, .*found audio"),
    "sequence of another dtype": (_with("inputs", 0, _spec("x", "int32", "B", "T", 2)), "sequence: expected float32"),
    "sequence of rank 2": (_with("inputs", 0, _spec("x", "float32", "B", "T")), r"found x: float32 \[B, T\]"),
    "sequence with fixed batch": (_with("inputs", 0, _spec("x", "float32", 8, "T", 2)), r"sequence: .*\[8, T, 2\]"),
    "sequence with fixed time": (_with("inputs", 0, _spec("x", "float32", "B", 8, 2)), r"sequence: .*\[B, 8, 2\]"),
    "sequence time-major": (_with("inputs", 0, _spec("x", "float32", "T", "B", 2)), r"sequence: .*\[T, B, 2\]"),
    "sequence with free width": (_with("inputs", 0, _spec("x", "float32", "B", "T", "B")), r"sequence: .*\[B, T, B\]"),
    "tokens of rank 3": (_with("inputs", 0, _spec("x", "int64", "B", "T", 2)), r"expected int64 \[B, T\]"),
    "tokens without vocabulary": (_with("inputs", 0, _spec("x", "int64", "B", "T")), "vocabulary_size: expected the"),
    "vocabulary without tokens": (_field(vocabulary_size=5), "vocabulary_size: expected null"),
    "lengths unknown": (_field(lengths="n"), "graph.lengths: expected one of"),
    "lengths int64": (_with("inputs", 1, _spec("lengths", "int64", "B")), "lengths: expected int32"),
    "lengths over time": (_with("inputs", 1, _spec("lengths", "int32", "B", "T")), r"lengths: expected int32 \[B\]"),
    "output not y": (
        _with("outputs", 0, _spec("z", "float32", "B", "T", 3)),
        r"outputs\[0\].name: expected y, found z",
    ),
    "output integer": (_with("outputs", 0, _spec("y", "int64", "B", "T", 3)), r"outputs\[0\]: expected float32"),
    "output of rank 1": (_with("outputs", 0, _spec("y", "float32", "B")), r"outputs\[0\]: .*found y: float32 \[B\]"),
    "output of free width": (_with("outputs", 0, _spec("y", "float32", "B", "T")), r"outputs\[0\]: expected"),
    "state input unknown": (_field(state=(StatePair(input="h", output="h_n"),)), r"state\[0\].input: .*found h"),
    "state output unknown": (_field(state=(StatePair(input="h0", output="h"),)), r"state\[0\].output: .*found h"),
    "state without batch": (
        _with("inputs", 2, _spec("h0", "float32", 1, 3)),
        r'state\[0\].input: expected one axis "B"',
    ),
    "state with two": (_with("inputs", 2, _spec("h0", "float32", "B", "B", 3)), r"state\[0\].input: .*\[B, B, 3\]"),
    "state over time": (_with("inputs", 2, _spec("h0", "float32", "T", "B", 3)), r"state\[0\].input: .*\[T, B, 3\]"),
    "state of two shapes": (_with("outputs", 1, _spec("h_n", "float32", 1, "B", 4)), r"state\[0\].output: .*B, 4\]"),
    "state of two dtypes": (_with("outputs", 2, _spec("c_n", "float16", 1, "B", 3)), r"state\[1\].output: .*float16"),
    "input without part": (_field(lengths=None), "graph.inputs: expected sequence, lengths and states"),
    "input of two parts": (_field(state=(StatePair(input="h0", output="h_n"),) * 2), "graph.inputs: expected"),
    "states in another order": (
        _field(state=(StatePair(input="c0", output="c_n"), StatePair(input="h0", output="h_n"))),
        "graph.inputs: expected .*x, lengths, c0, h0, found x, lengths, h0, c0",
    ),
    "states crossed": (
        _field(state=(StatePair(input="h0", output="c_n"), StatePair(input="c0", output="h_n"))),
        "graph.outputs: expected .*y, c_n, h_n, found y, h_n, c_n",
    ),
    "output without part": (_with("outputs", None, _spec("gates", "float32", "B", 3)), "graph.outputs: .*gates"),
}


@pytest.mark.parametrize("case", _WRONG)
def test_wrong_signature_is_refused(signature, case):
    change, expected = _WRONG[case]

    with pytest.raises(ManifestError, match=expected):
        check_signature(change(signature))
