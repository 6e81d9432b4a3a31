"""cellgate inspect: bundles, ONNX files and checkpoints, also those that nobody should open."""

import json

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.numpy import save_file
from torch import nn

from cellgate.bundle.reader import read_bundle
from cellgate.bundle.verification import write_verification
from cellgate.model import SequenceModel, save_network


def write_onnx(path, nodes, inputs, outputs, opsets=((("", 18)),), **more):
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*pair) for pair in opsets], **more)
    path.write_bytes(model.SerializeToString())
    return path


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def test_a_bundle_tells_its_whole_contract(run, classifier):
    bundle = read_bundle(classifier.path)
    done = run("inspect", classifier.path)

    assert done.status == 0
    assert done.out.startswith("bundle Class-fier, version 1\n")
    assert "network      SequenceModel (cell LSTMCell, hidden_dim [4], input_dim 3, " in done.out
    assert f"weights      {bundle.manifest.network['weights']}\n" in done.out
    assert "states       h0, c0\n" in done.out
    assert "lengths      taken: the sequences of one request may be of unequal length\n" in done.out
    assert "LSTM 1" in done.out
    assert "time         free" in done.out
    assert "verdict      equivalent, over " in done.out
    assert " allowed, in case " in done.out
    assert "labels       down, up\n" in done.out
    assert f"digest     {bundle.digest}\n" in done.out
    assert "x         float32   [B, T, 3]   sequence" in done.out
    for name, entry in bundle.manifest.files.items():
        assert name in done.out
        assert entry.sha256 in done.out


def test_a_bundle_for_machines_holds_manifest_and_report(run, classifier):
    bundle = read_bundle(classifier.path)
    answer = run("inspect", classifier.path, "--json").answer

    assert answer["kind"] == "bundle"
    assert answer["digest"] == bundle.digest
    assert answer["manifest"]["graph"]["inputs"][0] == {"name": "x", "dtype": "float32", "shape": ["B", "T", 3]}
    assert answer["verdict"] == "equivalent"
    assert answer["node_counts"]["LSTM"] == 1
    assert answer["recurrent"][0]["hidden_size"] == 4
    assert answer["golden_cases"] == [case.id for case in bundle.golden]


def test_verified_devices_are_shown_with_their_result(run, odd):
    bundle = read_bundle(odd.path)
    write_verification(bundle, "cpu", {"passed": True})
    write_verification(bundle, "cuda", {"passed": False})
    done = run("inspect", odd.path)

    assert "verified on    cpu (passed), cuda (FAILED)\n" in done.out
    assert "normalisation  x must be normalised by the caller" in done.out


def test_a_report_of_another_form_says_nothing(run, classifier, tmp_path):
    from cellgate.bundle.writer import write_bundle

    bundle = read_bundle(classifier.path)
    for place, report in enumerate((b"[]", b"{", b'{"worst": 3}')):
        contents = {name: (bundle.path / name).read_bytes() for name in bundle.manifest.files}
        contents["equivalence.json"] = report
        write_bundle(tmp_path / str(place), bundle.manifest, contents)
        out = run("inspect", tmp_path / str(place)).out

        assert "verdict      unknown, over 0 cases\n" in out
        assert "worst        not said\n" in out


def test_an_onnx_file_that_is_fit_says_so(run, classifier):
    done = run("inspect", classifier.path / "model.onnx")
    answer = run("inspect", classifier.path / "model.onnx", "--json").answer

    assert "time        free, and batch too: the first two axes of x take any size\n" in done.out
    assert "serving     nothing in it that serving would refuse\n" in done.out
    assert "[B, T, 3]" in done.out
    assert answer["kind"] == "onnx"
    assert answer["time_is_free"] is True
    assert answer["refusal"] is None


