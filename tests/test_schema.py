"""The feature table."""

from __future__ import annotations

import pytest

from tfrec.schema import Feature, FeatureTable

TABLE = FeatureTable(
    features=[
        {"name": "age", "role": "user", "kind": "categorical"},
        {"name": "genres", "role": "item", "kind": "multi"},
        {"name": "device", "role": "context", "kind": "categorical"},
    ]
)


def test_ids_come_first_and_roles_are_kept_apart() -> None:
    assert [f.name for f in TABLE] == ["user_id", "item_id", "age", "genres", "device"]
    assert [f.name for f in TABLE.of("user")] == ["user_id", "age"]
    assert [f.name for f in TABLE.of("item", ids=False)] == ["genres"]
    assert TABLE["genres"].is_sequence
    assert "age" in TABLE
    assert len(TABLE) == 5


def test_without_leaves_out_features_but_never_ids() -> None:
    assert [f.name for f in TABLE.without("age", "user_id")] == [
        "user_id",
        "item_id",
        "genres",
        "device",
    ]
    with pytest.raises(KeyError, match="no feature 'agee'"):
        TABLE.without("agee")


def test_a_name_stands_once() -> None:
    row = {"name": "age", "role": "user", "kind": "categorical"}
    with pytest.raises(ValueError, match=r"listed twice: \['age'\]"):
        FeatureTable(features=[row, row])


def test_an_id_may_be_configured_but_keeps_its_role() -> None:
    wide = Feature(name="item_id", role="item", kind="id", dim=8, oov_buckets=10)
    assert FeatureTable(features=[wide])["item_id"].oov_buckets == 10
    with pytest.raises(ValueError, match="item_id must have role 'item'"):
        FeatureTable(features=[{"name": "item_id", "role": "user", "kind": "id"}])
