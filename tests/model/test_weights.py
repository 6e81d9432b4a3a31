"""Weight files: networks that carry their own description, files loaded into any module, and every way to be wrong."""

import json
from collections import OrderedDict

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cellgate.model import LSTMCell, LSTMLayer, SequenceModel, WeightsError, load_network, load_weights, save_network
from cellgate.model.weights import NETWORK_KEY


def _same_bits(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return list(first) == list(second) and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


def _with_description(path, description: object, tensors: dict | None = None) -> None:
    text = description if isinstance(description, str) else json.dumps(description)
    safetensors.torch.save_file(tensors or {"a": torch.zeros(1)}, path, {NETWORK_KEY: text})


@settings(max_examples=20, deadline=None)
@given(
    cell=st.sampled_from(["LSTMCell", "PeepholeLSTMCell", "CoupledLSTMCell", "LayerNormLSTMCell", "GRUCell"]),
    widths=st.lists(st.integers(1, 5), min_size=1, max_size=2),
    num_layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    front=st.sampled_from([None, "linear", "embedding"]),
    output_dim=st.sampled_from([None, 3]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
)
def test_network_comes_back_from_its_file_bit_for_bit(tmp_path_factory, widths, output_dim, front, dtype, **options):
    network = SequenceModel(4, widths, output_dim, front=front, front_dim=3 if front else None, **options).to(dtype)
    path = tmp_path_factory.mktemp("weights") / "network.safetensors"

    save_network(network, path)
    again = load_network(path)

    assert again.describe() == network.describe()
    assert _same_bits(again, network)
    assert not again.training
    assert all(weight.requires_grad for weight in again.parameters())


def test_same_network_gives_the_same_bytes_and_readable_metadata(tmp_path):
    network, metadata = SequenceModel(3, 4), {"zeta": "1", "alpha": "2", "mid": "ü"}

    save_network(network, tmp_path / "a.safetensors", metadata)
    save_network(network, tmp_path / "b.safetensors", dict(reversed(metadata.items())))

    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == metadata | {NETWORK_KEY: json.dumps(network.describe(), sort_keys=True)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_saving_replaces_the_file_and_leaves_it_where_the_disk_refuses(tmp_path):
    path = tmp_path / "a.safetensors"
    save_network(SequenceModel(3, 4), path)
    save_network(SequenceModel(3, 5), path)

    assert load_network(path).describe()["hidden_dim"] == [5]
    with pytest.raises(FileNotFoundError):
        save_network(SequenceModel(3, 4), tmp_path / "missing" / "a.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(OSError, match="folder"):
        save_network(SequenceModel(3, 4), tmp_path / "folder.safetensors")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["a.safetensors", "folder.safetensors"]


class _Own(LSTMCell):
    pass


@pytest.mark.parametrize(
    ("network", "name", "metadata", "said"),
    [
        (lambda: SequenceModel(3, 4, cell=_Own), "a.safetensors", None, "_Own is a cell of your own"),
        (lambda: SequenceModel(3, 4), "a.pt", None, "has the suffix '.pt', expected .safetensors"),
        (lambda: SequenceModel(3, 4), "a.safetensors", {"n": 1}, "expected text to text"),
        (lambda: SequenceModel(3, 4), "a.safetensors", {NETWORK_KEY: "{}"}, f"without '{NETWORK_KEY}'"),
    ],
)
def test_network_that_could_not_be_loaded_is_not_saved(tmp_path, network, name, metadata, said):
    with pytest.raises(WeightsError, match=said):
        save_network(network(), tmp_path / name, metadata)
    assert not list(tmp_path.iterdir())


def test_network_changed_after_it_was_made_is_not_saved_as_what_it_was(tmp_path):
    network = SequenceModel(3, 4, 2)
    network.head = nn.Linear(4, 7)

    with pytest.raises(WeightsError, match=r"head.weight is \[7, 4\], expected \[2, 4\]"):
        save_network(network, tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ([], "is list, expected an object"),
        ({}, "cell is None, expected one of LSTMCell"),
        ({"cell": "LSTMCell", "input_dim": 3}, "cannot be made"),
        ({"cell": "LSTMCell", "input_dim": 3, "hidden_dim": [-4]}, "expected at least 1"),
        ({"cell": "LSTMCell", "input_dim": 3, "hidden_dim": ["x"]}, "cannot be made"),
        ({"cell": "LSTMCell", "input_dim": 3, "hidden_dim": 4, "cell_options": 3}, "cannot be made"),
        ({"cell": "LSTMCell", "input_dim": 10**30, "hidden_dim": [4]}, "cannot be made"),
        ({"cell": "LSTMCell", "input_dim": 10**12, "hidden_dim": [4]}, "does not fit"),
        ({"cell": "LSTMCell", "input_dim": 3, "hidden_dim": [4], "num_layers": 10**9}, "describes 1000000000 layers"),
        ({"cell": "LSTMCell", "input_dim": 3, "hidden_dim": 4, "num_layers": 10**9}, "but holds 1 tensors"),
    ],
)
def test_description_that_is_hostile_or_wrong_is_one_sentence(tmp_path, description, said):
    _with_description(tmp_path / "a.safetensors", description)

    with pytest.raises(WeightsError, match=said):
        load_network(tmp_path / "a.safetensors")


def test_file_without_description_is_no_network(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")

    with pytest.raises(WeightsError, match=f"carries no '{NETWORK_KEY}'.*load_weights"):
        load_network(tmp_path / "a.safetensors")


def test_network_of_several_dtypes_gets_the_narrowest_that_holds_all(tmp_path):
    network = SequenceModel(3, 4)
    tensors = {name: w.half() if "bias" in name else w.bfloat16() for name, w in network.state_dict().items()}
    _with_description(tmp_path / "a.safetensors", network.describe(), tensors)

    again = load_network(tmp_path / "a.safetensors").state_dict()

    assert {weight.dtype for weight in again.values()} == {torch.float32}
    assert all(torch.equal(again[name], tensors[name].float()) for name in tensors)


def test_network_of_integers_is_refused(tmp_path):
    network = SequenceModel(3, 4)
    tensors = {name: w.to(torch.int8) for name, w in network.state_dict().items()}
    _with_description(tmp_path / "a.safetensors", network.describe(), tensors)

    with pytest.raises(WeightsError, match=r"is int8, expected one of float16, bfloat16, float32, float64"):
        load_network(tmp_path / "a.safetensors")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt"])
def test_checkpoint_is_loaded_with_its_wrapper_and_prefix_taken_off(tmp_path, wrapper, prefix, suffix):
    source, target = LSTMLayer(LSTMCell, 3, 4), LSTMLayer(LSTMCell, 3, 4)
    weights = OrderedDict((prefix + name, weight) for name, weight in source.state_dict().items())
    torch.save({wrapper: weights, "epoch": 3} if wrapper else weights, tmp_path / f"a{suffix}")

    load_weights(target, tmp_path / f"a{suffix}")

    assert _same_bits(target, source)


def _compiled(network: nn.Module, *parts: str) -> nn.Module:
    """Compile parts of a network in place, as training scripts do; nothing is compiled before it runs."""
    for part in parts:
        network.add_module(part, torch.compile(network.get_submodule(part)))
    return network


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize(("saved", "made"), [(["0"], []), ([], ["0"]), (["0"], ["1"]), (["0", "1"], [])])
def test_parts_that_were_compiled_fit_parts_that_were_not(tmp_path, prefix, saved, made):
    source, target = (nn.Sequential(nn.LSTM(3, 4), nn.Linear(4, 2)) for _ in range(2))
    weights = _compiled(source, *saved).state_dict()
    torch.save({prefix + name: weight for name, weight in weights.items()}, tmp_path / "a.pt")

    load_weights(_compiled(target, *made), tmp_path / "a.pt")

    pairs = zip(target.state_dict().values(), weights.values(), strict=True)
    assert all(torch.equal(own, given) for own, given in pairs)


def test_what_is_missing_beside_a_compiled_part_is_told_alone(tmp_path):
    source = _compiled(nn.Sequential(nn.LSTM(3, 4), nn.Linear(4, 2)), "0").state_dict()
    del source["1.bias"]
    torch.save(source, tmp_path / "a.pt")

    with pytest.raises(WeightsError, match=r"does not fit the network: missing 1\.bias; it needs"):
        load_weights(nn.Sequential(nn.LSTM(3, 4), nn.Linear(4, 2)), tmp_path / "a.pt")


def test_prefix_before_names_that_do_not_fit_stays(tmp_path):
    target = LSTMLayer(LSTMCell, 3, 4)
    torch.save(
        {f"model.encoder.{name}": weight for name, weight in nn.Linear(3, 4).state_dict().items()}, tmp_path / "a.pt"
    )

    with pytest.raises(WeightsError, match=r"unexpected model.encoder.weight, model.encoder.bias"):
        load_weights(target, tmp_path / "a.pt")


def test_safetensors_are_loaded_into_any_module(tmp_path):
    source, target = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    source(torch.randn(5, 3))
    safetensors.torch.save_file(source.state_dict(), tmp_path / "a.safetensors")

    load_weights(target, tmp_path / "a.safetensors")

    assert _same_bits(target, source)


def test_prefix_stays_where_the_module_has_it_too(tmp_path):
    source, target = nn.DataParallel(nn.Linear(2, 2)), nn.DataParallel(nn.Linear(2, 2))
    torch.save(source.state_dict(), tmp_path / "a.pt")

    load_weights(target, tmp_path / "a.pt")

    assert _same_bits(target, source)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_exactly(tmp_path, dtype):
    source, target = nn.Linear(3, 4).to(dtype), nn.Linear(3, 4)
    torch.save(source.state_dict(), tmp_path / "a.pt")

    load_weights(target, tmp_path / "a.pt")

    assert target.weight.dtype == torch.float32
    assert torch.equal(target.weight.to(dtype), source.weight)


def test_float64_that_holds_float32_values_is_narrowed_and_other_values_are_refused(tmp_path):
    source, target = nn.Linear(3, 4).double(), nn.Linear(3, 4)
    torch.save(source.state_dict(), tmp_path / "fits.pt")
    with torch.no_grad():
        source.weight[0, 0] = 1 / 3
    torch.save(source.state_dict(), tmp_path / "rounds.pt")

    load_weights(target, tmp_path / "fits.pt")
    before = target.weight.clone()

    with pytest.raises(WeightsError, match="weight is float64, expected float32, and its values would change"):
        load_weights(target, tmp_path / "rounds.pt")
    assert torch.equal(target.weight, before)


def test_floats_where_integers_are_expected_are_refused(tmp_path):
    module = nn.BatchNorm1d(3)
    torch.save(module.state_dict() | {"num_batches_tracked": torch.tensor(2.0)}, tmp_path / "a.pt")

    with pytest.raises(WeightsError, match="num_batches_tracked is float32, expected int64"):
        load_weights(module, tmp_path / "a.pt")


def test_module_with_state_that_is_no_tensor_needs_its_factory(tmp_path):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"seen": 3}

    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "a.pt")

    with pytest.raises(WeightsError, match="Extra keeps _extra_state beside its tensors"):
        load_weights(Extra(1, 1), tmp_path / "a.pt")


def test_missing_and_unexpected_keys_are_listed_with_their_number(tmp_path):
    module = LSTMLayer(LSTMCell, 3, 4)
    torch.save({f"head.{k}": torch.zeros(1) for k in range(6)}, tmp_path / "a.pt")
    before = module.cell.input_layer.weight.clone()

    with pytest.raises(
        WeightsError,
        match=r"a.pt does not fit the network: missing cell.input_layer.weight, .*; "
        r"unexpected head.0, head.1, head.2, head.3 and 2 more \(6 in all\); it needs the state_dict",
    ):
        load_weights(module, tmp_path / "a.pt")
    assert torch.equal(module.cell.input_layer.weight, before)


def test_wrong_shapes_name_the_key_and_both_shapes(tmp_path):
    torch.save(LSTMLayer(LSTMCell, 3, 4).state_dict(), tmp_path / "a.pt")

    with pytest.raises(WeightsError, match=r"cell.input_layer.weight is \[16, 3\], expected \[20, 3\]"):
        load_weights(LSTMLayer(LSTMCell, 3, 5), tmp_path / "a.pt")
