"""Labels of encounters against a loop in plain Python."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tfrec.config.objectives import Objective
from tfrec.data.objectives import encounters, objective_labels, row_labels, unobserved_label

OBJECTIVES = {
    "click": Objective(events=("click", "purchase")),
    "purchase": Objective(events=("purchase",), given="click"),
    "rating": Objective(events=("rate",)),
    "revenue": Objective(events=("purchase",), column="price", times="quantity"),
}
ITEMS = pa.table({"item_id": ["i0", "i1", "i2"], "price": [10.0, None, 2.5]})


def log(n: int = 300, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "user_id": [f"u{u}" for u in rng.integers(0, 6, n)],
            "item_id": [f"i{i}" for i in rng.integers(0, 3, n)],
            "event": rng.choice(["view", "click", "purchase", "rate"], n).tolist(),
            "weight": pa.array(rng.integers(1, 6, n), pa.float32()),
            "quantity": pa.array(rng.integers(1, 4, n)),
            "timestamp": pa.array(rng.integers(0, 3000, n)),
        }
    )


def slow(events: pa.Table, window: int, part: np.ndarray) -> list[dict[str, float] | None]:
    """Labels of each event; None where it is not the first of its encounter."""
    prices = dict(zip(ITEMS["item_id"].to_pylist(), ITEMS["price"].to_pylist(), strict=True))
    rows = events.to_pylist()
    found: list[dict[str, float] | None] = [None] * len(rows)
    keys = {(r["user_id"], r["item_id"], p) for r, p in zip(rows, part, strict=True)}
    for key in keys:
        mine = [at for at, r in enumerate(rows) if (r["user_id"], r["item_id"], part[at]) == key]
        mine.sort(key=lambda at: (rows[at]["timestamp"], at))
        groups = [[mine[0]]]
        for at in mine[1:]:
            if rows[at]["timestamp"] - rows[groups[-1][-1]]["timestamp"] > window:
                groups.append([])
            groups[-1].append(at)
        for group in groups:
            kinds = [rows[at]["event"] for at in group]
            rated = [rows[at]["weight"] for at in group if rows[at]["event"] == "rate"]
            price = prices[key[1]]
            spent = sum(
                price * rows[at]["quantity"]
                for at in group
                if rows[at]["event"] == "purchase" and price is not None
            )
            found[group[0]] = {
                "click": float("click" in kinds or "purchase" in kinds),
                "purchase": float("purchase" in kinds),
                "rating": float(np.mean(rated)) if rated else float("nan"),
                "revenue": float(spent),
            }
    return found


@pytest.mark.parametrize("window", [0, 60, 10_000])
def test_labels_equal_a_loop(window: int) -> None:
    events = log()
    part = np.random.default_rng(1).integers(0, 3, events.num_rows)
    got = row_labels(events, ITEMS, OBJECTIVES, window, part)
    want = slow(events, window, part)
    assert sum(w is not None for w in want) > 20
    for name in OBJECTIVES:
        expected = [np.nan if w is None else w[name] for w in want]
        np.testing.assert_allclose(got[name], np.array(expected, np.float32), rtol=1e-6)


def test_an_encounter_is_labelled_whole() -> None:
    events = pa.table(
        {
            "user_id": ["a"] * 4,
            "item_id": ["i0", "i0", "i0", "i0"],
            "event": ["purchase", "click", "view", "view"],
            "quantity": [2, 1, 1, 1],
            "timestamp": [120, 60, 0, 1000],
        }
    )
    labels, first = objective_labels(
        events, ITEMS, {k: v for k, v in OBJECTIVES.items() if k != "rating"}, 60
    )
    assert first.tolist() == [False, False, True, True]
    assert labels["click"].tolist() == [1, 1, 1, 0]
    assert labels["purchase"].tolist() == [1, 1, 1, 0]
    assert labels["revenue"].tolist() == [20, 20, 20, 0]


def test_no_events_have_no_labels() -> None:
    number, first = encounters(*(np.zeros(0, np.int64),) * 3, 10)
    assert len(number) == len(first) == 0
    assert all(len(v) == 0 for v in row_labels(log(0), ITEMS, OBJECTIVES, 10).values())


def test_nothing_happened_to_what_nobody_met() -> None:
    np.testing.assert_array_equal(unobserved_label(OBJECTIVES), [0, 0, np.nan, 0])


def test_columns_are_checked() -> None:
    events = log(20)
    with pytest.raises(ValueError, match=r"got 'paid'; mend 'column'"):
        row_labels(events, ITEMS, {"revenue": Objective(column="paid")}, 0)
    with pytest.raises(ValueError, match="'event' does not"):
        row_labels(events, ITEMS, {"revenue": Objective(column="event")}, 0)
    with pytest.raises(ValueError, match="need the column 'event'"):
        row_labels(events.drop(["event"]), ITEMS, {"click": Objective(events=("click",))}, 0)
