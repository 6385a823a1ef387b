"""Item tables with images whose pixels are known; coloured looks that decide what users buy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tfrec.data.encoded import RetrievalData
from tfrec.data.synthetic_images import encode_png
from tfrec.features.encoder import FittedEncoder
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.features.image_prepare import prepare_items
from tfrec.schema import FeatureTable

SIDE = 8
LOOK: dict[str, Any] = {
    "name": "look",
    "role": "item",
    "kind": "image",
    "dim": 4,
    "height": SIDE,
    "width": SIDE,
}
COLOURS = np.array([[220, 40, 40], [40, 40, 220]], np.uint8)


def picture(colour: int, seed: int) -> np.ndarray:
    """Noisy pixels of one colour, uint8 [8, 8, 3]."""
    noise = np.random.default_rng(seed).integers(-20, 21, (SIDE, SIDE, 3))
    return np.clip(COLOURS[colour].astype(int) + noise, 0, 255).astype(np.uint8)


def items_with_looks(n: int, lacking: tuple[int, ...] = ()) -> pa.Table:
    """Items ``i0`` ...; the colour is the parity; some have no image."""
    looks = [None if i in lacking else encode_png(picture(i % 2, i)) for i in range(n)]
    return pa.table({"item_id": [f"i{i}" for i in range(n)], "look": pa.array(looks, pa.binary())})


def shop(
    folder: Path,
    n_users: int = 60,
    n_items: int = 60,
    n_cold: int = 20,
    lacking: tuple[int, ...] = (),
    **feature: object,
) -> tuple[RetrievalData, FittedEncoder]:
    """Every user buys items of one colour; the last ``n_cold`` items are bought in the test alone.

    Args:
        folder: statistics and prepared images go there.
        n_users, n_items: sizes; a user has all warm items of one colour in train, but one in eval,
            and 2 cold ones in test.
        n_cold: items without training events.
        lacking: numbers of items without an image.
        feature: changed fields of the feature ``look``.
    """
    random = np.random.default_rng(0)
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "eval": [], "test": []}
    warm, cold = np.arange(n_items - n_cold), np.arange(n_items - n_cold, n_items)
    for user in range(n_users):
        mine = random.permutation(warm[warm % 2 == user % 2])
        rows["train"] += [(f"u{user}", f"i{i}") for i in mine[:-1]]
        rows["eval"] += [(f"u{user}", f"i{mine[-1]}")]
        new = random.permutation(cold[cold % 2 == user % 2])[:2]
        rows["test"] += [(f"u{user}", f"i{i}") for i in new]
    splits = {}
    for number, (split, pairs) in enumerate(rows.items()):
        times = np.arange(len(pairs), dtype=np.int64) + 1_000_000 * number
        users, items = zip(*pairs, strict=True)
        splits[split] = pa.table({"user_id": users, "item_id": items, "timestamp": times})
    users_table = pa.table({"user_id": [f"u{u}" for u in range(n_users)]})
    features = FeatureTable.model_validate({"features": [{**LOOK, **feature}]})
    prepared, _ = prepare_items(items_with_looks(n_items, lacking), features, folder / "images")
    encoder = fit_encoder(splits["train"], users_table, prepared, features, folder / "s", 8)
    return retrieval_data(splits, users_table, prepared, encoder), encoder
