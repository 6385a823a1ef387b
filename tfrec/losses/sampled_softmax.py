"""Sampled softmax over the distinct items of a batch, with the logQ correction.

Every positive is scored against the *distinct* items that occur as positives anywhere in the global
batch, plus uniformly drawn ones where wished (mixed negative sampling, Yang et al. 2020). A row's
own item stands among the candidates exactly once, so there are no accidental hits to remove inside
the batch, and a popular item is not scored a hundred times. What sampling bias is left is taken
out by the logQ correction (Bengio & Senecal 2003; Yi et al. 2019): an item is a candidate with
probability

    Q(j) = 1 - (1 - p(j))^N (1 - 1/n)^M

for N positives drawn from the training distribution p and M uniform draws from n items, and log
Q(j) is subtracted from its logit.
"""

from __future__ import annotations

import tensorflow as tf

from tfrec.losses.replicas import global_concat

NEVER = -1e9  # finite: a row whose candidates are all masked still has a defined gradient


def inclusion_log_q(
    log_miss: tf.Tensor, candidates: tf.Tensor, positives: tf.Tensor, uniform: int, n_items: int
) -> tf.Tensor:
    """log Q of candidates; see the module's docstring.

    Args:
        log_miss: float32 [n_items + 1], log(1 - p) of each item index.
        candidates: int64 [candidate], item indices.
        positives: float32 [], N, valid positives in the global batch.
        uniform: M.
        n_items: n.

    Returns:
        float32 [candidate], at most 0.
    """
    miss = positives * tf.gather(log_miss, candidates)
    if uniform:
        miss += uniform * tf.math.log1p(-1.0 / max(n_items, 2))
    # An item of the batch that training never counted (p = 0) would have Q = 0.
    return tf.math.log(tf.maximum(-tf.math.expm1(miss), 1e-8))


def batch_candidates(
    items: tf.Tensor, uniform: int, n_items: int, seed: tf.Tensor | None = None
) -> tf.Tensor:
    """Distinct candidates of a global batch, int64 [candidate], in ascending order.

    Args:
        items: int64 [position], this replica's positives, 0 where there is none.
        uniform: how many items are drawn uniformly beside them.
        n_items: indices are drawn from 1..n_items.
        seed: int [2], the same on all replicas so that they draw the same items; needed where
            ``uniform`` is above 0.
    """
    everyone = global_concat(items)
    if uniform:
        drawn = tf.random.stateless_uniform([uniform], seed, 1, n_items + 1, tf.int64)
        everyone = tf.concat([everyone, drawn], axis=0)
    distinct = tf.sort(tf.unique(everyone).y)
    # The padding index 0 sorts first, if it is there.
    return distinct[tf.cast(tf.reduce_any(tf.equal(distinct, 0)), tf.int32) :]


def with_correction(
    users: tf.Tensor, candidates: tf.Tensor, temperature: float, log_q: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows whose dot products are the logits: over the temperature, less log Q.

    The correction rides along as one more dimension; subtracting it from the [row, candidate]
    matrix would cost as much as making that.

    Args:
        users: float32 [row, dim].
        candidates: float32 [candidate, dim].
        temperature: above 0.
        log_q: float32 [candidate]; None leaves the correction off.

    Returns:
        float32 [row, dim (+ 1)] and [candidate, dim (+ 1)].
    """
    users = users / temperature
    if log_q is None:
        return users, candidates
    ones = tf.ones_like(users[:, :1])
    return tf.concat([users, ones], axis=1), tf.concat([candidates, -log_q[:, None]], axis=1)


def own_columns(items: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """Column of each row's item among the ascending candidates, int32 [row]."""
    columns = tf.searchsorted(candidates, items, out_type=tf.int32)
    return tf.minimum(columns, tf.shape(candidates)[0] - 1)


def dot_softmax(users: tf.Tensor, candidates: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of softmax(users . candidates), the exponentials kept for the way back.

    The same as ``sparse_softmax_cross_entropy_with_logits`` of a product, at about two thirds of
    its time on a CPU: with E = exp(logits - max) and z its row sums, the gradients are
    ``E candidates / z - candidates[label]`` and ``(E / z)^T users - one_hot^T users``, so that the
    [row, candidate] matrix is written once and no gradient of that size is ever formed.

    Args:
        users: float32 [row, dim].
        candidates: float32 [candidate, dim].
        labels: int32 [row], column of each row's own candidate.

    Returns:
        float32 [row].
    """

    @tf.custom_gradient
    def run(u: tf.Tensor, v: tf.Tensor) -> tuple[tf.Tensor, object]:
        logits = tf.matmul(u, v, transpose_b=True)
        top = tf.reduce_max(logits, axis=1, keepdims=True)
        powers = tf.exp(logits - top)
        total = tf.reduce_sum(powers, axis=1, keepdims=True)
        own = tf.gather(v, labels)
        loss = tf.squeeze(tf.math.log(total) + top, 1) - tf.reduce_sum(u * own, axis=1)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            scale = upstream[:, tf.newaxis] / total
            up = upstream[:, tf.newaxis]
            to_u = tf.matmul(powers, v) * scale - own * up
            to_v = tf.matmul(powers, u * scale, transpose_a=True)
            to_v -= tf.math.unsorted_segment_sum(u * up, labels, tf.shape(v)[0])
            return to_u, to_v

        return loss, gradient

    return run(users, candidates)


def sampled_softmax(
    logits: tf.Tensor,
    items: tf.Tensor,
    candidates: tf.Tensor,
    log_q: tf.Tensor | None = None,
    blocked: tf.Tensor | None = None,
    hard_negatives: int = 0,
) -> tf.Tensor:
    """Cross-entropy of each row's item among the candidates.

    Args:
        logits: float32 [row, candidate].
        items: int64 [row], each among ``candidates``.
        candidates: int64 [candidate], ascending.
        log_q: float32 [candidate]; None where ``logits`` are corrected already, or shall not be.
        blocked: bool [row, candidate]; True where a candidate is known to be no negative of the
            row (e.g. the user bought it too). A row's own item is never blocked.
        hard_negatives: where above 0, only that many negatives of the highest logit count.

    Returns:
        float32 [row].
    """
    if log_q is not None:
        logits = logits - log_q[tf.newaxis, :]
    labels = own_columns(items, candidates)
    if blocked is not None:
        own = tf.equal(candidates[tf.newaxis, :], items[:, tf.newaxis])
        logits = tf.where(blocked & ~own, NEVER, logits)
    if hard_negatives:
        positive = tf.gather(logits, labels, batch_dims=1)[:, tf.newaxis]
        own = tf.one_hot(labels, tf.shape(logits)[1], on_value=True, off_value=False, dtype=tf.bool)
        count = tf.minimum(hard_negatives, tf.shape(logits)[1])
        hardest = tf.math.top_k(tf.where(own, NEVER, logits), count, sorted=False).values
        logits = tf.concat([positive, hardest], axis=1)
        labels = tf.zeros_like(labels)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