def test_a_frozen_foreign_file_is_named_axis_by_axis(run, tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Odd", ["a"], ["y"], domain="evil")]
    path = write_onnx(
        tmp_path / "m.onnx", nodes, [value("x", ["N", 7, 3])], [value("y", None)], (("", 18), ("evil", 1))
    )
    done = run("inspect", path)
    answer = run("inspect", path, "--json").answer

    assert "time        the input x has axis 1 frozen to 7, expected the axes of batch and time free\n" in done.out
    assert "recurrence  no LSTM, GRU, RNN, Scan or Loop" in done.out
    assert "serving     refused: the model must not be served: it holds foreign domain evil" in done.out
    assert "also: " in done.out
    assert "evil 1" in done.out
    assert answer["time_is_free"] is False
    assert "foreign domain evil" in answer["refusal"]


def test_a_file_that_export_would_not_take_is_told_so(run, tmp_path):
    inputs = [value("audio", [3, 7, 3]), helper.make_tensor_value_info("lengths", TensorProto.INT64, ["B"])]
    path = write_onnx(
        tmp_path / "m.onnx", [helper.make_node("Relu", ["audio"], ["y"])], inputs, [value("y", ["B", "T", 3])]
    )

    assert (
        "serving     not as it stands: the first input must be called x or tokens, found audio, and batch and time "
        "must be free, and lengths must be int32, found int64 (docs/bundle.md)\n"
    ) in run("inspect", path).out


@pytest.mark.parametrize("shape", [None, ["B"]])
def test_an_input_without_two_axes_tells_nothing_of_time(run, tmp_path, shape):
    path = write_onnx(
        tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], [value("x", shape)], [value("y", None)]
    )

    assert "time        cannot be told" in run("inspect", path).out
    assert run("inspect", path, "--json").answer["time_is_free"] is None


def test_axes_without_name_and_commands_for_terminals_are_written_out(run, tmp_path):
    x = value("x\x1b[2J", [None, "T", 3])
    nodes = [helper.make_node("LSTM", ["x\x1b[2J", "w", "r"], ["y"])]
    path = write_onnx(tmp_path / "m.onnx", nodes, [x, value("w", None), value("r", None)], [value("y", None)])
    done = run("inspect", path)

    assert done.status == 0
    assert "\x1b" not in done.out
    assert "x\\x1b[2J" in done.out
    assert "[?, T, 3]" in done.out
    assert "number 0   LSTM" in done.out


@pytest.mark.parametrize("content", [b"", b"\xff" * 40])
def test_what_is_no_onnx_is_exit_2(run, tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    done = run("inspect", tmp_path / "m.onnx")

    assert done.status == 2
    assert done.err.startswith(f"cellgate: {tmp_path / 'm.onnx'}: ")


def test_a_file_above_the_formats_limit_is_not_read(run, tmp_path):
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(2**31)
    done = run("inspect", tmp_path / "m.onnx")

    assert done.status == 2
    assert "expected at most 2147483647 bytes, found 2147483648" in done.err


def test_a_graph_without_nodes_is_shown(run, tmp_path):
    path = write_onnx(tmp_path / "m.onnx", [], [], [])

    assert "operators   none (0 nodes)\n" in run("inspect", path).out


def test_weights_of_this_house_tell_their_network(run, networks):
    done = run("inspect", networks / "weights.safetensors")
    answer = run("inspect", networks / "weights.safetensors", "--json").answer

    assert "network          cellgate: LSTMCell (4 gates: input, forget, output, cell)\n" in done.out
    assert "layers           1, one direction\n" in done.out
    assert "sizes            I 3, H 4, O 2\n" in done.out
    assert "reads            last_step\n" in done.out
    assert 'cellgate.labels  ["down", "up"]\n' in done.out
    assert answer["form"] == "cellgate"
    assert {"name": "head.weight", "dtype": "float32", "shape": [2, 4]} in answer["tensors"]


def test_a_checkpoint_is_recognised_by_its_shapes(run, networks, tmp_path):
    done = run("inspect", networks / "lstm.pt")
    save_file(
        {k: v.numpy() for k, v in nn.GRU(3, 4, bidirectional=True).state_dict().items()}, tmp_path / "g.safetensors"
    )
    by_header = run("inspect", tmp_path / "g.safetensors")

    assert "network  torch.nn.LSTM: LSTMCell (4 gates: input, forget, cell, output)\n" in done.out
    assert "layers   2, one direction\n" in done.out
    assert "sizes    I 3, H 4, O as H\n" in done.out
    assert "network  torch.nn.GRU: GRUCell (3 gates: reset, update, new)\n" in by_header.out
    assert "layers   1, both directions\n" in by_header.out


def test_without_torch_the_header_is_shown_and_the_reason_told(run, tmp_path, monkeypatch):
    from cellgate.command import weights_view
    from cellgate.command.errors import MissingExtraError

    def missing(_, what):
        raise MissingExtraError(what, "torch", "export")

    monkeypatch.setattr(weights_view, "load", missing)
    save_file({"weight": np.zeros((2, 3), np.float32)}, tmp_path / "w.safetensors")
    done = run("inspect", tmp_path / "w.safetensors")

    assert done.status == 0
    assert 'network  not recognised: inspect needs torch, which is not installed; run pip install "cellgate' in done.out
    assert "weight   float32   [2, 3]" in done.out


def test_several_stacks_are_counted(run, tmp_path):
    save_network(SequenceModel(3, [4, 5], num_layers=2), tmp_path / "w.safetensors")

    assert "layers   2 in each of 2 stacks, one direction\n" in run("inspect", tmp_path / "w.safetensors").out


@pytest.mark.parametrize("metadata", ["{", "[]", "3"])
def test_a_description_that_is_none_is_told(run, tmp_path, metadata):
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "w.safetensors", {"cellgate.network": metadata})
    done = run("inspect", tmp_path / "w.safetensors")

    assert done.status == 0
    assert "network  not recognised: cellgate.network in its metadata is no" in done.out


