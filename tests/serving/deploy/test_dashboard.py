"""The dashboard and the alerts ask for metrics and labels that the servers have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving import metrics

DEPLOY = Path(__file__).resolve().parents[3] / "serving" / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "serving.json"

# Exported by tensorflow_model_server and not by the embedded server; so the dashboard says.
OFFICIAL_ONLY = {
    ":tensorflow:serving:batching_session:queuing_latency": {"thread_pool_name"},
    ":tensorflow:serving:batching_session:wrapped_run_count": set(),
}
# Of the embedded server only; the panels say so.
EMBEDDED_ONLY_METRICS = {metrics.VERSION_STATE}
EMBEDDED_ONLY_LABELS = {"version", "signature"}
HISTOGRAMS = {metrics.REQUEST_LATENCY, metrics.RUNTIME_LATENCY} | {
    ":tensorflow:serving:batching_session:queuing_latency"
}
NAME = re.compile(r":[a-z]+(?::[a-z_]+)+")


def panels() -> list[dict[str, Any]]:
    return [one for one in json.loads(DASHBOARD.read_text())["panels"] if one["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    for group in alerts["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


EXPRESSIONS = list(expressions())


def labels_of(name: str) -> set[str]:
    """Labels of a metric as it is spelled in a query; `le` for a histogram's buckets."""
    known = {metric: set(labels) for metric, labels in metrics.LABELS.items()} | OFFICIAL_ONLY
    for suffix in ("_bucket", "_sum", "_count"):
        base = name.removesuffix(suffix)
        if base != name and base in HISTOGRAMS:
            return known[base] | ({"le"} if suffix == "_bucket" else set())
    assert name in known, f"nobody exports {name}"
    assert name not in HISTOGRAMS, f"{name} is a histogram: _bucket, _sum or _count"
    return known[name]


@pytest.mark.parametrize(("title", "expr"), EXPRESSIONS)
def test_every_metric_and_label_exists(title: str, expr: str) -> None:
    names = NAME.findall(expr)
    if title == "ServingDown":
        assert expr == 'up{job="serving"} == 0'
        return
    assert names, expr
    for name in names:
        labels_of(name)
    for name, matchers in re.findall(rf"({NAME.pattern})\{{([^}}]*)\}}", expr):
        assert set(re.findall(r"(\w+)\s*[=!]~?", matchers)) <= labels_of(name), expr
    groups = re.findall(rf"by \(([^)]*)\)\s*\((?:rate\(|increase\()?({NAME.pattern})", expr)
    assert len(groups) == expr.count("by (")
    for group, name in groups:
        assert {label.strip() for label in group.split(",")} <= labels_of(name), expr


@pytest.mark.parametrize(("title", "expr"), EXPRESSIONS)
def test_every_expression_is_balanced_and_asks_for_rates(title: str, expr: str) -> None:
    depth = {"(": 0, "{": 0, "[": 0}
    closing = {")": "(", "}": "{", "]": "["}
    for letter in re.sub(r'"[^"]*"', '""', expr):
        if letter in depth:
            depth[letter] += 1
        elif letter in closing:
            depth[closing[letter]] -= 1
            assert depth[closing[letter]] >= 0, expr
    assert not any(depth.values()), expr
    # Counters only ever grow: each must stand in a rate or an increase over a window.
    for match in NAME.finditer(expr):
        if match.group() == metrics.VERSION_STATE or match.group() == "up":
            continue
        before, after = expr[: match.start()], expr[match.end() :]
        assert before.endswith(("rate(", "increase(")), expr
        assert re.match(r"(\{[^}]*\})?\[[^\]]+\]\)", after), expr


def test_a_wrong_name_would_be_noticed() -> None:
    with pytest.raises(AssertionError, match="nobody exports"):
        labels_of(":tensorflow:serving:requests")
    with pytest.raises(AssertionError, match="is a histogram"):
        labels_of(metrics.REQUEST_LATENCY)


def test_the_dashboard_shows_what_was_asked_for() -> None:
    asked = {name for _, expr in EXPRESSIONS for name in NAME.findall(expr)}
    assert any(name.startswith(metrics.REQUEST_LATENCY) for name in asked)
    assert metrics.REQUEST_COUNT in asked
    assert any('status!="OK"' in expr for _, expr in EXPRESSIONS)
    assert any("version" in expr for title, expr in EXPRESSIONS if "version" in title)
    assert set(OFFICIAL_ONLY) <= {re.sub("_bucket$", "", name) for name in asked}


def test_panels_that_need_one_of_the_servers_say_so() -> None:
    for panel in panels():
        names = {
            re.sub("_bucket$", "", n) for t in panel["targets"] for n in NAME.findall(t["expr"])
        }
        if names & EMBEDDED_ONLY_METRICS:
            assert "Embedded server only" in panel["description"]
            continue
        groups = {
            label.strip()
            for target in panel["targets"]
            for group in re.findall(r"by \(([^)]*)\)", target["expr"])
            for label in group.split(",")
        }
        if groups & EMBEDDED_ONLY_LABELS:
            assert re.search(r"embedded server's|Likewise", panel["description"]), panel["title"]
    rows = [p["title"] for p in json.loads(DASHBOARD.read_text())["panels"] if p["type"] == "row"]
    assert "Batching (official image)" in rows


def test_panels_are_placed_apart_and_use_the_provisioned_source() -> None:
    source = yaml.safe_load(
        (DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text()
    )["datasources"][0]
    cells: set[tuple[int, int]] = set()
    everything = json.loads(DASHBOARD.read_text())
    assert len({panel["id"] for panel in everything["panels"]}) == len(everything["panels"])
    for panel in everything["panels"]:
        at = panel["gridPos"]
        own = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not own & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= own
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}


def test_provisioning_points_at_the_mounted_folder() -> None:
    provider = yaml.safe_load(
        (DEPLOY / "grafana" / "provisioning" / "dashboards" / "dashboards.yaml").read_text()
    )["providers"][0]
    grafana = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
