"""The doctor finds each illness where it is planted, and none where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.tables import small_data, small_tables
from tfrec.evaluation.doctor import (
    cold_items,
    duplicate_candidates,
    examine,
    leaks,
    out_of_vocabulary,
    popular_only,
    same_list,
)
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.evaluation.protocol import held_out
from tfrec.models.registry import build

N_ITEMS = 500


def random_lists(users: int = 200, k: int = 10) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.choice(N_ITEMS, k, replace=False) + 1 for _ in range(users)])


def test_same_list() -> None:
    assert same_list(random_lists(), N_ITEMS).severity == "ok"
    same = np.tile(np.arange(1, 11), (50, 1))
    finding = same_list(same, N_ITEMS)
    assert finding.severity == "critical"
    assert "logQ" in finding.cure
    assert "10 of 500 items" in finding.found
    assert same_list(same[:1], N_ITEMS).severity == "ok"


def test_popularity_only(tmp_path: Path) -> None:
    data, _ = small_data(tmp_path)
    questions = held_out(data, "test")
    popular = build("popular", data, {})
    popular.compile()
    popular.fit(popular.training_data(data, None))
    lists = evaluate(popular, data, "test", (5,)).lists
    counts = data.train.item_counts()
    sick = popular_only(lists, counts, questions)
    assert sick.severity == "critical"
    # Items of the last places are nobody's most popular.
    rare = np.argsort(counts[1:], kind="stable")[:5] + 1
    assert popular_only(np.tile(rare, (len(lists), 1)), counts, questions).severity == "ok"


def test_leaks_and_time_travel() -> None:
    splits, _, _ = small_tables(users=6, items=50)
    assert [f.severity for f in leaks(splits)] == ["ok", "ok"]
    leaked = {**splits, "train": pa.concat_tables([splits["train"], splits["test"].slice(0, 2)])}
    found = leaks(leaked)
    assert found[0].severity == "warning"
    assert "2 of 6 test events" in found[0].found
    late = splits["test"].set_column(2, "timestamp", pa.array([0] * 6))
    assert leaks({**splits, "test": late})[1].severity == "warning"


def test_out_of_vocabulary(tmp_path: Path) -> None:
    splits, users, items = small_tables()
    data, _ = small_data(tmp_path)
    assert {f.severity for f in out_of_vocabulary(data, splits)} == {"ok"}
    strange = pa.array(["new"] * splits["test"].num_rows)
    sick = {**splits, "test": splits["test"].set_column(1, "item_id", strange)}
    found = {f.check: f for f in out_of_vocabulary(data, sick)}
    assert found["out of vocabulary: item_id"].severity == "warning"
    assert "100.0%" in found["out of vocabulary: item_id"].found
    assert found["out of vocabulary: user_id"].severity == "ok"
    assert users.num_rows
    assert items.num_rows


def test_duplicate_candidates() -> None:
    items = small_tables()[2]
    assert duplicate_candidates(items).severity == "ok"
    titles = ["Same  THING" if i % 2 else "same thing" for i in range(items.num_rows)]
    twice = items.set_column(1, "title", pa.array(titles))
    finding = duplicate_candidates(twice)
    assert finding.severity == "warning"
    assert "19 of 20 items" in finding.found
    assert duplicate_candidates(items.drop(["title"])).severity == "ok"


def test_cold_items(tmp_path: Path) -> None:
    data, _ = small_data(tmp_path)
    lists = np.tile(np.arange(1, 6), (10, 1))
    assert cold_items(data, lists).severity == "ok"
    small, _ = small_data(tmp_path / "cold", users=3, items=20)
    finding = cold_items(small, lists)
    assert finding.severity == "warning"
    assert "id_dropout" in finding.cure


@pytest.mark.parametrize("k", [5])
def test_a_healthy_model_passes_all_checks(tmp_path: Path, k: int) -> None:
    data, _ = small_data(tmp_path, items=40)
    splits, _, items = small_tables(items=40)
    questions = held_out(data, "test")
    rng = np.random.default_rng(1)
    lists = np.stack([rng.choice(40, k, replace=False) + 1 for _ in questions.users])
    findings = examine(data, splits, items, questions, lists.astype(np.int32))
    assert {f.severity for f in findings} == {"ok"}
    assert all(f.found for f in findings)


def test_where_repeats_count_the_popular_list_holds_what_was_had(tmp_path: Path) -> None:
    data, _ = small_data(tmp_path)
    counts = data.train.item_counts()
    top = np.argsort(-counts[1:], kind="stable")[:5] + 1
    everybody = held_out(data, "test", exclude_seen=False)
    lists = np.tile(top, (len(everybody.users), 1))
    assert "100% of each list" in popular_only(lists, counts, everybody).found
