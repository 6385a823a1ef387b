"""Which events train, which validate (``eval``), which test.

Three methods: each user's last events (``last_out``), the latest share of all events (``time``), a
seeded share (``random``). Equal times keep the order of the file, so the answer is a function of
the table and the configuration alone.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import SplitConfig
from tfrec.data.tables import DataError
from tfrec.schema import TIMESTAMP, USER_ID

TRAIN, EVAL, TEST = 0, 1, 2
NAMES = ("train", "eval", "test")


def assign(interactions: pa.Table, split: SplitConfig) -> pa.Array:
    """The split of each event.

    Args:
        interactions: canonical interactions, in the log's order.
        split: method, shares, seed.

    Returns:
        string [event]: ``train``, ``eval`` or ``test``, in the order of the rows.

    Raises:
        DataError: there are no events.
    """
    if interactions.num_rows == 0:
        raise DataError("a split needs at least one event; got an empty table")
    if split.method == "last_out":
        codes = _last_out(*_users_and_times(interactions))
    elif split.method == "time":
        order = np.argsort(interactions.column(TIMESTAMP).to_numpy(), kind="stable")
        codes = _shares(order, split)
    else:
        order = np.random.default_rng(split.seed).permutation(interactions.num_rows)
        codes = _shares(order, split)
    return pa.array(NAMES).take(pa.array(codes))


def split_events(interactions: pa.Table, split: SplitConfig) -> dict[str, pa.Table]:
    """Interactions by split (``train``, ``eval``, ``test``), each in the log's order."""
    names = assign(interactions, split)
    return {name: interactions.filter(pc.equal(names, name)) for name in NAMES}


def _users_and_times(interactions: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """User codes int32 [event] and times int64 [event]."""
    users = interactions.column(USER_ID).combine_chunks().dictionary_encode()
    if isinstance(users, pa.ChunkedArray):
        users = users.combine_chunks()
    return users.indices.to_numpy(), interactions.column(TIMESTAMP).to_numpy()


def _last_out(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Last event of each user with three or more: test; last but one: eval; uint8 [event]."""
    order = np.lexsort((times, users))
    sorted_users = users[order]
    counts = np.bincount(users)
    ends = np.cumsum(counts)
    behind = ends[sorted_users] - 1 - np.arange(len(users))
    enough = counts[sorted_users] >= 3
    codes = np.zeros(len(users), np.uint8)
    codes[order[(behind == 0) & enough]] = TEST
    codes[order[(behind == 1) & enough]] = EVAL
    return codes


def _shares(order: np.ndarray, split: SplitConfig) -> np.ndarray:
    """The last ``test`` share of ``order`` tests, the ``validation`` share before it validates.

    Shares are rounded down, so at least one event is left for training.
    """
    n = len(order)
    n_test, n_eval = (int(share * n + 1e-9) for share in (split.test, split.validation))
    codes = np.zeros(n, np.uint8)
    codes[order[n - n_test :]] = TEST
    codes[order[n - n_test - n_eval : n - n_test]] = EVAL
    return codes
