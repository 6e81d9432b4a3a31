"""What people name on a command line, and whose fault it is where it gives no network."""

import hashlib
import json
import queue
import re
import sys

import pytest
import torch
from torch import nn

from cellgate.export.errors import SourceError
from cellgate.export.source import load_source
from cellgate.model import SequenceModel, save_network

GOOD = """
import torch
from torch import nn
from cellgate.model import SequenceModel

ready = SequenceModel(3, 4, 2)


class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.lstm = nn.LSTM(width, 4)


class Needs(nn.Module):
    def __init__(self, width, depth):
        super().__init__()


class Shelf:
    @staticmethod
    def make():
        return SequenceModel(3, 4, 2)


def make():
    return SequenceModel(3, 4, 2, dropout=0.5).train()


def fails():
    raise KeyError("weights")


def leaves():
    raise SystemExit(3)


def gives_text():
    return "network"


def gives_nothing():
    return None


async def later():
    return 1


number = 5
_hidden = make
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nets_of_a_test.py"
    path.write_text(GOOD, encoding="utf-8")
    yield path
    sys.modules.pop("nets_of_a_test", None)


@pytest.fixture(autouse=True)
def path_as_before():
    before = list(sys.path)
    yield
    assert sys.path == before


def refusal(text, weights=None):
    with pytest.raises(SourceError) as caught:
        load_source(str(text), weights)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["make", "ready", "Net", "Shelf.make"])
def test_a_factory_a_class_or_a_network_itself_gives_a_network(file, name):
    source = load_source(f"{file}:{name}")

    assert isinstance(source.network, nn.Module)
    assert not source.network.training
    assert source.labels is None
    assert source.weights == "as the factory made them (no --weights)"


def test_a_file_is_read_anew_each_time(file):
    load_source(f"{file}:make")
    file.write_text(GOOD + "\nLABELS = ['a', 'b']\n", encoding="utf-8")

    assert load_source(f"{file}:make").labels == ("a", "b")


def test_a_file_finds_its_neighbours_also_while_the_factory_runs(file):
    (file.parent / "neighbour_of_a_test.py").write_text("width = 4\n", encoding="utf-8")
    file.write_text(GOOD + "\ndef wide():\n    import neighbour_of_a_test as n\n    return SequenceModel(3, n.width)\n")

    assert load_source(f"{file}:wide").network.output_dim == 4
    del sys.modules["neighbour_of_a_test"]


@pytest.mark.parametrize("stem", ["queue", "torch", "my-net", "wave"])
def test_a_file_never_takes_the_name_of_another_module(tmp_path, stem):
    (tmp_path / f"{stem}.py").write_text(GOOD, encoding="utf-8")
    source = load_source(f"{tmp_path / stem}.py:Net")

    assert type(source.network).__module__ == f"cellgate_source_{stem}"
    assert sys.modules[f"cellgate_source_{stem}"].Net is type(source.network)
    assert sys.modules["queue"] is queue
    assert sys.modules["torch"] is torch
    assert "my-net" not in sys.modules
    assert getattr(sys.modules.get("wave"), "Net", None) is None
    del sys.modules[f"cellgate_source_{stem}"]


def test_a_module_is_found_in_the_working_folder(file, monkeypatch):
    monkeypatch.chdir(file.parent)

    assert load_source("nets_of_a_test:make").network.output_dim == 2


def test_a_file_may_take_its_own_folder_off_the_path(file):
    file.write_text("import sys\nsys.path.pop(0)\n" + GOOD, encoding="utf-8")

    assert load_source(f"{file}:make").network.output_dim == 2


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


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "nothing",
            "has no 'nothing', expected a function, class or network; there are: ready, Net, make, fails",
        ),
        ("Shelf.nothing", "has no 'Shelf.nothing', expected"),
        ("Needs", ":Needs needs the arguments width, depth, expected none; name a function without arguments"),
        ("fails", ":fails failed when called: KeyError: 'weights'; mend the factory"),
        ("leaves", ":leaves failed when called: it called sys.exit(3); guard what runs with"),
        (
            "gives_text",
            ":gives_text returned something of type str, expected a torch.nn.Module; return the network itself",
        ),
        ("gives_nothing", ":gives_nothing returned None, expected a torch.nn.Module"),
        ("number", ":number is something of type int, expected a function, class or torch.nn.Module"),
    ],
)
def test_a_name_that_gives_no_network_is_told_with_the_reason(file, name, sentence):
    assert sentence in refusal(f"{file}:{name}")


@pytest.mark.parametrize("text", ["network", "x.txt", ":make", "file.py:", "file.py", ""])
def test_what_is_no_source_is_answered_with_the_forms(text):
    assert "SOURCE: expected path/to/file.py:factory, package.module:factory" in refusal(text)
    assert repr(text) in refusal(text)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("network", "; write network:factory, with a colon, if that is a module"),
        ("package.network.make", "; write package.network:make, with a colon, if that is a module"),
        ("network.h5", "; a file of Keras is none of them, so write the network in PyTorch, copy the weights in its"),
        ("x.y/z.onnx", "found 'x.y/z.onnx'"),
    ],
)
def test_what_is_no_source_is_answered_with_what_helps(text, remedy):
    assert remedy in refusal(text)


def test_a_file_without_a_name_is_answered_with_those_in_it(file, tmp_path):
    (tmp_path / "bare_file_of_a_test.py").write_text("", encoding="utf-8")
    said = refusal(str(file))

    assert "found " + repr(str(file)) in said
    assert "; there are: ready, Net, make, fails, leaves, gives_text, gives_nothing, later, ...; name one" in said
    assert said.endswith(f"as {file}:ready")
    assert refusal(f"{file}:").endswith(f"as {file}:ready")
    assert refusal(f"{tmp_path}/bare_file_of_a_test.py").endswith("nothing in it that could be a factory or network")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("1 / 0", r"eval\(\) of its Net failed: ZeroDivisionError: division by zero; mend what it overwrites"),
        ("super().eval()", r"eval\(\) of its Net returned None, expected itself; let its eval and train return self"),
    ],
)
def test_a_network_that_cannot_be_put_into_evaluation_is_told(file, body, sentence):
    file.write_text(
        f"from torch import nn\n\n\nclass Net(nn.Module):\n    def eval(self):\n        {body}\n", encoding="utf-8"
    )

    assert re.search(sentence, refusal(f"{file}:Net"))


def test_a_missing_file_is_told_from_a_folder(tmp_path):
    (tmp_path / "folder.py").mkdir()

    assert refusal(f"{tmp_path}/none.py:make").startswith(f"{tmp_path}/none.py does not exist, expected a Python file")
    assert refusal(f"{tmp_path}/folder.py:make").startswith(f"{tmp_path}/folder.py is no file")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "import a_package_that_is_not_there.part",
            (
                "ModuleNotFoundError: No module named 'a_package_that_is_not_there'; install the package that has "
                "a_package_that_is_not_there, or put it beside the file if it is yours"
            ),
        ),
        ("def make(:", "SyntaxError: invalid syntax (broken_file_of_a_test.py, line 1); mend the file"),
        ("raise SystemExit(2)", "it called sys.exit(2); guard what runs with if __name__ == '__main__'; mend the file"),
        ("1 / 0", "ZeroDivisionError: division by zero; mend the file"),
        ("raise ValueError", "ValueError: no reason given; mend the file"),
    ],
)
def test_a_file_that_fails_to_import_says_so_and_is_forgotten(tmp_path, content, sentence):
    path = tmp_path / "broken_file_of_a_test.py"
    path.write_text(content, encoding="utf-8")

    assert refusal(f"{path}:make") == f"{path} failed to import: {sentence}"
    assert "broken_file_of_a_test" not in sys.modules


def test_a_file_with_nothing_in_it_says_so(tmp_path):
    (tmp_path / "empty_file_of_a_test.py").write_text("", encoding="utf-8")

    assert "there is nothing in it that could be one" in refusal(f"{tmp_path}/empty_file_of_a_test.py:make")


def test_many_candidates_are_cut(tmp_path):
    text = "".join(f"def make{k}(): pass\n" for k in range(20))
    (tmp_path / "long_file_of_a_test.py").write_text(text, encoding="utf-8")

    assert refusal(f"{tmp_path}/long_file_of_a_test.py:x").endswith("make6, make7, ...")


def test_a_missing_module_is_told_from_one_whose_import_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package_of_a_test").mkdir()
    (tmp_path / "package_of_a_test" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "package_of_a_test" / "needy.py").write_text("import absent_of_a_test", encoding="utf-8")
    (tmp_path / "package_of_a_test" / "broken.py").write_text("1 / 0", encoding="utf-8")

    assert refusal("none_of_a_test.nets:make").startswith(
        "module none_of_a_test.nets does not exist (none_of_a_test was"
    )
    assert refusal("package_of_a_test.nets:make").startswith("module package_of_a_test.nets does not exist")
    assert (
        "failed to import: ModuleNotFoundError: No module named 'absent_of_a_test'; install what it imports"
        in refusal("package_of_a_test.needy:make")
    )
    assert "failed to import: ZeroDivisionError: division by zero; mend it" in refusal("package_of_a_test.broken:make")


def test_weights_without_numbers_are_told(file):
    file.write_text(
        "import torch\nfrom torch import nn\n\n\ndef make():\n"
        "    with torch.device('meta'):\n        return nn.LSTM(2, 3)\n",
        encoding="utf-8",
    )

    assert "made weights on the device meta, expected some that have numbers; make them" in refusal(f"{file}:make")


def test_a_built_in_that_tells_no_signature_is_called(file):
    file.write_text("make = dict.fromkeys\nmake2 = type\n", encoding="utf-8")

    assert "failed when called: TypeError" in refusal(f"{file}:make2")


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


def test_a_relative_import_in_a_file_is_answered_with_the_form_for_packages(tmp_path):
    path = tmp_path / "inner_file_of_a_test.py"
    path.write_text("from .cells import Cell\n", encoding="utf-8")

    assert refusal(f"{path}:make").endswith(
        "; it belongs to a package, so name it as package.module:factory, from the folder that holds the package"
    )
