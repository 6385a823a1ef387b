"""Rewards of shown items against a loop over the events."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tfrec.evaluation.attribution import attribute


def slow(
    log: list[dict[str, object]], events: list[dict[str, object]], window: int, by: str | None
) -> list[list[float]]:
    rewards = [[0.0] * len(row["item_id"]) for row in log]  # type: ignore[arg-type]
    for event in events:
        best = None
        for at, row in enumerate(log):
            for place, item in enumerate(row["item_id"]):  # type: ignore[arg-type, var-annotated]
                age = event["timestamp"] - row["timestamp"]  # type: ignore[operator]
                same = row["user_id"] == event["user_id"] and item == event["item_id"]
                if same and age >= 0 and (best is None or (row["timestamp"], at) >= best[:2]):
                    best = (row["timestamp"], at, place, age)
        if best is not None and best[3] <= window:
            rewards[best[1]][best[2]] += float(event[by]) if by else 1.0  # type: ignore[arg-type]
    return rewards


@pytest.mark.parametrize("by", [None, "weight"])
def test_an_event_belongs_to_the_last_time_its_item_was_shown(by: str | None) -> None:
    rng = np.random.default_rng(0)
    log = [
        {
            "user_id": f"u{rng.integers(4)}",
            "item_id": [f"i{i}" for i in rng.permutation(6)[: rng.integers(0, 4)]],
            "timestamp": int(rng.integers(100, 200)),
        }
        for _ in range(60)
    ]
    events = [
        {
            "user_id": f"u{rng.integers(5)}",
            "item_id": f"i{rng.integers(7)}",
            "timestamp": int(rng.integers(90, 220)),
            "weight": float(rng.integers(1, 5)),
        }
        for _ in range(200)
    ]
    kinds = [{**e, "event": "purchase"} for e in events]
    noise = [{**e, "event": "view"} for e in events]
    found = attribute(
        pa.Table.from_pylist(log),
        pa.Table.from_pylist(kinds + noise),
        window=15,
        kinds=["purchase"],
        value=by,
    )
    want = slow(log, events, 15, by)
    assert sum(map(sum, want)) > 20
    assert found.column("reward").to_pylist() == want
    again = attribute(found, pa.Table.from_pylist(kinds), window=15, value=by)
    assert again.column("reward").to_pylist() == want


def test_what_is_missing_is_told() -> None:
    log = pa.table({"user_id": ["u"], "item_id": [["i"]]})
    events = pa.table({"user_id": ["u"], "item_id": ["i"], "timestamp": [1], "event": ["view"]})
    with pytest.raises(ValueError, match=r"\['timestamp'\] is missing"):
        attribute(log, events, window=1)
    log = log.append_column("timestamp", [[0]])
    with pytest.raises(ValueError, match=r"no event is of the kinds \['buy'\]"):
        attribute(log, events, window=1, kinds=["buy"])
    assert attribute(log, events, window=1).column("reward").to_pylist() == [[1.0]]
    assert attribute(log, events.slice(0, 0), window=1).column("reward").to_pylist() == [[0.0]]
