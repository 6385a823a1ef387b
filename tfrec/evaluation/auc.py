"""AUC over all unobserved items, the protocol of VBPR (He & McAuley, AAAI 2016, section 5.2).

For each user the share of pairs (held-out item, item the user never had in any split) that the
model orders rightly; equal scores count half, and a user who has had everything gets one half.
All pairs are counted, none is sampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.progress import track
from tfrec.evaluation.protocol import Split, block_size, blocks, events_of, held_out
from tfrec.evaluation.ranker import Traced, refuse_no_number, without_number


@dataclass(frozen=True)
class AUC:
    """The area of each tested user.

    Attributes:
        users: int32 [n].
        values: float64 [n], 0 to 1.
    """

    users: np.ndarray
    values: np.ndarray

    @property
    def mean(self) -> float:
        """Mean over users."""
        return float(self.values.mean())


def evaluate_auc(
    model: Any,
    data: RetrievalData,
    split: Split = "test",
    *,
    items: np.ndarray | None = None,
    block: int | None = None,
    max_memory_mb: float = 512,
    progress: bool | None = None,
) -> AUC:
    """Mean AUC over users.

    Args:
        model: a ``Recommender``.
        data: encoded data; items of all three splits are kept out of the negatives.
        split: whose held-out items are the positives.
        items: bool [n_items + 1], where given only these held-out items are asked about, e.g.
            ``data.train.item_counts() < 5`` for VBPR's cold items (negatives stay all items).
        block, max_memory_mb, progress: see ``evaluate``.

    Raises:
        ValueError: no held-out item is left to ask about, or scores that are NaN.
    """
    questions = held_out(data, split, exclude_seen=True)
    asked, held = questions.user, questions.item
    if items is not None:
        asked, held = asked[items[held]], held[items[held]]
    if not len(asked):
        raise ValueError(
            "no held-out item is among 'items'; check the mask (bool [n_items + 1]) or the split"
        )
    users, counts = np.unique(asked, return_counts=True)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    order = np.argsort(counts, kind="stable")  # users with like counts share a block
    widest = int(counts.max())
    length = int(model.history_length)
    example = questions.inputs(data, np.zeros(0, np.int64), length, 1)
    row = sum(int(v[0].nbytes) for v in example.values()) + 4 * 4 * data.n_items + 16 * widest
    row += int(getattr(model, "bytes_per_user", 0))
    size = block or block_size(2 * row, max_memory_mb, len(users))
    spec = {n: tf.TensorSpec((size, *v.shape[1:]), v.dtype) for n, v in example.items()}

    def area(
        told: Mapping[str, tf.Tensor], had: tf.Tensor, held: tf.Tensor, longest: tf.Tensor
    ) -> tf.Tensor:
        scores = model.score_catalogue(told)
        bad = without_number(scores)
        # NaN is neither below nor equal to anything: the items a user had drop out of all counts.
        nothing = tf.fill([tf.shape(had)[0]], float("nan"))
        others = tf.tensor_scatter_nd_update(scores, had, nothing)
        negatives = tf.reduce_sum(tf.cast(~tf.math.is_nan(others), tf.float32), axis=1)

        def won(at: tf.Tensor) -> tf.Tensor:
            mine = held[:, at]
            score = tf.gather(scores, tf.maximum(mine - 1, 0), batch_dims=1)[:, tf.newaxis]
            below = tf.reduce_sum(tf.cast(others < score, tf.float32), axis=1)
            equal = tf.reduce_sum(tf.cast(others == score, tf.float32), axis=1)
            return tf.where(mine > 0, below + 0.5 * equal, 0.0)

        _, total = tf.while_loop(
            lambda at, _: at < longest,
            lambda at, total: (at + 1, total + won(at)),
            (0, tf.zeros([size])),
        )
        asked = tf.reduce_sum(tf.cast(held > 0, tf.float32), axis=1)
        won_share = tf.math.divide_no_nan(total, negatives)
        return tf.where(bad, float("nan"), tf.where(negatives > 0, won_share, 0.5 * asked))

    step = Traced(
        area,
        [
            spec,
            tf.TensorSpec([None, 2], tf.int32),
            tf.TensorSpec([size, widest], tf.int32),
            tf.TensorSpec([], tf.int32),
        ],
    )
    if hasattr(model, "refresh"):
        model.refresh()
    values = np.zeros(len(users))
    for start, stop in track(list(blocks(len(users), size)), "AUC", progress):
        chosen = order[start:stop]
        at = indptr[chosen][:, None] + np.arange(widest)[None, :]
        inside = np.arange(widest)[None, :] < counts[chosen][:, None]
        positives = np.zeros((size, widest), np.int32)
        positives[: len(chosen)][inside] = held[at[inside]]
        had = np.concatenate(
            [
                np.stack(events_of(events, users[chosen]), axis=1)
                for events in (data.train, data.validation, data.test)
            ]
        )
        had[:, 1] -= 1
        rows = np.searchsorted(questions.users, users[chosen])
        told = questions.inputs(data, rows, length, size)
        longest = np.int32(counts[chosen].max())
        found = step(told, had.astype(np.int32), positives, longest).numpy()[: len(chosen)]
        refuse_no_number(np.isnan(found), type(model).__name__)
        values[chosen] = found / counts[chosen]
    return AUC(users.astype(np.int32), values)
