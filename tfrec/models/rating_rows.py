"""Ratings as ordinal codes, and the sparse rows of them that rating models train on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import Interactions

Side = Literal["user", "item"]
MOST_LEVELS = 64
ROW, CODE = "row", "code"


@dataclass(frozen=True)
class Scale:
    """The ordinal set of ratings found in the data.

    Attributes:
        levels: float32 [L], ascending; code ``c`` (1..L) stands for ``levels[c - 1]``, 0 for none.
    """

    levels: np.ndarray

    @classmethod
    def of(cls, ratings: np.ndarray) -> Scale:
        """The distinct values of ``ratings`` (float [event]).

        Raises:
            ValueError: no ratings, one that is not finite, or too many different ones to be an
                ordinal scale.
        """
        levels = np.unique(np.asarray(ratings, np.float32))
        if not len(levels) or not np.isfinite(levels).all():
            raise ValueError(
                "ratings are finite numbers, at least one; got "
                f"{'none' if not len(levels) else 'NaN or infinity'}; mend the column 'weight'"
            )
        if len(levels) > MOST_LEVELS:
            raise ValueError(
                f"an ordinal scale has at most {MOST_LEVELS} levels; the column 'weight' holds "
                f"{len(levels)} different values; round them, as to half stars"
            )
        return cls(levels)

    def __len__(self) -> int:
        return len(self.levels)

    @property
    def midpoints(self) -> np.ndarray:
        """Where one level's neighbourhood ends and the next begins, float32 [L - 1]."""
        return (self.levels[1:] + self.levels[:-1]) / 2

    @property
    def unit(self) -> float:
        """A quarter of the scale, 1 on 1 to 5: what ``l2``, rates and first weights count in."""
        return float(self.levels[-1] - self.levels[0]) / 4 or 1.0

    @property
    def one_to_five(self) -> np.ndarray:
        """The levels as on a scale from 1 to 5, float32 [L]: none is 0, which means not rated."""
        return (self.levels - self.levels[0]) / np.float32(self.unit) + np.float32(1)

    def codes(self, ratings: np.ndarray) -> np.ndarray:
        """Code of the nearest level of each rating, uint8, same shape."""
        return (np.searchsorted(self.midpoints, ratings, side="right") + 1).astype(np.uint8)


@dataclass(frozen=True)
class RatingRows:
    """The ratings of each user over items (or of each item over users), compressed.

    Attributes:
        indptr: int64 [n_rows + 1]; the ratings of row ``r`` are ``indptr[r]:indptr[r + 1]``.
        column: int32 [rating], 0-based.
        code: uint8 [rating], 1..L.
        n_columns: width.
    """

    indptr: np.ndarray
    column: np.ndarray
    code: np.ndarray
    n_columns: int

    @classmethod
    def of(cls, events: Interactions, scale: Scale, by: Side = "user") -> RatingRows:
        """Rows of ``events``; of a pair rated twice the later rating counts."""
        rows, columns = events.user - 1, events.item - 1
        n_rows, n_columns = events.n_users, events.n_items
        if by == "item":
            rows, columns, n_rows, n_columns = columns, rows, n_columns, n_rows
        key = rows.astype(np.int64) * n_columns + columns
        # Events lie in order of time within a user, so the last of a pair is its latest.
        kept, last = np.unique(key[::-1], return_index=True)
        code = scale.codes(events.weight[len(key) - 1 - last])
        counts = np.bincount(kept // n_columns, minlength=n_rows)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(indptr, (kept % n_columns).astype(np.int32), code, n_columns)

    @property
    def n_rows(self) -> int:
        return len(self.indptr) - 1

    @property
    def counts(self) -> np.ndarray:
        """Ratings of each row, int64 [n_rows]."""
        return np.diff(self.indptr)

    def blocks(self, rows: np.ndarray, size: int) -> tf.data.Dataset:
        """Blocks of rows in the order given, each as of ``batches``."""
        return (
            tf.data.Dataset.from_tensor_slices(rows.astype(np.int64)).batch(size).map(self._cut())
        )

    def batches(self, batch_size: int, seed: int) -> tf.data.Dataset:
        """One epoch of the rows that hold a rating, shuffled anew each time.

        Returns:
            ``row`` int64 [batch] and ``code`` int32 [batch, n_columns] (0 where nothing is rated).

        Raises:
            ValueError: there is no rating.
        """
        rated = np.flatnonzero(self.counts).astype(np.int64)
        if not len(rated):
            raise ValueError("training needs ratings; the train split is empty")
        rows = tf.data.Dataset.from_tensor_slices(rated).shuffle(len(rated), seed=seed)
        return rows.batch(batch_size).map(self._cut()).prefetch(2)

    def _cut(self):  # type: ignore[no-untyped-def]
        indptr, column = tf.constant(self.indptr), tf.constant(self.column, tf.int64)
        code, width = tf.constant(self.code), self.n_columns

        def cut(rows: tf.Tensor) -> dict[str, tf.Tensor]:
            at = tf.ragged.range(tf.gather(indptr, rows), tf.gather(indptr, rows + 1))
            where = tf.stack([at.value_rowids(), tf.gather(column, at.values)], axis=1)
            shape = tf.stack([tf.shape(rows, tf.int64)[0], width])
            values = tf.cast(tf.gather(code, at.values), tf.int32)
            dense = tf.scatter_nd(where, values, shape)
            return {ROW: rows, CODE: tf.ensure_shape(dense, [None, width])}

        return cut


def column_means(rows: RatingRows, scale: Scale, strength: float) -> tuple[np.ndarray, float]:
    """Mean rating of each column, drawn towards the mean of all.

    Args:
        rows: the ratings.
        scale: their levels.
        strength: how many ratings of the mean of all are added to a column.

    Returns:
        float32 [n_columns], and the mean of all.
    """
    ratings = scale.levels[rows.code.astype(np.int64) - 1].astype(np.float64)
    mean = float(ratings.mean())
    total = np.bincount(rows.column, ratings, rows.n_columns)
    count = np.bincount(rows.column, minlength=rows.n_columns)
    return ((total + strength * mean) / (count + strength)).astype(np.float32), mean


def level_logits(rows: RatingRows, n_levels: int, strength: float) -> np.ndarray:
    """Log share of each level in each column, smoothed by the shares of all: float32 [n, L]."""
    at = rows.column.astype(np.int64) * n_levels + rows.code - 1
    counts = np.bincount(at, minlength=rows.n_columns * n_levels).reshape(-1, n_levels)
    overall = (counts.sum(axis=0) + 1.0) / (counts.sum() + n_levels)
    shares = counts + strength * overall
    return np.log(shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
