"""Small canonical tables with one feature of every kind, and their encoded form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from tfrec.data.encoded import RetrievalData
from tfrec.features.encoder import FittedEncoder
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.schema import FeatureTable

FEATURES = FeatureTable(
    features=[
        {"name": "age", "role": "user", "kind": "categorical", "dim": 4},
        {"name": "title", "role": "item", "kind": "text", "dim": 8, "max_length": 4},
        {"name": "genres", "role": "item", "kind": "multi", "dim": 4, "max_length": 3},
        {"name": "price", "role": "item", "kind": "numeric", "transform": "log"},
        {"name": "style", "role": "item", "kind": "embedding", "dim": 3},
        {"name": "device", "role": "context", "kind": "categorical", "dim": 2},
    ]
)


def small_tables(
    users: int = 30, items: int = 20, events: int = 12, seed: int = 0
) -> tuple[dict[str, pa.Table], pa.Table, pa.Table]:
    """Splits, users and items: every user walks through the catalogue by a step of its own."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        start, step = rng.integers(items), 1 + user % 3
        for t in range(events):
            split = "test" if t == events - 1 else "eval" if t == events - 2 else "train"
            rows.append((f"u{user}", f"i{(start + t * step) % items}", t, split))
    names = ["user_id", "item_id", "timestamp", "split"]
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    table = table.append_column("weight", pa.array(np.ones(len(rows), np.float32)))
    table = table.append_column("device", pa.array(["phone", "desk"] * (len(rows) // 2)))
    split = np.array(table.column("split").to_pylist())
    splits = {
        s: table.filter(pa.array(split == s)).drop(["split"]) for s in ("train", "eval", "test")
    }
    user_table = pa.table(
        {"user_id": [f"u{i}" for i in range(users)], "age": [f"a{i % 4}" for i in range(users)]}
    )
    item_table = pa.table(
        {
            "item_id": [f"i{i}" for i in range(items)],
            "title": [f"Thing {i} of kind {i % 5}" for i in range(items)],
            "genres": [[f"g{i % 3}", f"g{i % 2}"] for i in range(items)],
            "price": pa.array([None, *np.linspace(1, 99, items - 1)], pa.float32()),
            "style": [[float(i), 1.0, -1.0] for i in range(items)],
        }
    )
    return splits, user_table, item_table


def rated_tables(
    users: int = 40, items: int = 20, events: int = 16, seed: int = 0
) -> tuple[dict[str, pa.Table], pa.Table, pa.Table]:
    """As ``small_tables``, with ratings by taste: one's own kind of item 4 or 5, the other 1 or 2.

    Users and items are of two kinds, by parity. Nobody rates an item twice; of each user's ratings
    two test and two validate.
    """
    _, user_table, item_table = small_tables(users, items)
    rng = np.random.default_rng(seed)
    rows: dict[str, list[tuple[str, str, int, float, str]]] = {"train": [], "eval": [], "test": []}
    for user in range(users):
        for t, item in enumerate(rng.permutation(items)[:events]):
            mine = (user + item) % 2 == 0
            rating = float(rng.integers(4, 6) if mine else rng.integers(1, 3))
            split = "test" if t >= events - 2 else "eval" if t >= events - 4 else "train"
            rows[split].append((f"u{user}", f"i{item}", t, rating, ("phone", "desk")[t % 2]))
    names = ("user_id", "item_id", "timestamp", "weight", "device")
    splits = {
        split: pa.table(dict(zip(names, map(list, zip(*found, strict=True)), strict=True)))
        for split, found in rows.items()
    }
    for split, table in splits.items():
        weight = table.column("weight").cast(pa.float32())
        splits[split] = table.set_column(names.index("weight"), "weight", weight)
    return splits, user_table, item_table


def small_data(
    folder: Path, history_length: int = 8, **sizes: int
) -> tuple[RetrievalData, FittedEncoder]:
    """The encoded form of ``small_tables``, and the encoder."""
    splits, users, items = small_tables(**sizes)
    encoder = fit_encoder(splits["train"], users, items, FEATURES, folder, history_length)
    return retrieval_data(splits, users, items, encoder), encoder
