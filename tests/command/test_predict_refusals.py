"""cellgate predict where it cannot: files of another form, each told in one sentence with the place."""

import math
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.txt", "1", "expected a file of sequences (.npy, .npz, .csv, .json, .parquet), found the suffix '.txt'"),
        ("x", "1", "found no suffix"),
        ("x.npy", "1", "as np.save writes them, found: another form; give the file the suffix of its own form, or"),
        ("x.npz", "1", "as np.save writes them, found: another form; give the file the suffix of its own form, or"),
        ("x.csv", "", "expected a row of numbers for each step, found none"),
        ("x.csv", "1;2;3\n", "line 1: expected numbers joined by commas, found them joined by semicolons: '1;2;3'"),
        ("x.csv", "1\t2\t3\n", "line 1: expected numbers joined by commas, found them joined by tabs: "),
        ("x.csv", "a,b,c\n", "expected a row of numbers for each step, found none"),
        ("x.csv", "1,2,3\n1,2\n", "line 2: expected 3 numbers joined by commas, found '1,2'"),
        ("x.csv", "1,2,3\n\n1,two,3\n", "line 3: expected 3 numbers joined by commas, found '1,two,3'"),
        ("x.csv", "1,2,3\n,,\n1,2,3\n", "line 2: expected 3 numbers joined by commas, found ',,'"),
        ("x.csv", ",,\n1,2,3\n", "line 1: expected 3 numbers joined by commas, found ',,'"),
        ("x.csv", "NA,N/A,null\n1,2,3\n", "line 1: expected 3 numbers joined by commas, found 'NA,N/A,null'"),
        ("x.csv", 'a\n1\n""\n1\n', "line 3: expected 1 numbers joined by commas, found ''"),
        ("x.csv", "1,2,3\n1_000,2,3\n", "line 2: expected 3 numbers joined by commas, found '1_000,2,3'"),
        ("x.csv", "1_0,2_0,3_0\n1,2,3\n", "line 1: expected 3 numbers joined by commas, found '1_0,2_0,3_0'"),
        ("x.csv", "1,2,\xff", "expected a row of numbers for each step, joined by commas, found: "),
        ("x.csv", "0,1,2\n1,2,3\n", "line 1: expected the numbers of a step, found '0,1,2', which counts the columns"),
        ("x.csv", "1,nan,3", "inputs.x: expected finite values, found nan at [0, 0, 1]"),
        ("x.csv", "1,2", "inputs.x.shape: expected [B, T, 3] = [1, 1, 3], found [1, 1, 2]"),
        ("x.json", "[", "expected JSON, found: "),
        (
            "x.json",
            "3",
            "expected [[number, ...], ...] (steps of I) or a list of those, or a request, found lists nested 0",
        ),
        ("x.json", "[]", "found lists nested 1 deep"),
        ("x.json", "[[]]", "sequence 0: expected 2 axes, none of them 0, found [1, 0]"),
        ("x.json", "[[1, 2, 3], [1]]", "sequence 0: expected steps of equal width, found unequal ones"),
        ("x.json", '[["a", "b", "c"]]', "sequence 0: expected numbers, found <U1; convert them"),
        ("x.json", "[[1e999, 1, 1]]", "inputs.x: expected finite values, found inf"),
        ("x.json", "[[[1, 2, 3]], [[1, 2]]]", "sequence 1: expected steps of 3 numbers as in sequence 0, found 2"),
        ("x.json", '{"x": 1}', "x.json: body: expected only the fields"),
        ("x.parquet", "1", "expected a Parquet file, found: "),
    ],
)
def test_a_file_of_another_form_is_exit_2_with_the_place(run, classifier, tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    done = run("predict", classifier.path, "--input", tmp_path / name)

    assert done.status == 2
    assert done.out == ""
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"y": np.ones((2, 3))}, "expected x, and at most lengths, c0, h0 beside, found y"),
        ({"x": np.ones((2, 3)), "z": np.ones(1)}, "found x, z"),
        ({"x": np.ones(3)}, "x: expected [T, I] or [B, T, I], none of them 0, found [3]"),
        ({"x": np.ones((0, 2, 3))}, "none of them 0, found [0, 2, 3]"),
        ({"x": np.ones((2, 3), dtype=bool)}, "x: expected numbers, found bool"),
        (
            {"x": np.ones((2, 2, 3)), "lengths": np.array([2])},
            "lengths: expected 2 integers in 1 .. 2, found int64 [2]",
        ),
        ({"x": np.ones((1, 2, 3)), "lengths": np.array([3])}, "lengths: expected 1 integers in 1 .. 2"),
        ({"x": np.ones((2, 3)), "h0": np.ones((1, 4))}, "h0: expected numbers [1, 1, 4], found float64 [1, 4]"),
        ({"x": np.array(["a", None], dtype=object)}, "expected arrays of numbers, found: Python objects, as np.array"),
    ],
)
def test_an_archive_of_another_form_is_exit_2(run, classifier, tmp_path, arrays, sentence):
    np.savez(tmp_path / "x.npz", **arrays)
    done = run("predict", classifier.path, "--input", tmp_path / "x.npz")

    assert done.status == 2
    assert sentence in done.err


def test_rows_of_unequal_length_are_answered_with_the_forms_that_take_them(run, classifier, tmp_path):
    rows = np.empty(2, dtype=object)
    rows[:] = [np.ones((2, 3)), np.ones((1, 3))]
    np.save(tmp_path / "x.npy", rows)
    done = run("predict", classifier.path, "--input", tmp_path / "x.npy")

    assert done.status == 2
    assert "write the rows as .json, or padded as x in an .npz with their lengths" in done.err
    assert "pickle" not in done.err


