"""Random traffic over real networks: every answer is the answer of the sequence alone, to the last bit where proved."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from cellgate.bundle.reader import read_bundle
from cellgate.export.options import ExportOptions
from cellgate.export.pipeline import export_bundle
from cellgate.export.proof.verify import VerifyOptions
from cellgate.model import SequenceModel
from cellgate.serve.engine.engine import Engine
from cellgate.serve.engine.work import Work
from cellgate.serve.runtime.device_choice import open_runtime

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.no_cover]  # exports and verifies nine networks

I, V, O = 3, 11, 2
LONGEST = 60


class Foreign(nn.Module):
    """A module as people have it."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(I, 5, batch_first=True)
        self.head = nn.Linear(5, O)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


def sequence_model(input_dim=I, hidden_dim=5, **options):
    return lambda: SequenceModel(input_dim, hidden_dim, O, **options)


NETWORKS = {
    "last step": sequence_model(reads="last_step"),
    "every step": sequence_model(),
    "stacked": sequence_model(hidden_dim=[5, 7], num_layers=2),
    "gru": sequence_model(cell="GRUCell"),
    "tokens": sequence_model(V, front="embedding", front_dim=4),
    "mean of the steps": sequence_model(reads="mean"),
    "bidirectional": sequence_model(bidirectional=True),
    "bidirectional last step": sequence_model(bidirectional=True, reads="last_step"),
    "foreign": Foreign,
    "without lengths": None,  # the exporter gives every graph lengths, so this one is made by hand
}
WHOLE = {"bidirectional", "bidirectional last step"}
# What depends on the order of a sum, and by how much. A pooling adds up to 60 values below 1, and a given start below
# 5, in chunks or in one pass: each of 60 additions rounds by 2**-24 of at most 65, together 2.4e-4. The head sees the
# mean, at most 6 large, off by 60 * 2**-24 * 6 = 2.2e-5, times the sum of its five weights, each below 5 ** -0.5:
# 4.8e-5.
ORDERED = {"mean of the steps": {"pool_n": 2.4e-4, "y": 4.8e-5}}


@dataclass
class Case:
    bundle: object
    runtime: object

    @property
    def graph(self):
        return self.bundle.manifest.graph

    def work(self, values, ticket):
        """Anything that a client may send."""
        graph = self.graph
        rows = int(values.choice([1, 1, 1, 2, 5]))
        longest = int(values.choice([3, 20, LONGEST]))
        lengths = values.integers(1, longest + 1, size=rows).astype(np.int32)
        if graph.lengths is None:
            lengths[:] = lengths[0]
        steps = int(lengths.max()) + (int(values.integers(4)) if graph.lengths else 0)
        specs = {spec.name: spec for spec in graph.inputs}
        if graph.vocabulary_size is not None:
            sequence = values.integers(0, graph.vocabulary_size, size=(rows, steps))
        else:
            sequence = values.normal(size=(rows, steps, I)).astype(np.float32)
        states = []
        for pair in graph.state:
            shape = [rows if axis == "B" else axis for axis in specs[pair.input].shape]
            given = np.abs(values.normal(size=shape)).astype(np.float32)
            if pair.input == "count0":  # of steps
                given = np.ceil(given)
            states.append(given if values.random() < 0.4 else None)
        names = [spec.name for spec in graph.outputs]
        wanted = values.permutation(names)[: values.integers(1, len(names) + 1)]
        return Work(
            model=self.bundle.manifest.name,
            sequence=sequence,
            lengths=lengths,
            states=tuple(states),
            outputs=tuple(wanted.tolist()),
            priority=int(values.integers(-4, 5)),
        )

    def alone(self, work):
        """Row by row through the runtime, each by itself and without any padding; put together as the wire says."""
        graph = self.graph
        specs = {spec.name: spec for spec in (*graph.inputs, *graph.outputs)}
        whole = {}
        for row in range(work.rows):
            length = int(work.lengths[row])
            feeds = {graph.sequence: work.sequence[row : row + 1, :length]}
            if graph.lengths:
                feeds[graph.lengths] = work.lengths[row : row + 1]
            for pair, state in zip(graph.state, work.states, strict=True):
                shape = [1 if axis == "B" else axis for axis in specs[pair.input].shape]
                axis = specs[pair.input].shape.index("B")
                feeds[pair.input] = (
                    np.zeros(shape, np.float32) if state is None else np.ascontiguousarray(state.take([row], axis))
                )
            found = self.runtime.run(feeds)
            for name in work.outputs:
                shape = specs[name].shape
                if name not in whole:
                    sizes = {"B": work.rows, "T": work.steps}
                    whole[name] = np.zeros([sizes.get(axis, axis) for axis in shape], found[name].dtype)
                place = [slice(None)] * len(shape)
                place[shape.index("B")] = row
                if "T" in shape:
                    place[shape.index("T")] = slice(0, length)
                whole[name][tuple(place)] = found[name].squeeze(shape.index("B"))
        return {name: whole[name] for name in work.outputs}


@pytest.fixture(scope="module")
def case_of(tmp_path_factory, make_network):
    """Exported, verified and opened as a server does; once for each network."""
    folder = tmp_path_factory.mktemp("networks")
    opened = []

    @cache
    def make(name):
        torch.manual_seed(sorted(NETWORKS).index(name))
        out = folder / name.replace(" ", "-")
        if NETWORKS[name] is None:
            make_network("tokens").write(out, name=out.name)
        else:
            options = ExportOptions(name=out.name, input_dim=I, verify=VerifyOptions(drift_steps=20, threads=1))
            export_bundle(NETWORKS[name]().eval(), out, options)
        bundle = read_bundle(out)
        opened.append(open_runtime(bundle, device="cpu", threads=1))
        return Case(bundle, opened[-1])

    yield make
    for runtime in opened:
        runtime.close()


