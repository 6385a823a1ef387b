"""Counts of missing, unseen and clipped values against what was planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.tables import small_tables
from tfrec.evaluation.doctor import feature_values
from tfrec.features.counts import as_records, count_features
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.schema import FeatureTable

FEATURES = FeatureTable(
    features=[
        {"name": "age", "role": "user", "kind": "categorical", "max_vocabulary": 3},
        {"name": "genres", "role": "item", "kind": "multi", "max_length": 3, "min_count": 5},
        {"name": "price", "role": "item", "kind": "numeric", "clip": 3.0},
        {"name": "weight_kg", "role": "item", "kind": "numeric", "transform": "none"},
        {"name": "style", "role": "item", "kind": "embedding", "dim": 2},
        {"name": "device", "role": "context", "kind": "categorical"},
    ]
)


def test_counts_are_those_planted(tmp_path: Path) -> None:
    splits, users, items = small_tables()  # 30 users of ages a0..a3, 20 items
    ages = [None, "", *users.column("age").to_pylist()[2:]]
    users = users.set_column(1, "age", pa.array(ages, pa.string()))
    price = [1e6, None, None, *np.linspace(1, 2, 17)]
    columns = {
        "item_id": items.column("item_id"),
        "genres": [["g0", "rare"], None, [], *[["g0", "g1"]] * 17],
        "price": pa.array(price, pa.float32()),
        "weight_kg": pa.array([1e6, *[None] * 4, *[1.0] * 15], pa.float32()),
        "style": [None, *[[1.0, 0.0]] * 19],
    }
    encoder = fit_encoder(splits["train"], users, pa.table(columns), FEATURES, tmp_path, 4)
    data = retrieval_data(splits, users, pa.table(columns), encoder)
    found = {c.feature: c for c in count_features(data)}
    age = found["age"]
    # a2 and a3 occur 8 and 7 times, a0 and a1 7 and 7 once two users lost theirs: one is cut off.
    assert (age.rows, age.missing, age.values, age.unseen) == (30, 2, 28, 7)
    genres = found["genres"]
    assert (genres.rows, genres.missing, genres.values, genres.unseen) == (20, 2, 36, 1)
    price_count = found["price"]
    assert (price_count.missing, price_count.values, price_count.clipped) == (2, 18, 1)
    assert data.items["price"].max() == 3.0
    assert (found["weight_kg"].missing, found["weight_kg"].clipped) == (4, 0)
    assert (found["style"].missing, found["style"].unseen) == (1, 0)
    assert found["device"].rows == len(data.train)
    assert [r["feature"] for r in as_records(list(found.values()))] == list(found)
    assert "2 missing (6.7%), 7 unseen (25.0%)" in age.line()
    findings = {f.check: f for f in feature_values(data)}
    assert findings["values of age"].severity == "warning"
    assert "unseen" in findings["values of age"].cure
    assert findings["values of price"].severity == "warning"
    assert findings["values of device"].severity == "ok"
