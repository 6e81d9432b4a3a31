"""Whether the stored weights of an LSTM, GRU or RNN node fit its attributes.

Runtimes have read past the end of weights that do not (onnxruntime #27737, #29595), so the shapes are compared here,
before the runtime sees them. Weights that other nodes compute have no shape in the file and are passed over.

Rules of this file: it looks at one fact and yields sentences; whether they refuse the graph is graph_check's decision.
"""

from collections.abc import Iterator

from .graph_facts import RecurrentFact

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def recurrent_problems(fact: RecurrentFact) -> Iterator[str]:
    """Yield a sentence for each attribute out of range and each weight W, R, B or P of another shape than implied."""
    label = f"{fact.operator} {fact.name!r}"
    if fact.layout != 0:
        yield f"{label} with layout {fact.layout}, expected 0"
    directions = _DIRECTIONS.get(fact.direction)
    if directions is None:
        yield f"{label} with direction {fact.direction[:80]!r}, expected forward, reverse or bidirectional"
        return
    H, rows = fact.hidden_size, GATES[fact.operator]
    if H is None or not 0 < H < 2**31:
        yield f"{label} with hidden_size {H}, expected a positive integer"
        return
    expected = {"R": (directions, rows * H, H), "B": (directions, 2 * rows * H), "P": (directions, 3 * H)}
    for name, shape in expected.items():
        found = getattr(fact, name)
        if found is not None and found != shape:
            yield f"{label} with {name} {list(found)}, expected {list(shape)} for hidden_size {H}"
    W = fact.W
    if W is not None and (W[:2] != (directions, rows * H) or len(W[2:]) != 1 or W[2] < 1):
        yield f"{label} with W {list(W)}, expected [{directions}, {rows * H}, I] for hidden_size {H}"
