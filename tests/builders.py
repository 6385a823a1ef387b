"""Small encoded data sets whose right answers can be proved. Needs nothing but ``tfrec.data``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.schema import ITEM_ID, USER_ID, FeatureTable

Pairs = Iterable[tuple[int, int]]


def interactions(pairs: Pairs, n_users: int, n_items: int, start: int = 0) -> Interactions:
    """Events from ``(user, item)`` pairs, in that order of time; times begin at ``start``."""
    array = np.asarray(list(pairs), np.int64).reshape(-1, 2)
    times = start + np.arange(len(array))
    return Interactions.from_arrays(array[:, 0], array[:, 1], n_users, n_items, times)


def retrieval_data(
    train: Pairs,
    validation: Pairs = (),
    test: Pairs = (),
    n_users: int | None = None,
    n_items: int | None = None,
) -> RetrievalData:
    """Encoded data of ids alone. Sizes default to the largest indices named."""
    splits = [list(p) for p in (train, validation, test)]
    everything = [pair for pairs in splits for pair in pairs]
    n_users = n_users or max(u for u, _ in everything)
    n_items = n_items or max(i for _, i in everything)
    at, parts = 0, []
    for pairs in splits:
        parts.append(interactions(pairs, n_users, n_items, at))
        at += len(pairs)
    return RetrievalData(
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        users={USER_ID: np.arange(n_users + 2, dtype=np.int64)},
        items={ITEM_ID: np.arange(n_items + 2, dtype=np.int64)},
        features=FeatureTable(),
        sizes={USER_ID: n_users + 2, ITEM_ID: n_items + 2},
        user_ids=np.array(["", *(f"u{u}" for u in range(1, n_users + 1))]),
        item_ids=np.array(["", *(f"i{i}" for i in range(1, n_items + 1))]),
    )


def checkerboard(n: int = 20, seed: int = 0) -> RetrievalData:
    """``n`` users and items; user ``u`` has all items of the same parity but two.

    Item ``u`` is held out for test and the next one of its parity for validation. So at test time
    (validation known) the only item of the right parity that user ``u`` has not had is item ``u``:
    a model that learned the two groups must put it first. The order of events is random.
    """
    random = np.random.default_rng(seed)
    users = np.arange(1, n + 1)
    following = (users + 1) % n + 1
    pairs = [
        (u, i) for u in users for i in users if (u + i) % 2 == 0 and i not in (u, following[u - 1])
    ]
    order = random.permutation(len(pairs))
    return retrieval_data(
        [pairs[j] for j in order],
        list(zip(users, following, strict=True)),
        list(zip(users, users, strict=True)),
    )


def random_data(
    n_users: int = 30,
    n_items: int = 25,
    mean_events: float = 8.0,
    held: int = 2,
    seed: int = 0,
) -> RetrievalData:
    """Users with random distinct items; up to ``held`` of each are held out in either split."""
    random = np.random.default_rng(seed)
    train, validation, test = [], [], []
    for user in range(1, n_users + 1):
        count = int(np.clip(random.poisson(mean_events), 1, n_items))
        items = random.permutation(np.arange(1, n_items + 1))[:count]
        n_test, n_validation = random.integers(0, held + 1, 2)
        rest = max(1, count - n_test - n_validation)
        train += [(user, i) for i in items[:rest]]
        validation += [(user, i) for i in items[rest : rest + n_validation]]
        test += [(user, i) for i in items[rest + n_validation :]]
    return retrieval_data(train, validation, test, n_users, n_items)


def without_split(data: RetrievalData, name: str) -> RetrievalData:
    """The same data with one split emptied."""
    events: Interactions = getattr(data, name)
    return replace(data, **{name: events.select(np.zeros(len(events), bool))})  # type: ignore[arg-type]
