"""What a choice of utility weights does to the lists: revenue, accuracy, diversity at once.

Works from score matrices, so it measures any model: candidates and their chances go in, weights are
turned, and each setting's lists are made by the very functions that serve (``tfrec.rerank``) and
measured against what the users really took.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from tfrec.evaluation.beyond import coverage, intra_list_diversity
from tfrec.evaluation.metrics import list_metrics
from tfrec.evaluation.protocol import HeldOut
from tfrec.evaluation.ranker import Traced
from tfrec.rerank import rerank
from tfrec.rerank.utility import expected_value

TRADE_OFF = "trade_off"  # the setting beside the goals' weights
BLOCK = 512  # most users a step
BYTES = 128 << 20  # most bytes of candidates' vectors a step


@dataclass(frozen=True)
class Candidates:
    """What may be shown to each user of an evaluation, and what is known of it.

    Attributes:
        items: int [user, candidate], item indices from 1; 0 is padding. Best first.
        parts: by name float [user, candidate]: what ``tfrec.rerank.utility.expected_value`` reads,
            e.g. ``relevance``, ``p_purchase``, ``price``.
    """

    items: np.ndarray
    parts: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        wrong = {n: np.shape(v) for n, v in self.parts.items() if np.shape(v) != self.items.shape}
        if wrong or self.items.ndim != 2:
            raise ValueError(
                f"items and all parts are [user, candidate] alike; got {self.items.shape} and "
                f"{wrong}"
            )


def best_of(scores: np.ndarray, questions: HeldOut, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The best candidates of a matrix of scores, items seen before left out.

    Args:
        scores: float [user, n_items] in the order of ``questions.users``; column ``i - 1`` is item
            ``i``.
        questions: who is asked.
        n: candidates a user.

    Returns:
        Item indices int32 [user, n] (0 where there are no more) and their scores float32.
    """
    n = min(n, scores.shape[1])
    values = np.array(scores, np.float32)
    if questions.exclude_seen:
        rows, items = questions.seen(0, len(questions.users))
        values[rows, items - 1] = -np.inf
    top = np.argpartition(-values, n - 1, axis=1)[:, :n]
    order = np.take_along_axis(values, top, axis=1)
    at = np.lexsort((top, -order), axis=1)
    top, order = np.take_along_axis(top, at, axis=1), np.take_along_axis(order, at, axis=1)
    there = np.isfinite(order)
    return np.where(there, top + 1, 0).astype(np.int32), np.where(there, order, 0)


def by_item(values: np.ndarray, items: np.ndarray) -> np.ndarray:
    """A number an item, float [n_items + 1] (row 0 padding), at each candidate."""
    return np.asarray(values, np.float32)[items]


def taken(items: np.ndarray, questions: HeldOut) -> np.ndarray:
    """Whether each candidate is a held-out item of its user, bool [user, candidate].

    Args:
        items: int [user, candidate], item indices, 0 for padding.
        questions: with one user a row.
    """
    width = questions.known.n_items + 1
    row = np.arange(len(questions.users))
    held = np.repeat(row, questions.relevant) * width + questions.item
    return np.isin(row[:, None] * width + items, held) & (items > 0)


