"""The Dockerfile, read as text: what each stage installs, and how the image starts. compose_test.sh builds it."""

import re
import tomllib

import pytest

from cellgate import __version__
from cellgate.serve.processes.slots import CONTROL, ENGINE, FRONTEND, RPC_FRONTEND

from .queries import ROOT

pytestmark = pytest.mark.tree

LINES = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


def stages():
    """Return the text of each stage by its name; the image's is "image"."""
    parts = re.split(r"^FROM (.*)$", LINES, flags=re.MULTILINE)[1:]
    names = [(line.partition(" AS ")[2] or "image", line.partition(" AS ")[0]) for line in parts[::2]]
    return {name: (base, body) for (name, base), body in zip(names, parts[1::2], strict=True)}


def test_the_image_stands_on_the_plain_base_and_takes_two_folders_of_the_builders():
    base, body = stages()["image"]

    assert base == "${BASE}"
    assert re.findall(r"^COPY (.*)$", body, re.MULTILINE) == [
        "--from=environment /opt/cellgate /opt/cellgate",
        "--from=bundle /bundles /srv/example",
    ]
    assert "pip install" not in body


def test_torch_is_installed_where_the_bundle_is_exported_and_nowhere_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with_torch = {name for name, needs in project["optional-dependencies"].items() if any("torch" in n for n in needs)}

    assert with_torch == {"export"}
    assert [name for name, (_, body) in stages().items() if "export.txt" in body] == ["bundle"]
    assert not any("torch" in need for need in project["dependencies"])


def test_every_installation_is_held_by_the_constraints():
    assert "PIP_CONSTRAINT=/build/constraints.txt" in stages()["tools"][1]
    assert all(base == "tools" for name, (base, _) in stages().items() if name not in ("tools", "image"))


def test_a_compiler_is_in_no_stage_but_the_one_that_compiles():
    assert [name for name, (_, body) in stages().items() if re.search(r"\bgcc\b", body)] == ["wheel"]
    assert "export CELLGATE_COMPILE=1" in stages()["wheel"][1]


def test_the_image_starts_and_stops_without_a_shell():
    _, body = stages()["image"]

    assert 'ENTRYPOINT ["cellgate"]' in body
    assert re.search(r'^CMD \["serve", "example/japanese-vowels"\]', body, re.MULTILINE)
    assert re.search(r'^HEALTHCHECK .*CMD \["cellgate", "ready"\]', body, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in body


def test_every_process_of_a_server_is_compiled_in_the_image_where_nobody_may_write_later():
    compiled = re.search(r'python -c "import ([^"]*)"', stages()["image"][1])[1]

    assert {ENGINE, FRONTEND, RPC_FRONTEND, CONTROL} <= set(re.split(r",\s*", compiled))


def test_the_image_has_a_user_by_number_and_no_telemetry():
    _, body = stages()["image"]

    assert re.findall(r"^USER (.*)$", body, re.MULTILINE) == ["10001:10001"]
    assert "ORT_DISABLE_TELEMETRY=1" in body


def test_the_label_is_of_this_version():
    assert f"ARG VERSION={__version__}\n" in stages()["image"][1]


def test_no_package_index_is_named():
    for name in ("Dockerfile", "docker-compose.yml", "constraints.txt"):
        assert not re.search(r"https?://(?!127\.0\.0\.1)", (ROOT / name).read_text()), name


def test_the_build_sees_every_package_and_nothing_that_it_does_not_need():
    listed = set((ROOT / ".dockerignore").read_text().split("\n"))
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {name.split(".")[1] for name in packages if "." in name}

    assert "*" in listed
    assert {f"!{folder}" for folder in folders} <= listed
    assert not {"!tests", "!bundles", "!.git", "!.venv"} & listed


def test_the_constraints_name_one_version_each():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    loose = {line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)}

    assert loose == {"setuptools>=77"}  # builds wheels, and is in none
