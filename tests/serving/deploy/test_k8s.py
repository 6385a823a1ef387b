"""The Kubernetes manifests: against the API's schemas, and against each other."""

from __future__ import annotations

import copy
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from serving import flags

ROOT = Path(__file__).resolve().parents[3]
K8S = ROOT / "serving" / "deploy" / "k8s"
CONFIG = ROOT / "serving" / "deploy" / "config"
VERSIONS = ["1.27", "1.31", "1.37"]  # gRPC probes are stable since 1.27

Object = dict[str, Any]
MERGE_KEYS = {"containers": "name", "volumes": "name", "volumeMounts": "mountPath"}


def load(path: Path) -> list[Object]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def merge(old: Any, patch: Any, field: str = "") -> Any:
    """A strategic merge, as far as these patches use one."""
    if isinstance(patch, dict) and isinstance(old, dict):
        merged = dict(old)
        for key, value in patch.items():
            merged[key] = merge(old.get(key), value, key)
        return merged
    if isinstance(patch, list) and isinstance(old, list) and field in MERGE_KEYS:
        key = MERGE_KEYS[field]
        merged_list = list(old)
        for entry in patch:
            at = next((n for n, one in enumerate(merged_list) if one[key] == entry[key]), None)
            if entry.get("$patch") == "delete":
                assert at is not None, f"nothing to delete: {entry}"
                del merged_list[at]
            elif at is None:
                merged_list.append(entry)
            else:
                merged_list[at] = merge(merged_list[at], entry)
        return merged_list
    return patch


def identity(one: Object) -> tuple[str, str]:
    return one["kind"], one["metadata"]["name"]


def build(folder: Path) -> dict[tuple[str, str], Object]:
    """What ``kubectl kustomize FOLDER`` would print: resources, then patches."""
    kustomization = load(folder / "kustomization.yaml")[0]
    assert kustomization["kind"] == "Kustomization"
    built: dict[tuple[str, str], Object] = {}
    for resource in kustomization["resources"]:
        path = folder / resource
        found = build(path).values() if path.is_dir() else load(path)
        for one in found:
            assert identity(one) not in built, f"twice: {identity(one)}"
            built[identity(one)] = copy.deepcopy(one)
    for patch in kustomization.get("patches", []):
        if "path" in patch:
            (change,) = load(folder / patch["path"])
            if change.pop("$patch", None) == "delete":
                del built[identity(change)]
            else:
                built[identity(change)] = merge(built[identity(change)], change)
            continue
        target = built[patch["target"]["kind"], patch["target"]["name"]]
        for step in yaml.safe_load(patch["patch"]):
            assert step["op"] == "add"
            assert step["path"].endswith("/-")
            place: Any = target
            for part in step["path"].split("/")[1:-1]:
                place = place[int(part) if isinstance(place, list) else part]
            place.append(step["value"])
    return built


VARIANTS = ["base", "bucket", "batching"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_schema(variant: str, version: str) -> None:
    built = build(K8S / variant)
    kinds = sorted({kind for kind, _ in built})
    assert {"ConfigMap", "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget"} < set(
        kinds
    )
    for one in built.values():
        kubernetes_validate.validate(one, version, strict=True)


def test_the_validator_would_notice_a_mistake() -> None:
    broken = build(K8S / "base")["Deployment", "tfrec-serving"]
    broken["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="redinessProbe"):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_every_file_is_used() -> None:
    for variant in VARIANTS:
        kustomization = load(K8S / variant / "kustomization.yaml")[0]
        named = {name for name in kustomization["resources"] if name.endswith(".yaml")}
        named |= {patch["path"] for patch in kustomization.get("patches", []) if "path" in patch}
        assert named | {"kustomization.yaml"} == {p.name for p in (K8S / variant).iterdir()}


def pod(variant: str) -> Object:
    return build(K8S / variant)["Deployment", "tfrec-serving"]["spec"]["template"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_selectors_ports_and_volumes_fit_together(variant: str) -> None:
    built = build(K8S / variant)
    labels = pod(variant)["metadata"]["labels"]
    (container,) = pod(variant)["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    deployment = built["Deployment", "tfrec-serving"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for (kind, _), one in built.items():
        if kind == "Service":
            assert one["spec"]["selector"].items() <= labels.items()
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= set(ports)
    disruption = built["PodDisruptionBudget", "tfrec-serving"]["spec"]
    assert disruption["selector"]["matchLabels"].items() <= labels.items()
    scaler = built["HorizontalPodAutoscaler", "tfrec-serving"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaler["minReplicas"] >= 2
    assert "replicas" not in deployment["spec"]  # else every apply undoes the autoscaler
    volumes = {volume["name"]: volume for volume in pod(variant)["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert ("ConfigMap", volumes["config"]["configMap"]["name"]) in built
    if variant != "bucket":
        claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
        assert ("PersistentVolumeClaim", claim) in built
    else:
        assert ("ServiceAccount", pod(variant)["spec"]["serviceAccountName"]) in built
        assert not [identity(one) for one in built.values() if "Volume" in one["kind"]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_probes_resources_and_privileges(variant: str) -> None:
    (container,) = pod(variant)["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert container["readinessProbe"]["httpGet"]["port"] in ports
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == ports["grpc"]
    # The grace covers the pause before SIGTERM.
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod(variant)["spec"]["terminationGracePeriodSeconds"] > pause + 10
    resources = container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert pod(variant)["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["image"].split(":")[1] == "2.19.1"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_embedded_server_takes_the_same_flags(variant: str) -> None:
    (container,) = pod(variant)["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    given = flags.parse(container["args"])
    assert (given["port"], given["rest_api_port"]) == (ports["grpc"], ports["http"])
    assert given["enable_grpc_healthcheck_service"] is True  # the probes ask it
    assert given.get("enable_batching", False) is (variant == "batching")
    files = [value for name, value in given.items() if name.endswith("_file")]
    data = build(K8S / variant)["ConfigMap", "tfrec-serving"]["data"]
    assert {Path(name).name for name in files} <= set(data)
    assert all(str(Path(name).parent) == "/config" for name in files)
    assert shlex.join(container["command"]) == "tensorflow_model_server"


def test_the_config_map_is_the_config_files() -> None:
    data = build(K8S / "base")["ConfigMap", "tfrec-serving"]["data"]
    assert data == {path.name: path.read_text() for path in CONFIG.iterdir()}
    bucket = build(K8S / "bucket")["ConfigMap", "tfrec-serving"]["data"]
    assert bucket["monitoring.config"] == data["monitoring.config"]
    assert "gs://YOUR-BUCKET/models/retrieval" in bucket["models.config"]
