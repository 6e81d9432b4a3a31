"""Weights and labels of a source: where they come from, and what is said of those that do not fit."""

import hashlib
import json

import pytest
import torch
from torch import nn

from cellgate.export.errors import SourceError
from cellgate.export.source import load_source
from cellgate.model import SequenceModel, save_network

from .source_files import GOOD, refusal

pytestmark = pytest.mark.usefixtures("path_as_before")


def test_weights_are_loaded_and_bring_their_labels(file, tmp_path):
    torch.manual_seed(1)
    trained = SequenceModel(3, 4, 2)
    save_network(trained, tmp_path / "w.safetensors", {"cellgate.labels": json.dumps(["a", "b"])})
    source = load_source(f"{file}:make", str(tmp_path / "w.safetensors"))

    assert source.labels == ("a", "b")
    assert source.weights == str(tmp_path / "w.safetensors")
    assert torch.equal(source.network.head.weight, trained.head.weight)


def test_weights_without_labels_leave_those_of_the_file(file, tmp_path):
    file.write_text(GOOD + "\nLABELS = ('x', 'y')\n", encoding="utf-8")
    save_network(SequenceModel(3, 4, 2), tmp_path / "w.safetensors")

    assert load_source(f"{file}:make", str(tmp_path / "w.safetensors")).labels == ("x", "y")


def test_a_checkpoint_is_a_source_by_itself(tmp_path):
    torch.save(nn.LSTM(3, 4).state_dict(), tmp_path / "lstm.pt")
    save_network(SequenceModel(3, 4, 2), tmp_path / "w.safetensors", {"cellgate.labels": '["a", "b"]'})

    assert load_source(str(tmp_path / "lstm.pt")).network.output_dim == 4
    assert load_source(str(tmp_path / "lstm.pt")).labels is None
    assert load_source(str(tmp_path / "w.safetensors")).labels == ("a", "b")


@pytest.fixture
def handwritten(tmp_path):
    """The weights of the tutorial's layer, its gates in the order of torch."""
    torch.manual_seed(3)
    layer = nn.LSTM(3, 4, batch_first=True)
    weights = {
        f"cell.{name}_layer.{kind}": getattr(layer, f"{kind}_{short}_l0").detach()
        for name, short in (("input", "ih"), ("hidden", "hh"))
        for kind in ("weight", "bias")
    }
    torch.save(weights, tmp_path / "hand.pt")
    return tmp_path / "hand.pt", layer


def test_a_checkpoint_of_a_hand_written_cell_is_refused_where_nothing_tells_the_order_of_its_gates(handwritten):
    path, _ = handwritten

    assert refusal(str(path)).endswith("in which its chunk(4, 1) has them, as --gate-order input,forget,output,cell")
    assert f"as FILE.py:CLASS --weights {path}" in refusal(str(path))


def test_gates_stand_as_they_were_told(handwritten):
    path, layer = handwritten
    x = torch.randn(2, 5, 3)

    as_told = load_source(str(path), gate_order=("input", "forget", "cell", "output")).network
    as_in_the_tutorial = load_source(str(path), gate_order=("input", "forget", "output", "cell")).network

    torch.testing.assert_close(as_told(x)[0], layer(x)[0])
    assert (as_in_the_tutorial(x)[0] - layer(x)[0]).abs().max() > 0.01


def test_an_order_of_gates_is_for_weights_of_a_hand_written_cell_alone(file, tmp_path):
    torch.save(nn.LSTM(3, 4).state_dict(), tmp_path / "lstm.pt")
    order = ("input", "forget", "cell", "output")

    for source in (str(tmp_path / "lstm.pt"), f"{file}:make"):
        with pytest.raises(SourceError, match="says itself how its gates stand, expected no --gate-order"):
            load_source(source, gate_order=order)


def test_what_a_network_was_made_of_is_named_without_the_folders_of_the_machine(file, tmp_path):
    save_network(SequenceModel(3, 4, 2), tmp_path / "w.safetensors")
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()

    assert load_source(f"{file}:make", str(tmp_path / "w.safetensors")).origin == {
        "source": f"{file.name}:make",
        "weights": f"w.safetensors, sha-256 {digest}",
    }
    assert load_source(f"{file}:make").origin["weights"] == "as the factory made them (no --weights)"
    assert load_source(str(tmp_path / "w.safetensors")).origin == {"weights": f"w.safetensors, sha-256 {digest}"}


def test_weights_without_numbers_are_told(file):
    file.write_text(
        "import torch\nfrom torch import nn\n\n\ndef make():\n"
        "    with torch.device('meta'):\n        return nn.LSTM(2, 3)\n",
        encoding="utf-8",
    )

    assert "made weights on the device meta, expected some that have numbers; make them" in refusal(f"{file}:make")


@pytest.mark.parametrize("labels", ["5", "[]", "['a', 3]", "None or 'ab'"])
def test_labels_of_another_form_are_refused(file, labels):
    file.write_text(f"{GOOD}\nLABELS = {labels}\n", encoding="utf-8")

    assert "expected a list of texts, one for each output; give --labels" in refusal(f"{file}:make")


@pytest.mark.parametrize("text", ["[", "{}"])
def test_labels_in_metadata_of_another_form_are_refused(tmp_path, text):
    save_network(SequenceModel(3, 4, 2), tmp_path / "w.safetensors", {"cellgate.labels": text})

    assert "cellgate.labels in its metadata is " in refusal(tmp_path / "w.safetensors")


def test_weights_that_do_not_fit_are_the_readers_sentence(file, tmp_path):
    save_network(SequenceModel(3, 5, 2), tmp_path / "w.safetensors")

    assert "does not fit the network" in refusal(f"{file}:make", str(tmp_path / "w.safetensors"))


def test_a_checkpoint_takes_no_further_weights(tmp_path):
    assert "is itself a file of weights, expected no --weights beside it" in refusal(tmp_path / "a.pt", "b.pt")
    assert "a.pt does not exist" in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("labels", ["{0: 'a'}", "'names.txt'", "[]"])
def test_labels_of_another_form_do_not_matter_where_labels_are_told(file, labels):
    file.write_text(f"{GOOD}\nLABELS = {labels}\n", encoding="utf-8")

    assert load_source(f"{file}:make", with_labels=False).labels is None


def test_labels_of_the_weights_come_before_those_of_the_file_whatever_those_are(file, tmp_path):
    file.write_text(f"{GOOD}\nLABELS = {{0: 'a'}}\n", encoding="utf-8")
    save_network(SequenceModel(3, 4, 2), tmp_path / "w.safetensors", {"cellgate.labels": '["a", "b"]'})

    assert load_source(f"{file}:make", str(tmp_path / "w.safetensors")).labels == ("a", "b")


@pytest.mark.parametrize("wrapper", ["nn.DataParallel", "torch.compile"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_fit_what_stands_in_a_wrapper_too(file, tmp_path, wrapper, prefix):
    file.write_text(f"{GOOD}\ndef wrapped():\n    return {wrapper}(make())\n", encoding="utf-8")
    trained = SequenceModel(3, 4, 2)
    torch.save({prefix + name: tensor for name, tensor in trained.state_dict().items()}, tmp_path / "w.pt")

    network = load_source(f"{file}:wrapped", str(tmp_path / "w.pt")).network

    assert any(torch.equal(weight, trained.head.weight) for weight in network.parameters())
