"""A seeded shop whose truth is known: purchases, users, items, and the best possible score.

The planted truth. There are ``K`` topics. Topic ``k`` chooses items by ``phi[k]``, a distribution
over the catalogue: a power law of popularity times the exponential of an affinity that depends on
the item's subcategory, its style, and a part of its own that no attribute shows. A user is a
mixture of topics that moves in a straight line from ``start`` to ``end`` while the log runs::

    P(item | user, t) = ((1 - tau) start[user] + tau end[user]) @ phi,   tau = (t - t0) / span

Nobody buys an item twice: the next purchase follows this law among the items not yet bought. So the
best ranking of unseen items is by ``P``, and its expected recall is the best possible one
(``Truth.best_possible_recall``). Everything is drawn from one seed: same seed, same bytes.

Users are generated in blocks, each from its own stream of random numbers, so memory does not grow
with the number of events.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tfrec.config import DataConfig
from tfrec.data.synthetic_catalogue import Catalogue, id_array, make_catalogue, user_attributes
from tfrec.data.tables import DataError, Tables
from tfrec.data.truth import Truth

START = 1_577_836_800  # 2020-01-01
SPAN = 365 * 86_400
TOPICS = 12
BLOCK_EVENTS = 250_000
_ROUNDS = 25


@dataclass(frozen=True)
class Synthetic:
    """One generated shop.

    Attributes:
        users, items: canonical attribute tables.
        truth: the planted law.
        rows: number of purchases that ``interactions`` yields.
    """

    users: pa.Table
    items: pa.Table
    truth: Truth
    rows: int
    _catalogue: Catalogue
    _counts: np.ndarray
    _config: DataConfig

    def interactions(self) -> Iterator[pa.Table]:
        """The log in blocks of users; inside a block by user, then time. Repeatable."""
        counts = self._counts
        block_of = (np.cumsum(counts) - 1) // BLOCK_EVENTS
        edges = np.flatnonzero(np.diff(block_of)) + 1
        edges = np.concatenate([[0], edges, [len(counts)]])
        for number, (low, high) in enumerate(itertools.pairwise(edges)):
            rng = np.random.default_rng([self._config.seed, 1, number])
            yield self._block(np.arange(low, high), counts[low:high], rng)

    def tables(self) -> Tables:
        """Everything in memory."""
        return Tables(pa.concat_tables(self.interactions()), self.users, self.items)

    def _block(self, users: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> pa.Table:
        local = np.repeat(np.arange(len(users)), counts)
        times = START + rng.integers(0, SPAN, len(local))
        times = times[np.lexsort((times, local))]
        items = _draw_new_items(users, local, times, self.truth, rng)
        columns = {
            "user_id": id_array("u", users[local]),
            "item_id": id_array("i", items),
            "event": pa.array(["purchase"]).take(pa.array(np.zeros(len(local), np.int8))),
            "weight": pa.array(self._ratings(users[local], items, times, rng)),
            "timestamp": pa.array(times),
            "query": self._catalogue.queries(items, rng),
        }
        purchases = pa.table(columns)
        if self._config.clicks == 0:
            return purchases
        return _with_clicks(purchases, users[local], times, self, rng)

    def _ratings(
        self, users: np.ndarray, items: np.ndarray, times: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """1 to 5 by how far the user's taste lifts the item above its average, float32 [event]."""
        lift = self.truth.lift(users, items, times)
        noisy = 0.8 * np.log(lift) + self._catalogue.quality[items] + rng.normal(0, 0.5, len(items))
        return np.clip(np.rint(3.4 + noisy), 1, 5).astype(np.float32)


