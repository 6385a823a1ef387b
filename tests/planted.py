"""Encoded data where an attribute decides everything, with users and items training never met."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.builders import retrieval_data
from tfrec.data.encoded import RetrievalData
from tfrec.schema import FeatureTable

COLD = 4  # last users and items, without an event
FEATURES = FeatureTable(
    features=[
        {"name": "group", "role": "user", "kind": "categorical", "dim": 4},
        {"name": "kind", "role": "item", "kind": "categorical", "dim": 4},
    ]
)


def parity_data(users: int = 40, items: int = 24, each: int = 8, seed: int = 0) -> RetrievalData:
    """User ``u`` of group ``1 + u % 2`` has only items of kind ``1 + i % 2`` of the same parity.

    The last ``COLD`` users and items have no event; their attributes are known.
    """
    rng = np.random.default_rng(seed)
    pairs, test = [], []
    for user in range(1, users - COLD + 1):
        liked = [i for i in range(1, items - COLD + 1) if (user + i) % 2 == 0]
        chosen = rng.choice(liked, min(each, len(liked) - 1), replace=False)
        pairs += [(user, int(i)) for i in chosen[1:]]
        test.append((user, int(chosen[0])))
    data = retrieval_data(pairs, (), test, users, items)
    group = 1 + np.arange(users + 2) % 2
    kind = 1 + np.arange(items + 2) % 2
    for index in (group, kind):
        index[[0, -1]] = 0  # padding and tail have no attributes
    return replace(
        data,
        features=FEATURES,
        users={**data.users, "group": group.astype(np.int64)},
        items={**data.items, "kind": kind.astype(np.int64)},
        sizes={**data.sizes, "group": 4, "kind": 4},
    )


def same_parity(data: RetrievalData, user: int) -> np.ndarray:
    """Bool [n_items]: whether item ``i`` (column ``i - 1``) is one for this user."""
    return (user + np.arange(1, data.n_items + 1)) % 2 == 0
