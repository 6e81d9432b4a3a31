"""What people name on a command line, and whose fault it is where it gives no network."""

import queue
import re
import sys

import pytest
import torch
from torch import nn

from cellgate.export.source import load_source

from .source_files import GOOD, refusal

pytestmark = pytest.mark.usefixtures("path_as_before")


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


def test_a_built_in_that_tells_no_signature_is_called(file):
    file.write_text("make = dict.fromkeys\nmake2 = type\n", encoding="utf-8")

    assert "failed when called: TypeError" in refusal(f"{file}:make2")


def test_a_relative_import_in_a_file_is_answered_with_the_form_for_packages(tmp_path):
    path = tmp_path / "inner_file_of_a_test.py"
    path.write_text("from .cells import Cell\n", encoding="utf-8")

    assert refusal(f"{path}:make").endswith(
        "; it belongs to a package, so name it as package.module:factory, from the folder that holds the package"
    )
