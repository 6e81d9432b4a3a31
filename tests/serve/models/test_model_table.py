from dataclasses import replace

import pytest

from cellgate.serve.errors import UnknownModel
from cellgate.serve.models.model_table import ModelTable, unknown_model


@pytest.fixture
def old(served_models):
    return served_models["last"]


@pytest.fixture
def new(old):
    return replace(old, version="4", digest="4" * 64)


@pytest.mark.parametrize("version", [None, "3"])
def test_table_finds_by_name_and_version(old, version):
    assert ModelTable([old]).find("last", version) is old


@pytest.mark.parametrize(
    ("name", "version"), [("nope", None), ("nope", "3"), ("last", "2"), ("last", ""), ("last", "03")]
)
def test_table_says_what_there_is_when_it_finds_nothing(old, name, version):
    with pytest.raises(UnknownModel, match="expected one of last version 3, found"):
        ModelTable([old]).find(name, version)


def test_a_name_means_the_current_version_and_a_retired_one_is_found_by_its_number(old, new):
    table = ModelTable([new], [old])

    assert [table.find("last", version) for version in (None, "4", "3")] == [new, new, old]
    assert table.versions("last") == ("4", "3")
    assert (table.models, table.retired) == ((new,), (old,))


def test_a_name_without_a_current_version_is_unknown_and_its_retired_one_is_not(old):
    table = ModelTable([], [old])

    with pytest.raises(UnknownModel, match="expected one of no model, found 'last'"):
        table.find("last", None)
    assert table.find("last", "3") is old
    assert table.versions("last") == ("3",)


def test_any_version_of_a_name_is_found_the_current_one_first_then_the_newest(old, new):
    assert ModelTable([old], [new]).any_of("last") is old
    assert ModelTable([], [old, new]).any_of("last") is new
    assert ModelTable([], [old]).any_of("last") is old
    with pytest.raises(UnknownModel, match="expected one of no model, found 'steps'"):
        ModelTable([], [old]).any_of("steps")


def test_a_version_is_found_by_the_bundle_that_it_is(old, new, served_models):
    table = ModelTable([new, served_models["steps"]], [old])

    assert table.with_digest("last", old.digest) is old
    assert table.with_digest("last", new.digest) is new
    assert table.with_digest("steps", old.digest) is None


@pytest.mark.parametrize(("key", "words"), [("a/7", "found 'a' version '7'"), ("a", "found 'a'; see")])
def test_what_is_not_served_is_told_in_words(old, key, words):
    assert words in str(unknown_model(key, [old]))