def generate(config: DataConfig) -> Synthetic:
    """A shop of the size and seed in the configuration (format ``synthetic``).

    Args:
        config: ``rows`` purchases; ``users_count`` (default ``rows / 33``), ``items_count``
            (default ``20 * sqrt(users)``), ``seed``, ``images``, ``clicks``.

    Raises:
        DataError: more purchases than users times half the catalogue can hold.
    """
    n_users = config.users_count or max(1, round(config.rows / 33))
    n_items = config.items_count or max(20, round(20 * np.sqrt(n_users)))
    cap = max(1, n_items // 2)
    if config.rows > n_users * cap:
        raise DataError(
            f"nobody buys an item twice, nor more than half the catalogue, so rows <= users_count "
            f"* (items_count // 2); got rows={config.rows}, users_count={n_users}, "
            f"items_count={n_items}; raise users_count or items_count"
        )
    rng = np.random.default_rng([config.seed, 0])
    catalogue = make_catalogue(n_items, TOPICS, rng, config.images)
    users, start = user_attributes(n_users, TOPICS, rng)
    end = rng.dirichlet(np.full(TOPICS, 0.1), n_users)
    # Half of the taste stays, half drifts away over the year.
    end = 0.5 * start + 0.5 * end
    truth = Truth(start, end, catalogue.phi, START, SPAN)
    counts = _events_per_user(n_users, config.rows, cap, rng)
    return Synthetic(users, catalogue.items, truth, config.rows, catalogue, counts, config)


def _events_per_user(n: int, rows: int, cap: int, rng: np.random.Generator) -> np.ndarray:
    """Log-normal shares that sum to ``rows``, each between the least and ``cap``; int64 [n]."""
    least = min(3, rows // n)
    shares = rng.lognormal(0.0, 0.7, n)
    counts = np.clip(np.floor(shares / shares.sum() * rows), least, cap).astype(np.int64)
    while (missing := rows - int(counts.sum())) != 0:
        room = np.flatnonzero(counts < cap if missing > 0 else counts > least)
        step = rng.permutation(room)[: abs(missing)]
        counts[step] += np.sign(missing)
    return counts


def _draw_new_items(
    users: np.ndarray, local: np.ndarray, times: np.ndarray, truth: Truth, rng: np.random.Generator
) -> np.ndarray:
    """An item for each event that its user has not bought before; int64 [event].

    A draw that repeats an earlier item of the same user is drawn again at its own time, which is
    the law restricted to the unseen items: an item once held by an earlier event stays held. The
    few events still repeating after many rounds are drawn from the restricted law directly.
    """
    n_items = truth.phi.shape[1]
    cumulative = np.cumsum(truth.phi, axis=1)
    items = np.empty(len(local), np.int64)
    todo = np.arange(len(local))
    for _ in range(_ROUNDS):
        mixture = truth.mixture(users[local[todo]], times[todo])
        topics = _choose(np.cumsum(mixture, axis=1), rng)
        items[todo] = _choose_by_topic(cumulative, topics, rng)
        todo = _repeats(local * n_items + items)
        if not len(todo):
            return items
    _draw_singly(todo, items, users, local, times, truth, rng)
    return items


def _draw_singly(
    todo: np.ndarray,
    items: np.ndarray,
    users: np.ndarray,
    local: np.ndarray,
    times: np.ndarray,
    truth: Truth,
    rng: np.random.Generator,
) -> None:
    """Draws the events that are left from the law without their user's earlier items; in place.

    A later event that held the drawn item becomes a repeat and is drawn in its turn.
    """
    queue = todo.tolist()  # ascending, so a heap
    while queue:
        event = heapq.heappop(queue)
        low, high = np.searchsorted(local, [local[event], local[event] + 1])
        law = truth.probabilities(users[local[[event]]], times[[event]])[0]
        law[items[low:event]] = 0
        items[event] = rng.choice(len(law), p=law / law.sum())
        for later in event + 1 + np.flatnonzero(items[event + 1 : high] == items[event]):
            if int(later) not in queue:
                heapq.heappush(queue, int(later))


def _repeats(keys: np.ndarray) -> np.ndarray:
    """Positions whose key stood at an earlier position."""
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(np.diff(keys[order]) == 0) + 1
    return np.sort(order[again])


def _choose(cumulative: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index a row from cumulative probabilities [row, K]."""
    at = rng.random(len(cumulative)) * cumulative[:, -1]
    return np.minimum((cumulative < at[:, None]).sum(axis=1), cumulative.shape[1] - 1)


def _choose_by_topic(
    cumulative: np.ndarray, topics: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """One item an event from its topic's cumulative distribution [K, n_items]."""
    at = rng.random(len(topics))
    items = np.empty(len(topics), np.int64)
    for topic, row in enumerate(cumulative):
        chosen = topics == topic
        items[chosen] = np.searchsorted(row, at[chosen] * row[-1], side="right")
    return np.minimum(items, cumulative.shape[1] - 1)


def _with_clicks(
    purchases: pa.Table,
    users: np.ndarray,
    times: np.ndarray,
    shop: Synthetic,
    rng: np.random.Generator,
) -> pa.Table:
    """Adds ``clicks`` browsing events a purchase, minutes before it, by the same law."""
    many = rng.poisson(shop._config.clicks, len(users))
    owner = np.repeat(np.arange(len(users)), many)
    when = np.maximum(times[owner] - rng.integers(30, 3600, len(owner)), START)
    topics = _choose(np.cumsum(shop.truth.mixture(users[owner], when), axis=1), rng)
    items = _choose_by_topic(np.cumsum(shop.truth.phi, axis=1), topics, rng)
    clicks = pa.table(
        {
            "user_id": id_array("u", users[owner]),
            "item_id": id_array("i", items),
            "event": pa.array(["click"]).take(pa.array(np.zeros(len(owner), np.int8))),
            "weight": pa.array(np.ones(len(owner), np.float32)),
            "timestamp": pa.array(when),
            "query": pa.nulls(len(owner), pa.string()),
        }
    )
    both = pa.concat_tables([purchases, clicks])
    order = np.lexsort((np.concatenate([times, when]), np.concatenate([users, users[owner]])))
    return both.take(pa.array(order))
