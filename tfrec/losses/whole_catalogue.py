"""Logistic loss over a whole catalogue: what drawing negatives estimates, in one product."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from tfrec.losses.logistic import softplus


class WholeCatalogue(NamedTuple):
    """The loss of a block of users, and what each example weighs.

    Attributes:
        loss: float32 [], summed over users and items.
        weights: float32 [batch, item], examples that a pair stands for: its events where it was
            observed, else its expected number of draws.
        examples: float32 [batch], their sum a user.
    """

    loss: tf.Tensor
    weights: tf.Tensor
    examples: tf.Tensor

    def charged(self, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Sum over the examples of what its user [batch] and its item [item] cost, float32 []."""
        of_items = tf.tensordot(tf.reduce_sum(self.weights, axis=0), items, 1)
        return tf.tensordot(self.examples, users, 1) + of_items


def whole_catalogue_logistic(
    logits: tf.Tensor, counts: tf.Tensor, negatives: float
) -> WholeCatalogue:
    """The expectation of the logistic loss with uniformly drawn negatives (Rendle et al. 2020).

    A user with ``n`` events has ``negatives * n`` draws in an epoch, spread evenly over the items
    that it never had; each of those weighs that many, so nothing is drawn and no noise is left.

    Args:
        logits: float32 [batch, item], of all items of the catalogue.
        counts: float32 [batch, item], events of each pair; 0 where there is none.
        negatives: draws of each event that the loss is the expectation of.

    Returns:
        See ``WholeCatalogue``. A user that had all items has no negatives.
    """
    events = tf.reduce_sum(counts, axis=1)
    observed = tf.cast(counts > 0, tf.float32)
    unobserved = 1.0 - observed
    rest = tf.reduce_sum(unobserved, axis=1)
    draws = tf.math.divide_no_nan(negatives * events, rest)
    weights = counts + unobserved * draws[:, tf.newaxis]
    loss = tf.reduce_sum(weights * softplus(logits)) - tf.reduce_sum(counts * logits)
    return WholeCatalogue(loss, weights, tf.reduce_sum(weights, axis=1))
