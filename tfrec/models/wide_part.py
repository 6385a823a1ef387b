"""The wide part: one sparse linear model over indices, numeric buckets and their crosses.

Cheng et al. 2016, "Wide & Deep Learning for Recommender Systems", section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

# A cross is hashed by a linear map modulo this prime (2^31 - 1): products of two numbers below it
# fit int64, so the arithmetic never overflows and is the same on every device.
PRIME = 2_147_483_647
MULTIPLIERS = (1_190_494_759, 1_540_483_477, 668_265_263, 2_024_968_321)


@dataclass(frozen=True)
class Column:
    """An encoded feature as the wide part sees it.

    Attributes:
        name: key of the encoded feature (``genres``, ``age_bucket``, ``history``).
        size: number of indices, padding and tail included.
        sequence: True where a row holds several indices, 0 behind. In a single-valued column 0 is
            the missing value and has a weight of its own; in a sequence it is padding and has none.
    """

    name: str
    size: int
    sequence: bool


def cross_size(members: Sequence[Column], buckets: int) -> int:
    """Indices of a cross: the product of its members' sizes, at most ``buckets``."""
    return min(math.prod(column.size for column in members), buckets)


def cross_indices(
    inputs: Mapping[str, tf.Tensor], members: Sequence[Column], buckets: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Indices of the crossed values of several columns.

    Where the product of the sizes fits into ``buckets`` every combination has its own index (mixed
    radix), else ``sum(multiplier_i * index_i) mod (2^31 - 1) mod buckets``. Sequences cross by
    every value: lengths multiply.

    Args:
        inputs: encoded features, int64 [batch] or [batch, n].
        members: the crossed columns.
        buckets: most indices.

    Returns:
        Indices int64 [batch, m] in ``0..cross_size - 1`` and a mask bool [batch, m], False where a
        member is padding.
    """
    exact = math.prod(column.size for column in members) <= buckets
    key: tf.Tensor | None = None
    valid: tf.Tensor | None = None
    for column, multiplier in zip(members, MULTIPLIERS, strict=False):
        index = _columns(inputs[column.name])
        kept = tf.not_equal(index, 0) if column.sequence else tf.ones_like(index, tf.bool)
        if key is None or valid is None:
            key, valid = (index if exact else (index * multiplier) % PRIME), kept
            continue
        left, right = key[:, :, tf.newaxis], index[:, tf.newaxis, :]
        if exact:
            joined = left * column.size + right
        else:
            joined = (left + (right * multiplier) % PRIME) % PRIME
        width = joined.shape[1] * joined.shape[2]
        key = tf.reshape(joined, [-1, width])
        valid = tf.reshape(valid[:, :, tf.newaxis] & kept[:, tf.newaxis, :], [-1, width])
    assert key is not None
    assert valid is not None
    return (key if exact else key % buckets), valid


def _columns(index: tf.Tensor) -> tf.Tensor:
    """int64 [batch, n] from [batch] or [batch, n]."""
    index = tf.cast(index, tf.int64)
    return index[:, tf.newaxis] if index.shape.rank == 1 else index


class WideLinear(tf.keras.layers.Layer):
    """Sum of the weights of all active indices, values of sequences and crosses alike.

    All columns share one weight vector, each at its own offset: one gather forward, one sparse
    update back.

    Args:
        columns: single columns.
        crosses: groups of columns to cross.
        cross_buckets: most indices of one cross.
        outputs: None is one model; else so many models over the same indices.

    Raises:
        ValueError: a cross has fewer than 2 or more than 4 members.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        crosses: Sequence[Sequence[Column]],
        cross_buckets: int,
        outputs: int | None = None,
    ) -> None:
        super().__init__(name="wide")
        for members in crosses:
            if not 2 <= len(members) <= len(MULTIPLIERS):
                raise ValueError(
                    f"a cross has 2 to {len(MULTIPLIERS)} members; got "
                    f"{[c.name for c in members]}; mend ranking.crosses"
                )
        # Plain tuples of dataclasses: Keras would wrap and track lists.
        self._columns = tuple(columns)
        self._crosses = tuple(tuple(members) for members in crosses)
        self.cross_buckets = cross_buckets
        sizes = [c.size for c in self._columns]
        sizes += [cross_size(members, cross_buckets) for members in self._crosses]
        self.offsets = tuple(sum(sizes[:i]) for i in range(len(sizes)))
        self.size = sum(sizes)
        # FTRL recomputes a weight from its sums alone: any other start than zero would be lost.
        shape = [max(self.size, 1)] if outputs is None else [max(self.size, 1), outputs]
        self.weight = self.add_weight(
            name="weight", shape=shape, initializer="zeros", dtype=tf.float32
        )

    def indices(self, inputs: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Positions in ``weight``, int64 [batch, m], and which of them count, bool [batch, m]."""
        found, masks = [], []
        for column, offset in zip(self._columns, self.offsets, strict=False):
            index = _columns(inputs[column.name])
            kept = tf.not_equal(index, 0) if column.sequence else tf.ones_like(index, tf.bool)
            found.append(index + offset)
            masks.append(kept)
        behind = self.offsets[len(self._columns) :]
        for members, offset in zip(self._crosses, behind, strict=True):
            index, kept = cross_indices(inputs, members, self.cross_buckets)
            found.append(index + offset)
            masks.append(kept)
        return tf.concat(found, axis=1), tf.concat(masks, axis=1)

    def call(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Logits float32 [batch], or [batch, outputs]."""
        index, kept = self.indices(inputs)
        weights = tf.gather(self.weight, index)
        if weights.shape.rank == 3:
            kept = kept[:, :, tf.newaxis]
        return tf.reduce_sum(tf.where(kept, weights, 0.0), axis=1)
