"""The legs: what each runs, what each cannot, and that it says so."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.bundle.manifest import SessionOptions
from cellgate.export.error_line import first_line
from cellgate.export.exportable import Exportable, prepare
from cellgate.export.options import ExportOptions
from cellgate.export.pipeline import Artefacts, build
from cellgate.export.proof.cases import Case, make_inputs
from cellgate.export.proof.compare import same_bits
from cellgate.export.proof.graph_legs import ReferenceLeg, RuntimeLeg
from cellgate.export.proof.torch_legs import ControlLeg, EagerLeg, ScriptLeg, named
from cellgate.export.torchscript import export_torchscript
from cellgate.model import SequenceModel

_RAGGED = Case(id="legs", rows=5, steps=6, ragged=True, state="random")


class _Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.gru(x)
        return self.head(y)


@pytest.fixture(scope="module")
def built() -> Artefacts:
    torch.manual_seed(1)
    return build(SequenceModel(3, 5, 2), ExportOptions(name="legs"))


@pytest.fixture(scope="module")
def foreign() -> Exportable:
    torch.manual_seed(2)
    return prepare(_Foreign())


def test_all_legs_give_the_same_to_rounding(built):
    exportable, signature = built.exportable, built.exportable.signature
    inputs = make_inputs(_RAGGED, signature)
    eager = EagerLeg(exportable).run(inputs)

    for leg in (
        ScriptLeg(exportable, built.scripted.module, ""),
        RuntimeLeg(built.model, signature, built.session),
        ReferenceLeg(built.model, signature),
        ControlLeg(exportable),
    ):
        found = leg.run(inputs)
        rows = leg.rows_for(inputs)
        assert list(found) == list(leg.output_names) == ["y", "h_n", "c_n"]
        assert np.abs(found["y"] - eager["y"][:rows]).max() < 1e-6
        assert np.abs(found["c_n"] - eager["c_n"][:, :rows]).max() < 1e-6


def test_every_other_leg_takes_every_row(built):
    inputs = make_inputs(_RAGGED, built.exportable.signature)

    for leg in (
        EagerLeg(built.exportable),
        ScriptLeg(built.exportable, built.scripted.module, ""),
        RuntimeLeg(built.model, built.exportable.signature, built.session),
        ControlLeg(built.exportable),
    ):
        assert leg.rows_for(inputs) == _RAGGED.rows


def test_the_script_of_a_foreign_module_gives_y_from_zero_state_only(foreign):
    scripted = export_torchscript(foreign)
    leg = ScriptLeg(foreign, scripted.module, scripted.reason)
    zero = make_inputs(dataclasses.replace(_RAGGED, state="zero"), foreign.signature)

    found = leg.run(zero)

    assert leg.output_names == ("y",)
    assert leg.rows_for(make_inputs(_RAGGED, foreign.signature)) == 0
    assert leg.rows_for(zero) == _RAGGED.rows
    assert np.abs(found["y"] - EagerLeg(foreign).run(zero)["y"]).max() < 1e-6


def test_a_leg_without_torchscript_says_why(foreign):
    assert ScriptLeg(foreign, None, "RuntimeError: gone").complaint == "RuntimeError: gone"


def test_control_says_what_torch_cannot_express():
    torch.manual_seed(4)

    complaint = ControlLeg(prepare(SequenceModel(3, 5, cell="PeepholeLSTMCell"))).complaint

    assert complaint.startswith("not applicable: PeepholeLSTMCell has peepholes, which torch.nn has no module for")


@pytest.mark.parametrize("reads", ["every_step", "last_step", "mean", "max"])
def test_control_runs_each_row_alone_from_given_states(reads):
    torch.manual_seed(5)
    exportable = prepare(SequenceModel(3, 5, 2, cell="GRUCell", num_layers=2, bidirectional=True, reads=reads))
    inputs = make_inputs(_RAGGED, exportable.signature)

    found, expected = ControlLeg(exportable).run(inputs), EagerLeg(exportable).run(inputs)

    assert list(found) == list(expected)
    assert max(np.abs(found[name] - expected[name]).max() for name in found) < 1e-5


def test_the_runtime_is_opened_with_the_options_of_the_bundle(built):
    signature = built.exportable.signature
    inputs = make_inputs(_RAGGED, signature)
    plain = RuntimeLeg(built.model, signature, SessionOptions(graph_optimization_level="disable"), threads=1)
    chosen = RuntimeLeg(
        built.model,
        signature,
        SessionOptions(execution_mode="parallel", config={"session.intra_op.allow_spinning": "0"}),
    )

    options = chosen._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.execution_mode.name == "ORT_PARALLEL"
    assert plain._session.get_session_options().graph_optimization_level.name == "ORT_DISABLE_ALL"
    assert same_bits(plain.run(inputs), plain.run(inputs))


def test_more_or_fewer_tensors_than_outputs_show_in_the_names(built):
    one = torch.zeros(1)

    assert list(named([one], built.exportable.signature)) == ["y"]
    assert list(named([one] * 4, built.exportable.signature)) == ["y", "h_n", "c_n", "extra0"]


def test_an_error_is_told_by_its_first_line():
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    assert first_line(ValueError()) == "no reason given"
    assert len(first_line(ValueError("x" * 1000))) == 300


class _Named(nn.Module):
    """A cell of somebody's own, and the loop that he has written over it."""

    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(7, 4)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(self.mix(torch.cat([x, h], 1)))
            return h, h

    def __init__(self) -> None:
        super().__init__()
        self.cell = self.Cell()

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, seen = torch.zeros(x.size(0), 4) if h is None else h, []
        for step in x.unbind(1):
            y, h = self.cell(step, h)
            seen.append(y)
        return torch.stack(seen, 1), h


class _Rolled(_Named):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x.flip(2))[0].exp()


@pytest.mark.parametrize(
    ("network", "name"),
    [
        pytest.param(_Named(), "Cell", id="adopted"),
        pytest.param(_Rolled(), "the loop of _Rolled", id="rolled-up"),
        pytest.param(nn.RNN(3, 4, batch_first=True), "nn.RNNCell", id="of-torch"),
    ],
)
def test_layers_and_the_missing_control_are_named_as_people_know_them(network: nn.Module, name: str) -> None:
    exportable = prepare(network)

    assert [layer.cell for layer in exportable.layers] == [name]
    assert ControlLeg(exportable).complaint.startswith(
        f"not applicable: {name} is code of its own, and torch.nn has layers for LSTM"
    )
