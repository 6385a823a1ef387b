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
    user: np.ndarray, item: np.ndarray, seed: int, tested: float = 0.2, validated: float = 0.1
) -> dict[str, np.ndarray]:
    """Random items keep 4 training events; of each user one other event of theirs is asked about.

    A fifth of the items are asked about in the test, another tenth in validation, so that what is
    chosen there is chosen for cold items too. All other events of both are left out.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(int(item.max()) + 1)
    part = np.zeros(len(order), np.int8)
    first, second = round(tested * len(order)), round((tested + validated) * len(order))
    part[order[:first]], part[order[first:second]] = 1, 2
    shuffled = random.permutation(len(item))
    by_item = shuffled[np.argsort(item[shuffled], kind="stable")]
    starts = np.r_[0, np.flatnonzero(np.diff(item[by_item])) + 1]
    place = np.arange(len(by_item)) - np.repeat(starts, np.diff(np.r_[starts, len(by_item)]))
    spared = (part[item[by_item]] > 0) & (place >= KEPT)
    parts = {"train": by_item[~spared]}
    spare = random.permutation(by_item[spared])
    for name, number in (("test", 1), ("validation", 2)):
        mine = spare[part[item[spare]] == number]
        parts[name] = mine[np.unique(user[mine], return_index=True)[1]]
    return parts


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
