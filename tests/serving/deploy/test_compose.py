"""The compose files, the config files and what they point at."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorflow_serving.config import model_server_config_pb2

from serving import config, flags, textproto
from serving.options import Options

DEPLOY = Path(__file__).resolve().parents[3] / "serving" / "deploy"
SERVICE_KEYS = {
    *("image", "entrypoint", "command", "ports", "volumes", "mem_limit", "read_only", "tmpfs"),
    *("cap_drop", "security_opt", "healthcheck", "stop_grace_period", "restart", "environment"),
    "depends_on",
}


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_the_services_are_well_formed() -> None:
    found = compose()
    assert set(found) == {"name", "services", "volumes"}
    assert set(found["services"]) == {"serving", "redis", "prometheus", "grafana"}
    named = set(found["volumes"])
    used = set()
    for name, service in found["services"].items():
        assert set(service) <= SERVICE_KEYS, f"{name}: {set(service) - SERVICE_KEYS}"
        image, _, tag = service["image"].rpartition(":")
        assert image, name
        assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?(-alpine)?", tag), f"{name} floats: {tag}"
        for port in service["ports"]:
            assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port), port  # nothing open to the world
        for volume in service["volumes"]:
            source, target, *mode = re.sub(r"\$\{[^}]*\}", "$VARIABLE", volume).split(":")
            assert target.startswith("/")
            assert mode in ([], ["ro"])
            if source.startswith("./"):
                assert (DEPLOY / source).is_dir(), source
                assert mode == ["ro"]
            elif not source.startswith("$"):
                used.add(source)
        assert set(service.get("depends_on", [])) <= set(found["services"])
    assert used == named
    assert found["services"]["serving"]["image"] == "tensorflow/serving:2.19.1"


@pytest.mark.parametrize("name", ["compose.yaml", "compose.batching.yaml"])
def test_the_embedded_server_takes_the_same_flags_and_files(name: str) -> None:
    serving = compose(name)["services"]["serving"]
    here = [word.replace("=/config/", f"={DEPLOY}/config/") for word in serving["command"]]
    options = Options(**flags.parse(here))
    assert (options.port, options.rest_api_port) == (8500, 8501)
    assert [model.name for model in options.models()] == ["retrieval", "ranking"]
    assert options.metrics_path() == "/monitoring/prometheus/metrics"
    batching = options.batching_options()
    if name == "compose.yaml":
        assert batching is None
    else:
        assert batching is not None
        assert batching.max_batch_size == batching.allowed_batch_sizes[-1] == 64
        assert batching.batch_timeout_s == pytest.approx(0.001)
        assert not batching.pad_variable_length_inputs


def test_the_batching_file_changes_nothing_else() -> None:
    plain = compose()["services"]["serving"]["command"]
    batching = compose("compose.batching.yaml")["services"]["serving"]["command"]
    assert batching[: len(plain)] == plain
    assert len(batching) == len(plain) + 2


def test_models_config() -> None:
    models = config.read_models(str(DEPLOY / "config" / "models.config"))
    assert [(m.name, m.base_path) for m in models] == [
        ("retrieval", "/models/retrieval"),
        ("ranking", "/models/ranking"),
    ]
    assert all(m.policy == config.VersionPolicy(latest=1) for m in models)


def test_the_commented_lines_of_models_config_are_right_too(tmp_path: Path) -> None:
    text = (DEPLOY / "config" / "models.config").read_text()
    lines = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   ")]
    text = text.replace("model_version_policy { latest { num_versions: 1 } }", "\n".join(lines), 1)
    (tmp_path / "m").write_text(text)
    proto = model_server_config_pb2.ModelServerConfig()
    first = config.models(textproto.read(tmp_path / "m", proto))[0]
    assert first.policy.specific == (1700000000, 1700086400)
    assert first.labels == {"stable": 1700000000, "canary": 1700086400}


def test_monitoring_config_and_prometheus_agree() -> None:
    path = DEPLOY / "config" / "monitoring.config"
    proto = textproto.read(path, textproto.message_class("MonitoringConfig")())
    assert proto.prometheus_config.enable
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in scrape["scrape_configs"]}
    assert jobs["serving"]["metrics_path"] == proto.prometheus_config.path
    (target,) = jobs["serving"]["static_configs"][0]["targets"]
    host, port = target.split(":")
    service = compose()["services"][host]
    assert f"--rest_api_port={port}" in service["command"]
    (rules,) = scrape["rule_files"]
    mounted = compose()["services"]["prometheus"]["volumes"][0].split(":")
    assert rules.startswith(f"{mounted[1]}/")
    assert (DEPLOY / mounted[0] / Path(rules).name).is_file()
