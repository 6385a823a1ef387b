"""Configuration: every broken rule is named with its key, what arrived and the cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfrec.config import ConfigError, load_config, parse_config

GOOD = {"name": "shop", "data": {"format": "synthetic"}}


def test_defaults_and_ids() -> None:
    config = parse_config(GOOD)
    assert [f.name for f in config.feature_table] == ["user_id", "item_id"]
    assert config.retrieval.model == "two_tower"


@pytest.mark.parametrize(
    ("gate", "baselines"),
    [
        ({}, ("popular",)),
        ({"metric": "ndcg@5"}, ("popular",)),
        ({"metric": "rmse"}, ("biased_mf",)),
        ({"metric": "mae", "baselines": ["rbm"]}, ("rbm",)),
    ],
)
def test_the_gates_baseline_is_of_the_metrics_kind(
    gate: dict[str, object], baselines: tuple[str, ...]
) -> None:
    found = parse_config({**GOOD, "gate": gate}).gate
    assert found.baselines == baselines
    assert type(found).model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"data": {"format": "synthetic", "rws": 3}},
            r"data\.rws: no such key; did you mean 'rows'",
        ),
        ({"data": {"format": "csv"}}, r"data\.format: .*'columns'.* \(got 'csv'\)"),
        ({"data": {"format": "columns", "path": "x"}}, "needs the section 'interactions'"),
        ({"data": {"format": "ncf"}}, "format 'ncf' needs 'path'"),
        ({"name": "My Shop"}, r"name: .*pattern.* \(got 'My Shop'\)"),
        ({"gate": {"metric": "recall"}}, r"gate\.metric: a metric is recall, .*\(got 'recall'\)"),
        ({"gate": {"metric": "ndcg@0"}}, "whole number from 1"),
        ({"gate": {"metric": "rmse@10"}}, "models that predict ratings, rmse or mae"),
        ({"gate": {"metric": "rmse", "min_coverage": 0.2}}, "min_coverage is a share .* lists"),
        ({"gate": {"metric": "mae", "margin": 1.0}}, "so margin is below 1; got 1"),
        ({"split": {"test": 1.5}}, r"split\.test: .*less than 1 \(got 1\.5\)"),
        ({"retrieval": {"train": {"epochs": 0}}}, r"retrieval\.train\.epochs: .*\(got 0\)"),
        ({"gate": {"slices": ["age"]}}, r"gate\.slices names 'age', which is no feature"),
        ({"ranking": {"crosses": [["a", "b"]]}}, "ranking.crosses names 'a'"),
        (
            {"features": [{"name": "timestamp", "role": "user", "kind": "numeric"}]},
            "'timestamp' is reserved; rename the column",
        ),
        (
            {"features": [{"name": "g", "role": "item", "kind": "numeric", "separator": "|"}]},
            "'separator' is for kind 'multi'",
        ),
        ({"features": [{"name": "sku", "role": "item", "kind": "id"}]}, "use 'categorical'"),
    ],
)
def test_errors_name_key_value_and_rule(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({**GOOD, **change})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"2 problem\(s\)"):
        parse_config({"name": "A", "data": {"format": "synthetic", "rows": 0}})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="not readable as YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="a configuration is a mapping"):
        load_config(tmp_path / "list.yaml")


def test_paths_are_taken_from_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    file = tmp_path / "conf" / "shop.yaml"
    file.write_text("name: shop\ndata: {format: ncf, path: ../raw}\npipeline: {root: ../runs}\n")
    config = load_config(file)
    assert config.data.path == str(tmp_path / "raw")
    assert config.pipeline.root == str(tmp_path / "runs")


def test_bundled_configurations_are_fine(repository: Path) -> None:
    files = sorted((repository / "configs").glob("*.yaml"))
    assert {"sample", "movielens_1m"} <= {f.stem for f in files}
    for file in files:
        assert load_config(file).name == file.stem


def test_config_is_frozen() -> None:
    config = parse_config(GOOD)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"  # type: ignore[misc]
