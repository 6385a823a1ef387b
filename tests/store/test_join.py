"""Point-in-time joins against a loop over every value, and the future never in a row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tfrec.store.errors import StoreError
from tfrec.store.join import point_in_time_join


def tables(seed: int, n: int = 200, m: int = 300) -> tuple[pa.Table, pa.Table]:
    """Events and values of few keys with many equal times, in no order."""
    random = np.random.default_rng(seed)
    events = pa.table(
        {
            "item": [f"i{k}" for k in random.integers(0, 9, n)],
            "timestamp": random.integers(-5, 30, n),
            "label": random.random(n),
        }
    )
    values = pa.table(
        {
            "item": [f"i{k}" for k in random.integers(2, 12, m)],
            "timestamp": random.integers(-5, 30, m),
            "price": pa.array(random.random(m), mask=random.random(m) < 0.1),
            "row": np.arange(m),
        }
    )
    return events, values


def oracle(
    events: pa.Table, values: pa.Table, tolerance: int | None, at_event: bool
) -> list[int | None]:
    """The joined row of each event, by looking at every value."""
    out: list[int | None] = []
    for event in events.to_pylist():
        best = None
        for value in values.to_pylist():
            age = event["timestamp"] - value["timestamp"]
            known = age >= 0 if at_event else age > 0
            if value["item"] != event["item"] or not known:
                continue
            if tolerance is not None and age > tolerance:
                continue
            if best is None or value["timestamp"] >= best["timestamp"]:
                best = value
        out.append(None if best is None else best["row"])
    return out


@pytest.mark.parametrize("at_event", [False, True])
@pytest.mark.parametrize("tolerance", [None, 0, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_slow_loop(seed: int, tolerance: int | None, at_event: bool) -> None:
    events, values = tables(seed)
    joined = point_in_time_join(events, values, "item", tolerance=tolerance, at_event=at_event)
    expected = oracle(events, values, tolerance, at_event)
    assert joined.column("row").to_pylist() == expected
    assert joined.select(events.column_names).equals(events)
    known = {r["row"]: r for r in values.to_pylist()}
    prices = [None if r is None else known[r]["price"] for r in expected]
    stamps = [None if r is None else known[r]["timestamp"] for r in expected]
    assert joined.column("price").to_pylist() == prices
    assert joined.column("timestamp_of_values").to_pylist() == stamps
    if tolerance != 0:
        assert any(r is not None for r in expected)


@pytest.mark.parametrize("at_event", [False, True])
def test_the_future_is_never_joined(at_event: bool) -> None:
    """Values later than an event may say anything; the joined rows do not change."""
    events, values = tables(2)
    cut = 12
    early = events.filter(pc.less_equal(events.column("timestamp"), cut))
    before = point_in_time_join(early, values, "item", at_event=at_event)
    later = values.column("timestamp").to_numpy() > cut
    poison = np.where(later, -999.0, values.column("price").to_numpy(zero_copy_only=False))
    poisoned = values.set_column(2, "price", pa.array(poison, from_pandas=True))
    after = point_in_time_join(early, poisoned, "item", at_event=at_event)
    assert after.equals(before)
    assert -999.0 not in after.column("price").to_pylist()
    stamps = after.column("timestamp_of_values").to_numpy(zero_copy_only=False)
    ages = early.column("timestamp").to_numpy() - stamps
    assert np.nanmin(ages) >= (0 if at_event else 1)


def test_no_values_no_events_and_chosen_columns() -> None:
    events, values = tables(3)
    nothing = point_in_time_join(events, values.slice(0, 0), "item", names=["price"])
    assert nothing.column("price").null_count == events.num_rows
    assert "row" not in nothing.column_names
    assert point_in_time_join(events.slice(0, 0), values, "item").num_rows == 0


def test_mistakes_are_told() -> None:
    events, values = tables(4)
    with pytest.raises(StoreError, match="events have no column 'user'"):
        point_in_time_join(events, values, "user")
    with pytest.raises(StoreError, match="values have no column 'colour'"):
        point_in_time_join(events, values, "item", names=["colour"])
    with pytest.raises(StoreError, match=r"got \['label'\] twice"):
        point_in_time_join(
            events, values.rename_columns(["item", "timestamp", "label", "r"]), "item"
        )
    holes = events.set_column(1, "timestamp", pa.array([None] * events.num_rows, pa.int64()))
    with pytest.raises(StoreError, match="'timestamp' is never null; got 200 nulls"):
        point_in_time_join(holes, values, "item")
