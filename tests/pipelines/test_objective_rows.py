"""Rows of a multi-task ranker carry each objective, the same as the library's own way."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.example_gen.rows import RowPlan, item_rows, joined_rows
from pipelines.pipeline import measured_columns
from tfrec.config import RankingConfig, parse_config
from tfrec.data.objectives import row_labels
from tfrec.schema import FeatureTable

OBJECTIVES = {
    "purchase": {"events": ["purchase"], "given": "click"},
    "click": {"events": ["click", "purchase"]},
    "rating": {"events": ["purchase"]},
    "revenue": {"events": ["purchase"], "column": "price"},
}
FEATURES = FeatureTable(features=[{"name": "price", "role": "item", "kind": "numeric"}])
RANKING = RankingConfig.model_validate(
    {"model": "multi_task", "negatives": 2, "window": 50, "objectives": OBJECTIVES}
)


def tables() -> tuple[pa.Table, pa.Table, pa.Table]:
    rng = np.random.default_rng(0)
    n = 200
    events = pa.table(
        {
            "user_id": [f"u{u}" for u in rng.integers(0, 5, n)],
            "item_id": [f"i{i}" for i in rng.integers(0, 6, n)],
            "event": rng.choice(["click", "purchase"], n).tolist(),
            "weight": pa.array(rng.integers(1, 6, n), pa.float32()),
            "timestamp": pa.array(rng.integers(0, 900, n)),
            "split": np.repeat(["train", "eval", "test"], [140, 30, 30]).tolist(),
            "log_order": pa.array(np.arange(n)),
        }
    )
    users = pa.table({"user_id": [f"u{u}" for u in range(5)]})
    items = pa.table(
        {
            "item_id": [f"i{i}" for i in range(12)],
            "price": pa.array(np.linspace(1, 12, 12), pa.float32()),
        }
    )
    return events, users, items


def test_rows_carry_the_librarys_labels() -> None:
    events, users, items = tables()
    want = {}
    for split in ("train", "eval", "test"):
        part = events.filter(pa.array(np.array(events["split"].to_pylist()) == split))
        found = row_labels(part, items, RANKING.objectives, RANKING.window)
        for at, order in enumerate(part["log_order"].to_pylist()):
            want[order] = {name: values[at] for name, values in found.items()}
    seen, sampled = 0, 0
    for _, table in joined_rows(events, users, items, RowPlan(FEATURES, RANKING)):
        for row in table.to_pylist():
            got = {name: np.float32(row[f"objective_{name}"][0]) for name in OBJECTIVES}
            if row["observed"] == [0.0]:
                sampled += 1
                assert row["label"] == [0.0]
                np.testing.assert_equal(list(got.values()), [0, 0, np.float32(np.nan), 0])
                continue
            seen += 1
            np.testing.assert_equal(got, want[row["log_order"][0]])
            if np.isfinite(got["purchase"]):
                assert row["label"] == [got["purchase"]]
    assert seen == events.num_rows
    assert sampled == 120


def test_items_and_statistics_have_the_columns() -> None:
    _, _, items = tables()
    columns = {"objective_purchase", "objective_click", "objective_revenue", "observed"}
    assert columns <= set(item_rows(items, RowPlan(FEATURES, RANKING)).column_names)
    config = parse_config(
        {"name": "x", "data": {"format": "synthetic"}, "ranking": RANKING.model_dump()}
    )
    assert columns <= set(measured_columns(config))
    plain = parse_config({"name": "x", "data": {"format": "synthetic"}})
    assert "observed" not in measured_columns(plain)
