"""cluster.yaml passes Ray's own checks, and all that launches a cluster has the versions of constraints.txt."""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER, RAYJOB, DOCKERFILE = ROOT / "cluster.yaml", ROOT / "docs/rayjob.yaml", ROOT / "docs/Dockerfile"
CONSTRAINTS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
)


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def validate(config: dict[str, Any]) -> dict[str, Any]:
    """As `ray up` does before it looks at the cloud; what the file leaves out is filled in first."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def test_ray_takes_the_cluster_file() -> None:
    prepared = validate(load(CLUSTER))
    assert prepared["available_node_types"]["gpu"]["min_workers"] == 0
    assert prepared["max_workers"] == prepared["available_node_types"]["gpu"]["max_workers"] == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_worker": 8}, "'max_worker' was unexpected"),
        ({"max_workers": "eight"}, "'eight' is not of type 'integer'"),
        ({"head_node_type": "haed"}, "must be one of `available_node_types`"),
        ({"max_workers": -1}, "-1 is less than the minimum"),
        ({"docker": {"image": "rayproject/ray"}}, "Must provide a container"),
    ],
)
def test_a_mistake_in_the_cluster_file_is_caught(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=re.escape(message)):
        validate(load(CLUSTER) | change)


def test_ray_takes_the_file_as_the_page_changes_it() -> None:
    cluster = load(CLUSTER)
    validate(
        cluster
        | {
            "provider": {
                "type": "gcp",
                "region": "us-central1",
                "availability_zone": "us-central1-a",
                "project_id": "PROJECT",
            }
        }
    )
    for name in ("available_node_types", "head_node_type", "max_workers"):
        del cluster[name]
    own = validate(cluster | {"provider": {"type": "local", "head_ip": "HEAD", "worker_ips": ["ONE", "TWO"]}})
    assert own["max_workers"] == 2


def test_the_head_runs_no_trials_and_workers_come_and_go() -> None:
    cluster = load(CLUSTER)
    head, worker = (cluster["available_node_types"][name] for name in (cluster["head_node_type"], "gpu"))
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "--num-cpus=0" in cluster["head_start_ray_commands"][-1]
    assert worker["min_workers"] == 0 < cluster["idle_timeout_minutes"]
    assert worker["resources"]["GPU"] == 1
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    # A worker writes rows and checkpoints itself, and Ray gives a role to the head alone.
    assert worker["node_config"]["IamInstanceProfile"]


def test_nothing_on_the_cluster_works_without_the_token() -> None:
    cluster = load(CLUSTER)
    starts = [cluster[name][-1] for name in ("head_start_ray_commands", "worker_start_ray_commands")]
    assert all(start.startswith("RAY_AUTH_MODE=token ray start ") for start in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert any(option.startswith("--env RAY_AUTH_MODE=token") for option in cluster["docker"]["run_options"])
    token = "/home/ray/.ray/auth_token"
    assert cluster["file_mounts"][token] == "~/.ray/auth_token"
    assert cluster["setup_commands"][0] == f"chmod 600 {token}"


def test_what_is_copied_to_the_machines_exists_and_can_be_installed() -> None:
    copied = [local for local in load(CLUSTER)["file_mounts"].values() if not local.startswith("~")]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert {"structnet", "tournament", "search", "pyproject.toml", "constraints.txt"} <= set(copied)
    for line in re.findall(r"^COPY --chown=\S+ (.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE):
        assert [name for name in line.split() if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", [CLUSTER, DOCKERFILE], ids=lambda path: path.name)
def test_versions_are_those_of_the_constraints(path: Path) -> None:
    text = path.read_text()
    pins = dict(re.findall(r'"([a-z0-9]+)(?:\[[a-z,]+\])?==([0-9.]+)"', text))
    # s3fs goes with the fsspec of its own version.
    expected = {name: CONSTRAINTS[name] for name in ("ray", "torch", "torchvision")}
    assert pins == expected | {"s3fs": CONSTRAINTS["fsspec"]}
    assert '"ray[default,train,tune]==' in text
    images = re.findall(r"rayproject/ray:([0-9.]+)-py(\d)(\d+)", text)
    assert images
    assert {image[0] for image in images} == {CONSTRAINTS["ray"]}
    assert {(int(image[1]), int(image[2])) for image in images} == {(3, 11)}
    assert sys.version_info >= (3, 11)


def test_the_manifest_for_kubernetes_starts_what_the_cluster_file_does() -> None:
    job = load(RAYJOB)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert spec["entrypoint"].startswith("structnet hunt ")
    assert "--resume" in spec["entrypoint"].split()
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == CONSTRAINTS["ray"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    head, (worker,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert (worker["replicas"], worker["minReplicas"]) == (0, 0)
    containers = [group["template"]["spec"]["containers"][0] for group in (head, worker)]
    assert len({container["image"] for container in containers}) == 1
    assert containers[0]["image"].endswith(f"ray-{CONSTRAINTS['ray']}")
    assert containers[1]["resources"]["limits"]["nvidia.com/gpu"] == "1"


# Of KubeRay's reference of the ray.io/v1 types; a name that is not among them is dropped without a word there.
KNOWN = {
    "spec": {
        "activeDeadlineSeconds",
        "backoffLimit",
        "entrypoint",
        "rayClusterSpec",
        "runtimeEnvYAML",
        "shutdownAfterJobFinishes",
        "submissionMode",
        "ttlSecondsAfterFinished",
    },
    "rayClusterSpec": {
        "authOptions",
        "autoscalerOptions",
        "enableInTreeAutoscaling",
        "headGroupSpec",
        "rayVersion",
        "workerGroupSpecs",
    },
    "autoscalerOptions": {"idleTimeoutSeconds", "upscalingMode", "version"},
    "headGroupSpec": {"rayStartParams", "serviceType", "template"},
    "workerGroupSpecs": {"groupName", "maxReplicas", "minReplicas", "rayStartParams", "replicas", "template"},
}


def test_the_manifest_has_only_fields_that_kuberay_knows() -> None:
    spec = load(RAYJOB)["spec"]
    cluster = spec["rayClusterSpec"]
    parts = {name: cluster[name] for name in ("autoscalerOptions", "headGroupSpec")}
    parts |= {"spec": spec, "rayClusterSpec": cluster, "workerGroupSpecs": cluster["workerGroupSpecs"][0]}
    assert {name: set(part) - KNOWN[name] for name, part in parts.items()} == {name: set() for name in KNOWN}
