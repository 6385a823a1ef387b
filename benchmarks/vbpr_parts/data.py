"""Events split for VBPR's protocol, and items made cold on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.data.images import BadImage, decode_image
from tfrec.schema import ITEM_ID, USER_ID, FeatureTable

KEPT = 4  # training events left to an item that is made cold: fewer than the paper's 5


def plain(
    user: np.ndarray,
    item: np.ndarray,
    parts: Mapping[str, np.ndarray],
    user_ids: np.ndarray,
    item_ids: np.ndarray,
) -> RetrievalData:
    """Encoded data of ids alone.

    Args:
        user, item: int [event], from 0.
        parts: positions of the events of train, validation and test.
        user_ids, item_ids: raw ids.
    """
    n_users, n_items = len(user_ids), len(item_ids)

    def events(at: np.ndarray) -> Interactions:
        return Interactions.from_arrays(user[at] + 1, item[at] + 1, n_users, n_items, at)

    return RetrievalData(
        **{name: events(np.sort(at)) for name, at in parts.items()},
        users={USER_ID: np.arange(n_users + 2, dtype=np.int64)},
        items={ITEM_ID: np.arange(n_items + 2, dtype=np.int64)},
        features=FeatureTable(),
        sizes={USER_ID: n_users + 2, ITEM_ID: n_items + 2},
        user_ids=np.array(["", *map(str, user_ids)]),
        item_ids=np.array(["", *map(str, item_ids)]),
    )


def leave_one_out(user: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Of each user one random event tests and one validates, as in the paper."""
    order = np.random.default_rng(seed).permutation(len(user))
    by_user = order[np.argsort(user[order], kind="stable")]
    first = np.r_[True, np.diff(user[by_user]) > 0]
    starts = np.flatnonzero(first)
    rest = np.ones(len(by_user), bool)
    rest[starts], rest[starts + 1] = False, False
    return {"test": by_user[starts], "validation": by_user[starts + 1], "train": by_user[rest]}


def made_cold(
    user: np.ndarray, item: np.ndarray, seed: int, share: float = 0.2
) -> dict[str, np.ndarray]:
    """A random share of the items keeps 4 training events; one other of each user's tests.

    All other events of those items are left out. The validation event of a user is a random one of
    the other items'.
    """
    random = np.random.default_rng(seed)
    n_items = int(item.max()) + 1
    chosen = np.zeros(n_items, bool)
    chosen[random.permutation(n_items)[: round(share * n_items)]] = True
    order = random.permutation(len(item))
    by_item = order[np.argsort(item[order], kind="stable")]
    starts = np.r_[0, np.flatnonzero(np.diff(item[by_item])) + 1]
    place = np.arange(len(by_item)) - np.repeat(starts, np.diff(np.r_[starts, len(by_item)]))
    spare = by_item[chosen[item[by_item]] & (place >= KEPT)]
    kept = np.setdiff1d(np.arange(len(item)), spare)
    spare = random.permutation(spare)
    _, first = np.unique(user[spare], return_index=True)
    warm = random.permutation(kept[~chosen[item[kept]]])
    _, one = np.unique(user[warm], return_index=True)
    return {
        "test": spare[first],
        "validation": warm[one],
        "train": np.setdiff1d(kept, warm[one]),
    }


def with_vectors(data: RetrievalData, vectors: np.ndarray, name: str = "look") -> RetrievalData:
    """The data with one more item feature of kind ``embedding``, float32 [n_items, dim]."""
    feature = {"name": name, "role": "item", "kind": "embedding", "dim": vectors.shape[1]}
    laid = np.zeros((data.n_items + 2, vectors.shape[1]), np.float32)
    laid[1 : data.n_items + 1] = vectors
    return replace(
        data,
        features=FeatureTable.model_validate({"features": [feature]}),
        items={**data.items, name: laid},
    )


def posters(
    folder: Path, ids: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [item, height, width, 3] and which items have a poster, bool [item]."""
    pixels = np.zeros((len(ids), height, width, 3), np.uint8)
    there = np.zeros(len(ids), bool)
    for at, item in enumerate(ids):
        path = folder / f"{item}.jpg"
        if path.is_file():
            try:
                pixels[at] = decode_image(path.read_bytes(), height, width, "crop")
                there[at] = True
            except BadImage as error:
                print(f"{path.name}: {error}")
    return pixels, there