def test_a_description_of_odd_fields_is_shown_as_it_is(run, tmp_path):
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "w.safetensors", {"cellgate.network": '{"hidden_dim": 4}'})
    done = run("inspect", tmp_path / "w.safetensors")

    assert "unknown cell (gates of its own)" in done.out
    assert "H 4, " in done.out


def test_unknown_tensors_are_listed_with_the_reason(run, tmp_path):
    torch.save({"weight": torch.zeros(2, 3, dtype=torch.float16)}, tmp_path / "w.pth")
    save_file({"weight": np.zeros((2, 3), np.uint16)}, tmp_path / "w.safetensors")
    done = run("inspect", tmp_path / "w.pth")
    odd = run("inspect", tmp_path / "w.safetensors")

    assert "network  not recognised: " in done.out
    assert "weight   float16   [2, 3]" in done.out
    assert odd.status == 0
    assert "weight   U16     [2, 3]" in odd.out
    assert "not recognised: " in odd.out


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_damaged_checkpoint_is_exit_2(run, tmp_path, name):
    (tmp_path / name).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00notjson!")
    done = run("inspect", tmp_path / name)

    assert done.status == 2
    assert str(tmp_path / name) in done.err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none.onnx", "found nothing there"),
        ("text.txt", "found the suffix '.txt'; if it is one of them, give it the suffix of its form"),
        ("net.py", "found the suffix '.py'; inspect the bundle that cellgate export "),
        ("plain", "found no suffix"),
        ("manifest.json", "expected the bundle's folder, found its manifest; inspect "),
    ],
)
def test_a_file_of_no_known_kind_is_wrong_use(run, tmp_path, name, sentence):
    if name != "none.onnx":
        (tmp_path / name).write_text("{}")
    done = run("inspect", tmp_path / name)

    assert done.status == 2
    assert sentence in done.err


def test_a_folder_that_is_no_bundle_is_exit_2(run, tmp_path):
    done = run("inspect", tmp_path)

    assert done.status == 2
    assert "found no manifest.json in it" in done.err


def test_json_is_one_document_for_each_kind(run, classifier, networks):
    for path in (classifier.path, classifier.path / "model.onnx", networks / "lstm.pt"):
        done = run("inspect", path, "--json")

        assert json.loads(done.out)["kind"] in {"bundle", "onnx", "checkpoint"}
        assert done.err == ""
