"""Small rated data sets: tastes that can be learned, on any ordinal set of levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.builders import retrieval_data
from tfrec.data.encoded import Interactions, RetrievalData

FIVE = (1.0, 2.0, 3.0, 4.0, 5.0)
TWO = (0.0, 1.0)


def rated_data(
    n_users: int = 60,
    n_items: int = 40,
    levels: tuple[float, ...] = FIVE,
    density: float = 0.5,
    seed: int = 0,
    extra_users: int = 1,
    extra_items: int = 1,
) -> RetrievalData:
    """Users of two kinds and items of two kinds: a user rates its own kind high, the other low.

    Of the ratings a tenth tests and a tenth validates. The last ``extra_users`` users and
    ``extra_items`` items have no rating at all.
    """
    random = np.random.default_rng(seed)
    user, item = np.nonzero(random.random((n_users, n_items)) < density)
    mine = (user + item) % 2 == 0
    # The upper or the lower half of the scale, with one rating in ten anywhere.
    half = max(len(levels) // 2, 1)
    place = random.integers(0, half, len(user)) + np.where(mine, len(levels) - half, 0)
    place = np.where(
        random.random(len(user)) < 0.1, random.integers(0, len(levels), len(user)), place
    )
    weight = np.asarray(levels, np.float32)[place]
    split = random.random(len(user))
    sizes = (n_users + extra_users, n_items + extra_items)

    def events(kept: np.ndarray) -> Interactions:
        times = np.flatnonzero(kept)
        return Interactions.from_arrays(user[kept] + 1, item[kept] + 1, *sizes, times, weight[kept])

    base = retrieval_data([(1, 1)], n_users=sizes[0], n_items=sizes[1])
    return replace(
        base,
        train=events(split < 0.8),
        validation=events((split >= 0.8) & (split < 0.9)),
        test=events(split >= 0.9),
    )