@pytest.fixture(scope="module")
def open_engine(make_model, make_limits, make_clock):
    """An engine over an open runtime; each look at the clock takes a while, so that every run has cost something."""

    def open_it(case, **limits):
        manifest = case.bundle.manifest
        model = make_model(case.runtime, name=manifest.name, streamable=manifest.streamable)
        clock = make_clock(tick_s=7e-6)
        return Engine([model], make_limits(**limits), clock), clock

    return open_it


SETTINGS = [
    pytest.param({"max_lanes": 1, "run_limit_s": 4e-3}, id="one lane"),
    pytest.param({"max_lanes": 2, "run_limit_s": 5e-5}, id="two lanes, short runs"),
    pytest.param({"max_lanes": 64, "run_limit_s": 4e-3}, id="64 lanes"),
    pytest.param({"max_lanes": 64, "run_limit_s": 1e-4}, id="64 lanes, short runs"),
]


def is_as_alone(actual, expected, allowed):
    """Bit for bit, but for the outputs of which a difference is allowed."""
    names = [name for name in expected if name not in allowed]
    exact = all(actual[name].tobytes() == expected[name].tobytes() for name in names)
    near = all(np.abs(actual[name] - expected[name]).max() <= allowed[name] for name in expected if name in allowed)
    shapes = [(name, array.dtype, array.shape) for name, array in expected.items()]
    return exact and near and [(name, array.dtype, array.shape) for name, array in actual.items()] == shapes


@pytest.mark.parametrize("limits", SETTINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_those_of_each_sequence_alone_bit_for_bit(case_of, open_engine, name, limits):
    case = case_of(name)
    manifest = case.bundle.manifest
    assert manifest.bitwise_rows
    assert manifest.streamable == (name not in WHOLE)
    assert manifest.bitwise_chunks or not manifest.streamable or name in ORDERED
    assert (manifest.graph.lengths is None) == (name == "without lengths")
    engine, clock = open_engine(case, **limits)
    values = np.random.default_rng(len(name))
    works = {ticket: case.work(values, ticket) for ticket in range(200)}
    results = []

    for ticket, work in works.items():
        engine.submit(ticket, work)
        if values.random() < 0.5:
            results += engine.run_once()
    while (wait_s := engine.wait_s()) is not None:
        clock.now += wait_s
        results += engine.run_once()

    assert len(results) == len(dict(results)) == len(works)
    allowed = ORDERED.get(name, {})
    wrong = [ticket for ticket, answer in results if not is_as_alone(answer, case.alone(works[ticket]), allowed)]
    assert wrong == []
    found = engine.statistics()["models"][manifest.name]
    assert (found["lanes"], found["slots"], found["waiting_rows"]) == (0, 0, 0)
    if limits["max_lanes"] == 64 and name != "without lengths":
        assert found["rows_a_run"] > 2  # they did run together


def test_steps_at_and_after_a_row_s_length_are_zero(case_of, open_engine, drain):
    case = case_of("every step")
    engine, clock = open_engine(case, max_lanes=4, run_limit_s=5e-5)
    values = np.random.default_rng(1)
    lengths = np.array([1, 9, 30, 4, 30, 12], np.int32)
    work = Work(
        model=case.bundle.manifest.name,
        sequence=values.normal(size=(6, 33, I)).astype(np.float32),
        lengths=lengths,
        states=(None,) * len(case.graph.state),
        outputs=("y",),
    )

    engine.submit(1, work)
    ((_, answer),) = drain(engine, clock)

    for row, length in enumerate(lengths):
        assert not answer["y"][row, length:].any()
        assert answer["y"][row, :length].all()


def test_whole_sequences_run_with_little_padding_and_say_so(case_of, open_engine, drain):
    case = case_of("bidirectional")
    engine, clock = open_engine(case)
    values = np.random.default_rng(3)
    useful = 0
    for ticket in range(100):
        work = case.work(values, ticket)
        useful += int(work.lengths.sum())
        engine.submit(ticket, work)
    drain(engine, clock)

    found = engine.statistics()["models"][case.bundle.manifest.name]
    assert found["useful_steps"] == useful
    assert found["padding_ratio"] == pytest.approx(1 - useful / found["computed_steps"])
    assert found["padding_ratio"] < 0.3


def test_networks_of_one_engine_do_not_meet(case_of, make_model, make_limits, make_clock, drain, is_same):
    cases = {name: case_of(name) for name in ("last step", "tokens", "bidirectional")}
    clock = make_clock(tick_s=7e-6)
    models = [
        make_model(case.runtime, name=case.bundle.manifest.name, streamable=case.bundle.manifest.streamable)
        for case in cases.values()
    ]
    engine = Engine(models, make_limits(), clock)
    values = np.random.default_rng(8)
    works, owners = {}, {}
    for ticket in range(150):
        owners[ticket] = list(cases.values())[int(values.integers(3))]
        works[ticket] = owners[ticket].work(values, ticket)
        engine.submit(ticket, works[ticket])

    results = drain(engine, clock)

    assert len(results) == 150
    assert [ticket for ticket, answer in results if not is_same(answer, owners[ticket].alone(works[ticket]))] == []
