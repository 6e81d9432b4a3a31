import os
import shutil
import tempfile
from pathlib import Path

import pytest

from cellgate.serve.errors import LoadRefused, NotInRepository
from cellgate.serve.models.repository import Repository
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.start_errors import ServerStartError

SOMEBODY = 65_534  # no user's number


@pytest.fixture
def write(make_network, tmp_path):
    """Write a bundle of the network "steps" into a folder of the repository."""

    def write_one(folder, version, name="steps"):
        network = make_network("steps")
        path = tmp_path / "repository" / folder
        path.parent.mkdir(parents=True, exist_ok=True)
        return network.write(path, name=name, version=version)

    return write_one


@pytest.fixture
def repository(tmp_path):
    return Repository([], tmp_path / "repository")


def test_the_highest_version_is_meant_where_none_is_asked_for(write, repository):
    write("a", 9)
    newest = write("b", 10)

    assert repository.find("steps", None) == BundlePlace(newest, "steps")
    assert repository.find("steps", "9").path.name == "a"


def test_names_and_versions_are_those_of_the_manifests_whatever_the_folders_are_called(write, repository):
    path = write("other/1", 7)
    write("steps/8", 2, name="other")

    assert repository.find("steps", "7").path == path
    assert [(place.name, place.path.name) for place in repository.newest()] == [("other", "8"), ("steps", "1")]


def test_what_lies_there_is_looked_at_anew_each_time(write, repository):
    write("a", 1)
    repository.find("steps", None)
    later = write("b", 2)

    assert repository.find("steps", None).path == later
    shutil.rmtree(later)
    assert repository.find("steps", None).path.name == "a"


def test_a_bundle_of_the_command_line_can_be_loaded_again_under_its_name_there(write):
    path = write("a", 3)
    repository = Repository([BundlePlace(path, "renamed")])

    assert repository.find("renamed", None) == BundlePlace(path, "renamed")
    with pytest.raises(NotInRepository):
        repository.find("steps", None)


def test_the_folder_comes_before_the_place_of_the_command_line(write, tmp_path):
    place, newer = write("../place", 3), write("a", 4)
    repository = Repository([BundlePlace(place)], tmp_path / "repository")

    assert repository.find("steps", None).path == newer
    assert repository.find("steps", "3").path == place


def test_two_folders_with_one_version_are_refused_for_which_is_meant_were_chance(write, repository):
    write("a", 1)
    write("b", 2)
    write("c", 2)

    with pytest.raises(LoadRefused, match=r"steps version 2: expected one bundle .*, found \S+/b and \S+/c; move one"):
        repository.find("steps", None)
    with pytest.raises(ServerStartError, match=r"steps version 2: expected one bundle .*, found \S+/b and \S+/c; move"):
        repository.newest()
    assert repository.find("steps", "1").path.name == "a"


def test_what_is_not_there_is_told_with_the_versions_that_are(write, repository):
    write("a", 1)
    write("b", 2)

    with pytest.raises(NotInRepository, match=r"bundle of 'steps' version '3', found versions 1 and 2 of it;"):
        repository.find("steps", "3")
    with pytest.raises(NotInRepository, match="expected a bundle of 'nope', found none;"):
        repository.find("nope", None)


@pytest.mark.parametrize("name", ["../a", "/etc", "a/../a", "http://h/a", "file:///a", "%2e%2e", "a\0"])
def test_a_name_never_becomes_a_path(write, repository, name):
    write("a", 1)

    with pytest.raises(NotInRepository):
        repository.find(name, None)


def test_what_is_no_bundle_is_passed_over(write, repository, tmp_path):
    write("good", 1)
    root = tmp_path / "repository"
    (root / "empty").mkdir()
    (root / "file").write_text("x")
    (root / ".hidden").mkdir()
    (root / "odd").mkdir()
    (root / "odd" / "manifest.json").write_text("{}")

    assert [place.path.name for place in repository.newest()] == ["good"]


@pytest.mark.parametrize(("folder", "found"), [("none", "no such folder"), ("empty", "none in it")])
def test_a_server_without_any_bundle_does_not_start(tmp_path, folder, found):
    (tmp_path / "empty").mkdir()

    with pytest.raises(ServerStartError, match=rf"repository .*: expected a folder of bundles, found {found}"):
        Repository([], tmp_path / folder).newest()


@pytest.fixture
def as_somebody():
    """Be bound by the permissions of files, which the superuser is not."""
    folder = Path(tempfile.mkdtemp())
    if is_root := os.geteuid() == 0:
        os.chown(folder, SOMEBODY, SOMEBODY)
        os.seteuid(SOMEBODY)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_a_folder_that_may_not_be_looked_into_is_passed_over(make_network, as_somebody):
    """As `lost+found` of a volume that is mounted there."""
    path = make_network("steps").write(as_somebody / "a", name="steps", version=1)
    shut = as_somebody / "lost+found"
    shut.mkdir(mode=0)

    try:
        assert Repository([], as_somebody).newest() == [BundlePlace(path, "steps")]
    finally:
        shut.chmod(0o700)  # else somebody could not remove it
