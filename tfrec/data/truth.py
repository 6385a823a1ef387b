"""The planted truth of the synthetic shop, and the best score any model can reach on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.schema import EVENT, ITEM_ID, TIMESTAMP, USER_ID


@dataclass(frozen=True)
class BestRecall:
    """Recall@k of the ranking by the planted truth, unseen items only.

    Attributes:
        expected: mean probability that the next purchase is in the best ``k``: no ranking has a
            higher expectation. Compare models with this one on many users.
        realised: share of the test events that were in the best ``k`` this time.
    """

    expected: float
    realised: float


@dataclass(frozen=True)
class Truth:
    """The law of purchases; see ``tfrec.data.synthetic``.

    Attributes:
        start, end: float64 [n_users, K], each user's mixture of topics at the log's two ends.
        phi: float64 [K, n_items], each topic's distribution over items.
        t0, span: the log's first second and its length in seconds.

    Index ``n`` is the id ``u<n>`` or ``i<n>``.
    """

    start: np.ndarray
    end: np.ndarray
    phi: np.ndarray
    t0: int
    span: int

    def mixture(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Each user's topics at a time (seconds), float64 [batch, K]."""
        tau = np.clip((np.asarray(times) - self.t0) / self.span, 0, 1)[:, None]
        return (1 - tau) * self.start[users] + tau * self.end[users]

    def probabilities(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """``P(item | user, time)`` before seen items are left out, float64 [batch, n_items]."""
        return self.mixture(users, times) @ self.phi

    def lift(self, users: np.ndarray, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        """How much likelier each item is for its user than on average, float64 [event]."""
        pairs = np.einsum("ek,ke->e", self.mixture(users, times), self.phi[:, items])
        return pairs / self.phi.mean(axis=0)[items]

    def best_possible_recall(self, log: pa.Table, split: pa.Array, k: int) -> BestRecall:
        """The score of the oracle that ranks each user's unseen items by ``probabilities``.

        Args:
            log: the interactions (only purchases count).
            split: string [event], from ``splits.assign``, one test event a user (``last_out``).
            k: length of the lists.

        Raises:
            ValueError: there is no test event.
        """
        bought = pc.equal(log.column(EVENT), "purchase").to_numpy()
        users, items = index_of(log.column(USER_ID)), index_of(log.column(ITEM_ID))
        times = log.column(TIMESTAMP).to_numpy()
        test = pc.equal(split, "test").to_numpy(zero_copy_only=False) & bought
        if not test.any():
            raise ValueError("the best possible recall needs test events; got none in the split")
        seen = ~test & bought
        order = np.argsort(users[seen], kind="stable")
        seen_users, seen_items = users[seen][order], items[seen][order]
        expected, hits = [], []
        for at in _batches(np.flatnonzero(test), 512):
            law = self.probabilities(users[at], times[at])
            low = np.searchsorted(seen_users, users[at], "left")
            high = np.searchsorted(seen_users, users[at], "right")
            for row, (a, b) in enumerate(zip(low, high, strict=True)):
                law[row, seen_items[a:b]] = 0
            law /= law.sum(axis=1, keepdims=True)
            best = np.argsort(-law, axis=1, kind="stable")[:, :k]
            expected.append(np.take_along_axis(law, best, axis=1).sum(axis=1))
            hits.append((best == items[at][:, None]).any(axis=1))
        return BestRecall(
            float(np.concatenate(expected).mean()), float(np.concatenate(hits).mean())
        )


def index_of(ids: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """The numbers in ids like ``u12`` or ``i0``, int64 [row]."""
    return pc.cast(pc.utf8_slice_codeunits(ids, 1), pa.int64()).to_numpy()


def _batches(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for at in range(0, len(rows), size):
        yield rows[at : at + size]
