"""Wide & deep: a sparse linear model and a network over embeddings, trained jointly.

Cheng et al. 2016, "Wide & Deep Learning for Recommender Systems" (arXiv:1606.07792): the logits of
both parts add up and one loss trains both at once, the wide part by FTRL with L1 (weights that earn
nothing are exactly zero), the deep part by AdaGrad.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import tensorflow as tf

from tfrec.models.deep_part import DeepNetwork, Pooling
from tfrec.models.joint import (
    Encoded,
    JointRanker,
    LastLayerInputs,
    Task,
    crossed_columns,
    wide_columns,
)
from tfrec.models.wide_part import WideLinear


class WideDeep(JointRanker):
    """Scores rows of encoded features; how it is trained: see ``JointRanker``.

    Args:
        data: features and sizes. Lookup features whose vocabulary is empty are left out.
        task: ``binary`` (a probability) or ``rating`` (a number).
        crosses: groups of 2 to 4 feature names for the wide part; ``history`` may be one of them,
            as the paper's "installed app x shown app".
        use: names of the features to use; None uses all.
        history_length: H of the input ``history``; 0 reads none.
        hidden: widths of the ReLU layers.
        embedding_dim: one width for all embeddings; None takes each feature's ``dim``.
        embedding_stddev: of the embeddings' first values; lower it where many ids at serving time
            were never met in training.
        history_pooling: ``mean`` or ``attention`` of the scored item to the history.
        dots: gives the network the inner products item . user and item . history.
        dropout: share of hidden units dropped in training.
        l2: weight decay of the hidden kernels: adds ``l2 / 2 * |kernel|^2`` to the mean loss.
        embedding_l2: the same for the vectors that a row looks up.
        cross_buckets: most indices of one cross; a smaller cross has an index a combination.
        l1, wide_l2: FTRL's strengths, in units of summed gradient: a weight stays zero until
            the gradients of its examples add up to more than ``l1``.
        wide_learning_rate: of FTRL.
        deep_learning_rate: of AdaGrad; None takes ``train.learning_rate``.
        unknown_rate: share of ids that training replaces by an unknown one, so that the score of
            a new user or item has been learned.
        seed: of initialisation, dropout and ``unknown_rate``.

    Raises:
        ValueError: a cross or ``use`` names no feature; history without an item id.
    """

    use_wide: ClassVar[bool] = True
    use_deep: ClassVar[bool] = True

    def __init__(
        self,
        data: Encoded,
        *,
        task: Task = "binary",
        crosses: Sequence[Sequence[str]] = (),
        use: Sequence[str] | None = None,
        history_length: int = 0,
        hidden: Sequence[int] = (1024, 512, 256),
        embedding_dim: int | None = None,
        embedding_stddev: float = 0.1,
        history_pooling: Pooling = "mean",
        dots: bool = False,
        dropout: float = 0.0,
        l2: float = 0.0,
        embedding_l2: float = 0.0,
        cross_buckets: int = 100_000,
        l1: float = 1.0,
        wide_l2: float = 0.0,
        wide_learning_rate: float = 0.1,
        deep_learning_rate: float | None = None,
        unknown_rate: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(name=type(self).__name__.lower())
        features, sizes = self._configure(
            data,
            task=task,
            use=use,
            history_length=history_length,
            l2=l2,
            embedding_l2=embedding_l2,
            l1=l1,
            wide_l2=wide_l2,
            wide_learning_rate=wide_learning_rate,
            deep_learning_rate=deep_learning_rate,
            unknown_rate=unknown_rate,
            seed=seed,
        )
        self.bias = self.add_weight(name="bias", shape=[], initializer="zeros")
        self.wide = None
        self.deep = None
        if self.use_wide:
            columns = wide_columns(features, sizes, history_length)
            self.wide = WideLinear(
                list(columns.values()), crossed_columns(crosses, columns), cross_buckets
            )
        if self.use_deep:
            self.deep = DeepNetwork(
                features,
                sizes,
                history_length,
                history_pooling,
                dots,
                embedding_dim,
                embedding_stddev,
                hidden,
                dropout,
                seed,
            )
        self.built = True

    # -- scoring ------------------------------------------------------------------------------

    def logits(
        self, inputs: Mapping[str, tf.Tensor], training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum of both parts and the squares of the vectors behind it, float32 [batch] each."""
        total, squares = self.bias, tf.zeros([])
        if self.wide is not None:
            total = total + self.wide(inputs)
        if self.deep is not None:
            deep, squares = self.deep(inputs, training=training)
            total = total + deep
        return total, squares

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Scores float32 [batch]: probabilities, or ratings for task ``rating``.

        Args:
            inputs: encoded features by name; see docs/architecture.md.
            training: whether dropout applies.
        """
        total, _ = self.logits(inputs, training)
        return tf.sigmoid(total) if self.task == "binary" else total

    def last_layer_inputs(self, inputs: Mapping[str, tf.Tensor]) -> LastLayerInputs:
        """See ``JointRanker``."""
        if self.deep is None:
            return super().last_layer_inputs(inputs)
        hidden, _ = self.deep.last_hidden(inputs)
        logit, _ = self.logits(inputs)
        return LastLayerInputs(logit, hidden, tf.ones_like(logit))

    def set_prior(self, mean: float) -> None:
        """Starts the bias where the score equals ``mean``, the mean label of training."""
        if self.task == "binary":
            clipped = np.clip(mean, 1e-4, 1 - 1e-4)
            mean = float(np.log(clipped / (1 - clipped)))
        self.bias.assign(mean)

    def losses_of(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Log loss (``binary``) or squared error (``rating``) of each row, float32 [batch]."""
        labels = tf.cast(labels, tf.float32)
        if self.task == "binary":
            return tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
        return tf.square(logits - labels)


class Wide(WideDeep):
    """The wide part alone: logistic (or linear) regression on sparse features and crosses."""

    use_deep = False


class Deep(WideDeep):
    """The deep part alone."""

    use_wide = False
