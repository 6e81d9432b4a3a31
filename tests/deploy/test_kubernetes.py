"""The manifests: what a restricted namespace asks for, probes, time to stop. `make deploy-check` holds the schema."""

import re

import pytest
import yaml

from cellgate.serve.settings import Settings

from .queries import ROOT

pytestmark = pytest.mark.tree

FOLDER = ROOT / "deploy/kubernetes"
MANIFESTS = [manifest for file in sorted(FOLDER.rglob("*.yaml")) for manifest in yaml.safe_load_all(file.read_text())]
DEPLOYMENTS = {manifest["metadata"]["name"]: manifest for manifest in MANIFESTS if manifest["kind"] == "Deployment"}
NAMES = ["cellgate", "cellgate-gpu"]


def pod(name):
    return DEPLOYMENTS[name]["spec"]["template"]["spec"]


def container(name):
    (only,) = pod(name)["containers"]
    return only


def one(kind):
    (found,) = (manifest for manifest in MANIFESTS if manifest["kind"] == kind)
    return found


def test_there_are_two_deployments_and_one_of_each_other():
    assert list(DEPLOYMENTS) == NAMES
    assert sorted(manifest["kind"] for manifest in MANIFESTS) == [
        "Deployment",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_pod_keeps_the_restricted_standard(name):
    security = container(name)["securityContext"]

    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert pod(name)["securityContext"]["runAsUser"] == 10001
    assert pod(name)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(name)["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", NAMES)
def test_the_variables_of_a_service_called_cellgate_do_not_become_settings(name):
    assert pod(name)["enableServiceLinks"] is False


@pytest.mark.parametrize("name", NAMES)
def test_a_pod_has_time_to_leave_the_service_and_to_end_its_requests(name):
    before_s = container(name)["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert pod(name)["terminationGracePeriodSeconds"] >= before_s + Settings().shutdown_grace_s + 5


@pytest.mark.parametrize("name", NAMES)
def test_probes_ask_what_they_are_for(name):
    asked = {probe: container(name)[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}

    assert asked == {
        "startup": {"path": "/v2/health/live", "port": "http"},
        "liveness": {"path": "/v2/health/live", "port": "http"},
        "readiness": {"path": "/v2/health/ready", "port": "http"},
    }


@pytest.mark.parametrize("name", NAMES)
def test_cpus_are_limited_as_requested_for_the_server_plans_with_its_limit(name):
    resources = container(name)["resources"]

    assert resources["limits"]["cpu"] == resources["requests"]["cpu"]
    assert {"cpu", "memory"} <= resources["limits"].keys()


def test_the_gpu_deployment_differs_in_what_a_gpu_needs_alone():
    cpu, gpu = DEPLOYMENTS["cellgate"], DEPLOYMENTS["cellgate-gpu"]
    expected = yaml.safe_load(yaml.safe_dump(cpu).replace("component: cpu", "component: gpu"))
    expected["metadata"]["name"] = "cellgate-gpu"
    expected["spec"]["replicas"] = 1
    expected["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    inner = expected["spec"]["template"]["spec"]
    inner["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (only,) = inner["containers"]
    only["image"] = "cellgate:gpu"
    only["env"] = [{"name": "CELLGATE_DEVICE", "value": "cuda"}]
    only["resources"] = {
        "requests": {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"},
        "limits": {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "1"},
    }
    only["startupProbe"]["failureThreshold"] = 150

    assert gpu == expected


def test_everything_selects_the_pods_that_it_means():
    labels = DEPLOYMENTS["cellgate"]["spec"]["template"]["metadata"]["labels"]

    assert one("Service")["spec"]["selector"].items() <= labels.items()
    assert one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "cellgate"
    assert "replicas" not in DEPLOYMENTS["cellgate"]["spec"]


def test_a_pod_opens_no_connection_and_takes_those_of_its_two_ports():
    policy = one("NetworkPolicy")["spec"]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    both = [{"protocol": "TCP", "port": name} for name in ("http", "grpc")]
    assert [rule["ports"] for rule in policy["ingress"]] == [both]


def test_what_the_page_adds_fits_into_the_manifests_and_names_settings():
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/deploy.md").read_text(), re.DOTALL)
    variables, policy, deployment = (block for block in map(yaml.safe_load, blocks) if "services" not in block)
    added = deployment["spec"]["template"]["spec"]
    (only,) = added["containers"]

    assert only["name"] == container("cellgate")["name"]
    assert added["securityContext"]["fsGroup"] == pod("cellgate")["securityContext"]["runAsUser"]
    assert [volume["name"] for volume in added["volumes"]] == [mount["name"] for mount in only["volumeMounts"]]
    for variable in variables + only["env"]:
        assert hasattr(Settings(), variable["name"].removeprefix("CELLGATE_").lower())
    assert one("NetworkPolicy")["spec"]["egress"] == []
    assert [way["ports"][0]["port"] for way in policy["egress"]] == [6379, 53]