@dataclass
class Tradeoffs:
    """Measures settings of weights on one set of candidates.

    Attributes:
        candidates: see there.
        questions: who took what.
        k: list length.
        value: float [n_items + 1], what a sale of each item brings (its price); for ``revenue@k``.
        vectors: float [n_items + 1, dim], by which items are alike: for ``diversity@k`` and the
            re-ranking methods; None leaves both out.
        method: ``none``, ``mmr`` or ``dpp``: what ``trade_off`` steers.
    """

    candidates: Candidates
    questions: HeldOut
    k: int
    value: np.ndarray
    vectors: np.ndarray | None = None
    method: str = "none"
    _functions: dict[tuple[str, ...], Traced] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if len(self.candidates.items) != len(self.questions.users):
            raise ValueError(
                f"there is one row of candidates a user asked, {len(self.questions.users)}; got "
                f"{len(self.candidates.items)}"
            )
        if self.method != "none" and self.vectors is None:
            raise ValueError(f"method {self.method!r} needs vectors of the items")
        self.hits = taken(self.candidates.items, self.questions)

    @property
    def _dim(self) -> int:
        """Width of the vectors that the graph is given."""
        return 1 if self.method == "none" or self.vectors is None else self.vectors.shape[1]

    def _lists(self, goals: tuple[str, ...]) -> Traced:
        """A traced function of parts, vectors, weights and trade-off, one for each set of goals."""
        if goals in self._functions:
            return self._functions[goals]

        def lists(
            parts: dict[str, tf.Tensor],
            valid: tf.Tensor,
            vectors: tf.Tensor,
            weights: dict[str, tf.Tensor],
            trade_off: tf.Tensor,
        ) -> tf.Tensor:
            worth, _ = expected_value(parts, weights)
            return rerank(
                worth,
                self.k,
                method=self.method,
                trade_off=trade_off,
                vectors=vectors if self.method != "none" else None,
                valid=valid,
                normalise=self.method != "none",
            ).indices

        each, number = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([], tf.float32)
        signature = [
            dict.fromkeys(self.candidates.parts, each),
            tf.TensorSpec([None, None], tf.bool),
            tf.TensorSpec([None, None, self._dim], tf.float32),
            dict.fromkeys(goals, number),
            number,
        ]
        self._functions[goals] = Traced(lists, signature)
        return self._functions[goals]

    def lists(self, setting: Mapping[str, float]) -> np.ndarray:
        """The lists of a setting, positions on the candidate axis, int32 [user, k]; -1 behind.

        Args:
            setting: goal -> weight, and ``trade_off`` (0 where not given).
        """
        weights = {g: tf.constant(w, tf.float32) for g, w in setting.items() if g != TRADE_OFF}
        make = self._lists(tuple(sorted(weights)))
        trade_off = tf.constant(setting.get(TRADE_OFF, 0.0), tf.float32)
        out = []
        width = 4 * self.hits.shape[1] * self._dim
        size = max(1, min(BLOCK, BYTES // max(width, 1)))
        for start in range(0, len(self.hits), size):
            here = slice(start, start + size)
            items = self.candidates.items[here]
            vectors = np.zeros((*items.shape, 1), np.float32)
            if self.method != "none" and self.vectors is not None:
                vectors = self.vectors[items].astype(np.float32)
            parts = {
                name: tf.constant(values[here], tf.float32)
                for name, values in self.candidates.parts.items()
            }
            found = make(parts, items > 0, vectors, weights, trade_off)
            out.append(found.numpy())
        return np.concatenate(out)

    def measure(self, setting: Mapping[str, float]) -> dict[str, float]:
        """What a setting brings, means over users.

        Returns:
            ``revenue@k``: the value of what was taken among the k shown; ``ndcg@k``, ``recall@k``,
            ``precision@k`` (the share of places that were taken: click-through), ``coverage@k``
            and, with vectors, ``diversity@k``.
        """
        k, at = self.k, self.lists(setting)
        there = at >= 0
        safe = np.maximum(at, 0)
        items = np.where(there, np.take_along_axis(self.candidates.items, safe, axis=1), 0)
        hits = there & np.take_along_axis(self.hits, safe, axis=1)
        each = list_metrics(hits, self.questions.relevant, self.questions.candidates, [k])
        out = {
            f"revenue@{k}": float((hits * self.value[items]).sum(axis=1).mean()),
            **{f"{m}@{k}": float(each[f"{m}@{k}"].mean()) for m in ("ndcg", "recall", "precision")},
            f"coverage@{k}": coverage(items, len(self.value) - 1),
        }
        if self.vectors is not None:
            found = intra_list_diversity(items, self.vectors)
            out[f"diversity@{k}"] = float(np.nanmean(found)) if np.isfinite(found).any() else 0.0
        return out
