"""docker-compose.yml: what is published, what may be written, how it stops. That it works, compose_test.sh says."""

import re

import pytest
import yaml

from cellgate.serve.settings import Settings

from .queries import ROOT

pytestmark = pytest.mark.tree

FILE = ROOT / "docker-compose.yml"
PROJECT = yaml.safe_load(FILE.read_text())
SERVICES = PROJECT["services"]
SERVERS = ["cellgate", "cellgate-gpu"]


def seconds(text):
    return float(text.removesuffix("s"))


def test_without_a_profile_only_the_cpu_server_starts():
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["cellgate"]
    assert {profile for service in SERVICES.values() for profile in service.get("profiles", ())} == {
        "durable",
        "gpu",
        "monitoring",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_everything_is_published_on_this_machine_alone_and_on_ports_of_its_own(name):
    published = SERVICES[name].get("ports", [])
    own = [port for port in published if re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+", port)]
    others = {port for other, service in SERVICES.items() if other != name for port in service.get("ports", ())}

    assert own == published
    assert len(own) == {"cellgate": 2, "cellgate-gpu": 2, "redis": 0}.get(name, 1)  # the server's: HTTP and gRPC
    assert not {re.search(r":-(\d+)", port)[1] for port in own} & {re.search(r":-(\d+)", port)[1] for port in others}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name):
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert 0 < service["pids_limit"] <= 1024
    assert service["mem_limit"]
    assert service["restart"] == "unless-stopped"
    assert not {"privileged", "network_mode", "pid", "cap_add"} & set(service)
    assert name == "redis" or "user" not in service  # our image and the monitors' have users of their own
    assert int(service.get("user", "1").partition(":")[0]) > 0
    assert all(volume.endswith(":ro") for volume in service["volumes"] if volume.startswith((".", "$")))


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_has_longer_to_stop_than_it_gives_its_requests(name):
    assert seconds(SERVICES[name]["stop_grace_period"]) >= Settings().shutdown_grace_s + 5


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_healthy_where_cellgate_ready_says_so(name):
    assert SERVICES[name]["healthcheck"]["test"] == ["CMD", "cellgate", "ready"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_serves_the_example_unless_it_is_told_a_bundle(name):
    assert SERVICES[name]["command"] == ["serve", "${CELLGATE_BUNDLE:-example/japanese-vowels}"]
    assert SERVICES[name]["volumes"] == ["${CELLGATE_BUNDLES:-./bundles}:/srv/bundles:ro", "state:/state"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_takes_orders_where_it_is_told_to_as_the_page_says(name):
    page = (ROOT / "docs" / "deploy.md").read_text()

    assert SERVICES[name]["environment"]["CELLGATE_CONTROL"] == "${CELLGATE_CONTROL:-0}"
    assert "with `CELLGATE_CONTROL=1`, `docker-compose exec`" in page


def test_the_override_of_the_page_gives_settings_to_a_service_that_there_is():
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)
    (override,) = [parsed["services"] for parsed in map(yaml.safe_load, blocks) if "services" in parsed]
    (mounted,) = override["cellgate"]["volumes"]

    assert set(override) <= set(SERVERS)
    for name, path in override["cellgate"]["environment"].items():
        assert hasattr(Settings(), name.removeprefix("CELLGATE_").lower())
        assert path.startswith(f"{mounted.split(':')[1]}/")


def test_the_gpu_server_reserves_a_gpu_and_takes_no_other_device():
    service = SERVICES["cellgate-gpu"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]

    assert device == {"driver": "nvidia", "device_ids": ["${CELLGATE_GPU:-0}"], "capabilities": ["gpu"]}
    assert service["environment"]["CELLGATE_DEVICE"] == "cuda"
    assert service["build"]["args"]["RUNTIME"] == "gpu"
    assert SERVICES["cellgate"]["environment"]["CELLGATE_DEVICE"] == "cpu"
    assert SERVICES["cellgate"]["build"]["args"]["RUNTIME"] == "cpu"


def test_the_head_of_the_file_explains_every_variable_and_no_other():
    head, body = FILE.read_text().split("\nx-server:", 1)
    explained = set(re.findall(r"\b[A-Z]{3,}_[A-Z_]*[A-Z]\b", head))
    used = set(re.findall(r"\$\{([A-Z_]+)", body))

    assert used == explained


def test_images_of_others_have_a_version():
    for service in SERVICES.values():
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def test_every_mounted_file_of_the_tree_is_there():
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            if volume.startswith("./"):
                assert (ROOT / volume.partition(":")[0]).is_dir()
    assert (ROOT / "bundles").is_dir()
