"""The RayJob, checked against the fields of KubeRay's published API; its pods were checked against Kubernetes' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

FIELDS = {
    "job": {
        "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint",
        "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata",
        "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig",
        "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished",
    },
    "cluster": {
        "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions",
        "headGroupSpec", "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "upgradeStrategy",
        "workerGroupSpecs",
    },
    "authentication": {"mode", "secretName", "enableK8sTokenAuth"},
    "autoscaler": {
        "args", "command", "env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy", "resources",
        "securityContext", "upscalingMode", "version", "volumeMounts",
    },
    "head": {
        "enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType", "template",
    },
    "worker": {
        "groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams",
        "replicas", "resources", "scaleStrategy", "suspend", "template",
    },
}  # fmt: skip
"""Of ray.io/v1 in KubeRay 1.6: RayJobSpec, RayClusterSpec, AuthOptions, AutoscalerOptions and the two groups."""


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((Path(__file__).parents[2] / "cluster" / "kuberay.yaml").read_text()))


@pytest.fixture
def job(documents: list[dict[str, Any]]) -> dict[str, Any]:
    assert (documents[0]["apiVersion"], documents[0]["kind"]) == ("ray.io/v1", "RayJob")
    spec: dict[str, Any] = documents[0]["spec"]
    return spec


def templates(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = job["rayClusterSpec"]
    yield job["submitterPodTemplate"]
    yield cluster["headGroupSpec"]["template"]
    for group in cluster["workerGroupSpecs"]:
        yield group["template"]


def test_every_field_is_one_of_the_api(job: dict[str, Any]) -> None:
    cluster = job["rayClusterSpec"]
    parts = {
        "job": job,
        "cluster": cluster,
        "authentication": cluster["authOptions"],
        "autoscaler": cluster["autoscalerOptions"],
        "head": cluster["headGroupSpec"],
    }
    for name, part in [*parts.items(), *(("worker", group) for group in cluster["workerGroupSpecs"])]:
        assert set(part) <= FIELDS[name], name
    assert {"rayStartParams", "template"} <= set(cluster["headGroupSpec"])
    for group in cluster["workerGroupSpecs"]:
        assert {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"} <= set(group)
        assert 0 <= group["minReplicas"] <= group["maxReplicas"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_no_pod_has_more_rights_than_it_needs(job: dict[str, Any]) -> None:
    for template in templates(job):
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"]
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
    submitter, head, *workers = templates(job)
    for template in (submitter, *workers):
        assert template["spec"]["automountServiceAccountToken"] is False
    assert "automountServiceAccountToken" not in head["spec"], "its autoscaler asks Kubernetes for workers"
    assert job["rayClusterSpec"]["autoscalerOptions"]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_nothing_is_reached_from_outside_nor_without_the_token(
    job: dict[str, Any], documents: list[dict[str, Any]]
) -> None:
    cluster = job["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    policy = documents[1]
    assert policy["kind"] == "NetworkPolicy"
    label = policy["spec"]["podSelector"]["matchLabels"]
    for template in templates(job):
        assert label.items() <= template["metadata"]["labels"].items()
    among_themselves, from_the_operator = policy["spec"]["ingress"]
    assert among_themselves == {"from": [{"podSelector": {"matchLabels": label}}]}
    assert from_the_operator["ports"] == [{"protocol": "TCP", "port": 8265}]


def test_it_costs_nothing_after_its_end(job: dict[str, Any]) -> None:
    assert job["shutdownAfterJobFinishes"]
    assert [group["minReplicas"] for group in job["rayClusterSpec"]["workerGroupSpecs"]] == [0]


def test_no_statistics_are_sent(job: dict[str, Any]) -> None:
    _, *nodes = templates(job)
    for template in nodes:
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in template["spec"]["containers"][0]["env"]


def test_trials_run_on_the_gpus_alone(job: dict[str, Any]) -> None:
    cluster = job["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "run.address=auto" in job["entrypoint"]
    assert "tune.resources.gpu=1" in job["entrypoint"]
    assert "\n" not in job["entrypoint"].strip()