def test_a_bad_value_is_told_with_the_row_of_the_file_and_not_of_a_batch(run, classifier, tmp_path):
    x, h = np.ones((300, 2, 3), np.float32), np.zeros((1, 300, 4), np.float32)
    x[299, 1, 2] = np.nan
    np.savez(tmp_path / "x.npz", x=x)
    h[0, 270, 3] = np.inf
    np.savez(tmp_path / "h.npz", x=np.ones_like(x), h0=h)

    assert "found nan at [299, 1, 2]" in run("predict", classifier.path, "--input", tmp_path / "x.npz").err
    assert "inputs.h0: expected finite values, found inf at [0, 270, 3]" in (
        run("predict", classifier.path, "--input", tmp_path / "h.npz").err
    )


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(header("{'descr': \n"), id="not-closed"),
        pytest.param(header("{'descr': ('<f4',), 'fortran_order': False, 'shape': (1, 3)}\n"), id="half-a-dtype"),
        pytest.param(header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**14}, 3)}}\n"), id="no-memory"),
        pytest.param(header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**22}, 3)}}\n"), id="no-int64"),
    ],
)
def test_a_damaged_array_is_exit_2_whatever_numpy_raises(run, classifier, tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    done = run("predict", classifier.path, "--input", tmp_path / "x.npy")

    assert done.status == 2
    assert "x.npy: expected arrays of numbers as np.save writes them, found: " in done.err


def test_a_damaged_archive_is_exit_2_with_its_path(run, classifier, tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.ones((2, 3)))
    whole = path.read_bytes()
    for damaged in (whole[:60], whole[:-30], whole[:150] + bytes([whole[150] ^ 255]) + whole[151:]):
        path.write_bytes(damaged)
        done = run("predict", classifier.path, "--input", path)

        assert done.status == 2
        assert "x.npz: expected arrays of numbers" in done.err


def test_an_archive_of_something_else_is_told(run, classifier, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x", "hello")
    done = run("predict", classifier.path, "--input", tmp_path / "x.npz")

    assert done.status == 2
    assert "x.npz: x: expected an array as np.savez writes it, found other bytes" in done.err


def test_a_suffix_that_lies_is_told(run, classifier, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 3)))
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3)))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")

    assert "expected an archive of arrays, found one array; call it .npy" in (
        run("predict", classifier.path, "--input", tmp_path / "x.npz").err
    )
    assert "expected one array, found an archive; call it .npz" in (
        run("predict", classifier.path, "--input", tmp_path / "a.npy").err
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.json", "[1.5]", "expected tokens (integers), found float64; convert them"),
        ("x.json", "[7]", "inputs.tokens: expected values in 0 .. 6, found 7 at [0, 0]"),
        ("x.json", "[[[1]]]", "expected [token, ...] or a list of those"),
        ("x.csv", "1.5\n", "expected one token (an integer) for each step, found: invalid literal"),
        ("x.csv", "1,2\n", "expected one column of tokens, found 2 columns"),
    ],
)
def test_what_is_no_token_is_told(run, tagger, tmp_path, name, content, sentence):
    (tmp_path / name).write_text(content)
    done = run("predict", tagger.path, "--input", tmp_path / name)

    assert done.status == 2
    assert sentence in done.err


def test_tokens_of_another_shape_are_told(run, tagger, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((1, 2, 3), np.int64))

    assert "expected [T] or [B, T] tokens" in run("predict", tagger.path, "--input", tmp_path / "x.npy").err


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"sequence": ["a"]}, "expected a column for each feature and a row for each step, found none"),
        ({"a": pa.array([], pa.float32())}, "a row for each step, found none"),
        ({"a": ["x"], "b": [1.0]}, "column a: expected numbers, found object; leave it out or convert it"),
        ({"a": [1.0, 2.0], "step": [1, 1]}, "sequence '': expected every row with a step of its own"),
        ({"a": [1.0, 2.0], "step": [1, None]}, "found one missing or twice"),
        (
            {"a": [1.0, 2.0], "step": [1.0, math.nan]},
            "column step: expected a number or a text in every row",
        ),
        ({"a": [1.0, 2.0], "step": [[1], [2]]}, "column step: expected a number or a text in every row, found [1]"),
        ({"a": [1.0, 2.0], "sequence": ["a", None]}, "column sequence: expected a number or a text in every row"),
    ],
)
def test_a_table_of_another_form_is_told(run, classifier, tmp_path, table, sentence):
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    done = run("predict", classifier.path, "--input", tmp_path / "x.parquet")

    assert done.status == 2
    assert sentence in done.err


def test_without_pyarrow_its_extra_is_named(run, classifier, tmp_path, monkeypatch):
    import sys

    (tmp_path / "x.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = run("predict", classifier.path, "--input", tmp_path / "x.parquet")

    assert done.status == 2
    assert done.err == (
        'cellgate: reading .parquet needs pyarrow, which is not installed; run pip install "cellgate[parquet]"\n'
    )


def test_a_missing_file_is_told_from_a_folder(run, classifier, tmp_path):
    (tmp_path / "d.npy").mkdir()

    assert "found nothing there" in run("predict", classifier.path, "--input", tmp_path / "x.npy").err
    assert "found no file there" in run("predict", classifier.path, "--input", tmp_path / "d.npy").err
