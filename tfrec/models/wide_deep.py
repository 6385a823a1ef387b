"""Wide & deep: a sparse linear model and a network over embeddings, trained jointly.

Cheng et al. 2016, "Wide & Deep Learning for Recommender Systems" (arXiv:1606.07792): the logits of
both parts add up and one loss trains both at once, the wide part by FTRL with L1 (weights that earn
nothing are exactly zero), the deep part by AdaGrad.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.models.deep_part import DeepNetwork, Pooling
from tfrec.models.wide_part import Column, WideLinear
from tfrec.schema import HISTORY, ITEM_ID, Feature

Task = Literal["binary", "rating"]


class Encoded(Protocol):
    """What a ranker has to know of its data: ``RetrievalData`` and every encoder have it.

    Attributes:
        features: the features, in order.
        sizes: indices (padding and tail included) of each lookup feature.
    """

    @property
    def features(self) -> Iterable[Feature]: ...

    @property
    def sizes(self) -> Mapping[str, int]: ...


class WideDeep(tf.keras.Model):
    """Scores rows of encoded features.

    Gradients are those of the *summed* loss of the global batch (the loss shown is its mean): the
    accumulators of FTRL and AdaGrad and the strengths of L1 and L2 then mean the same at any batch
    size, and an id seen once a batch moves as far as it would alone.

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
        if task not in ("binary", "rating"):
            raise ValueError(f"task is 'binary' or 'rating'; got {task!r}; mend ranking.task")
        self.task = task
        self.history_length = history_length
        self.l2, self.embedding_l2 = l2, embedding_l2
        self.l1, self.wide_l2 = l1, wide_l2
        self.wide_learning_rate = wide_learning_rate
        self.deep_learning_rate = deep_learning_rate
        self.unknown_rate = unknown_rate
        self.rng_seed = seed
        features = _used(data, use)
        sizes = dict(data.sizes)
        self._ids = tuple(
            (f.name, sizes[f.name], f.oov_buckets) for f in features if f.kind == "id"
        )
        if history_length and all(f.name != ITEM_ID for f in features):
            raise ValueError(
                "the history is read through the items' embedding, but item_id is not used; "
                "set history_length to 0 or use item_id"
            )
        self.bias = self.add_weight(name="bias", shape=[], initializer="zeros")
        self.wide: WideLinear | None = None
        self.deep: DeepNetwork | None = None
        if self.use_wide:
            columns = _columns(features, sizes, history_length)
            self.wide = WideLinear(
                list(columns.values()), _crossed(crosses, columns), cross_buckets
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
        self.loss_metric = tf.keras.metrics.Mean(name="loss")
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

    def set_prior(self, mean: float) -> None:
        """Starts the bias where the score equals ``mean``, the mean label of training."""
        if self.task == "binary":
            clipped = np.clip(mean, 1e-4, 1 - 1e-4)
            mean = float(np.log(clipped / (1 - clipped)))
        self.bias.assign(mean)

    # -- training -----------------------------------------------------------------------------

    def compile(
        self, optimizer: Any = "adagrad", wide_optimizer: Any = None, **kwargs: Any
    ) -> None:
        """Takes the optimizer of the deep part and the bias, and that of the wide part.

        Both should be of ``tf.keras.optimizers.legacy``, whose updates of embeddings are sparse.
        """
        super().compile(optimizer=optimizer, **kwargs)
        self.wide_optimizer = wide_optimizer or self._ftrl()

    def compile_for(self, train: TrainConfig) -> None:
        """Compiles with FTRL for the wide part and AdaGrad for the rest."""
        rate = self.deep_learning_rate or train.learning_rate
        self.compile(optimizer=tf.keras.optimizers.legacy.Adagrad(rate))

    def _ftrl(self) -> tf.keras.optimizers.legacy.Ftrl:
        return tf.keras.optimizers.legacy.Ftrl(
            self.wide_learning_rate,
            l1_regularization_strength=self.l1,
            l2_regularization_strength=self.wide_l2,
        )

    def losses_of(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Log loss (``binary``) or squared error (``rating``) of each row, float32 [batch]."""
        labels = tf.cast(labels, tf.float32)
        if self.task == "binary":
            return tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
        return tf.square(logits - labels)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One joint step of both parts on ``(inputs, labels[, weights])``."""
        inputs, labels, weights = tf.keras.utils.unpack_x_y_sample_weight(data)
        rows = tf.cast(tf.shape(labels)[0], tf.float32)
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1:
            # Replicas may hold unequal shares of a batch; what counts is the whole of it.
            rows = tf.distribute.get_replica_context().all_reduce("sum", rows)
        if self.unknown_rate > 0:
            inputs = self._forget_ids(inputs)
        with tf.GradientTape() as tape:
            logits, squares = self.logits(inputs, training=True)
            losses = self.losses_of(logits, labels)
            if weights is not None:
                losses *= tf.cast(weights, tf.float32)
            total = tf.reduce_sum(losses)
            if self.embedding_l2 > 0:
                total += self.embedding_l2 / 2 * tf.reduce_sum(squares)
            if self.l2 > 0 and self.deep is not None:
                decay = tf.add_n([tf.reduce_sum(tf.square(k)) for k in self.deep.kernels])
                total += self.l2 / 2 * decay * rows / replicas
        wide = [] if self.wide is None else [self.wide.weight]
        rest = [self.bias, *([] if self.deep is None else self.deep.trainable_variables)]
        gradients = tape.gradient(total, [*rest, *wide])
        self.optimizer.apply_gradients(zip(gradients, rest, strict=False))
        if wide:
            self.wide_optimizer.apply_gradients(zip(gradients[len(rest) :], wide, strict=True))
        self.loss_metric.update_state(losses)
        return {"loss": self.loss_metric.result()}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The mean loss on held-out rows."""
        inputs, labels, weights = tf.keras.utils.unpack_x_y_sample_weight(data)
        losses = self.losses_of(self.logits(inputs)[0], labels)
        self.loss_metric.update_state(losses, sample_weight=weights)
        return {"loss": self.loss_metric.result()}

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        return [self.loss_metric]

    def _forget_ids(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Replaces a share ``unknown_rate`` of each id by one of the tail."""
        changed = dict(inputs)
        for name, size, tail in self._ids:
            index = inputs[name]
            unknown = tf.random.uniform(tf.shape(index), size - tail, size, index.dtype)
            forget = tf.random.uniform(tf.shape(index)) < self.unknown_rate
            changed[name] = tf.where(forget, unknown, index)
        return changed


class Wide(WideDeep):
    """The wide part alone: logistic (or linear) regression on sparse features and crosses."""

    use_deep = False


class Deep(WideDeep):
    """The deep part alone."""

    use_wide = False


def _used(data: Encoded, use: Sequence[str] | None) -> list[Feature]:
    """The features to read; ids and categories without a vocabulary hold nothing to learn."""
    known = [f.name for f in data.features]
    missing = sorted(set(use or ()) - set(known))
    if missing:
        raise ValueError(f"'use' names {missing}, which are no features; there are {known}")
    return [
        f
        for f in data.features
        if (use is None or f.name in use)
        and (not f.is_lookup or data.sizes[f.name] > 1 + f.oov_buckets)
    ]


def _columns(
    features: Sequence[Feature], sizes: Mapping[str, int], history_length: int
) -> dict[str, Column]:
    """Feature name -> its column of the wide part; vectors have none."""
    columns = {}
    for f in features:
        if f.is_lookup:
            columns[f.name] = Column(f.name, sizes[f.name], f.is_sequence)
        elif f.kind == "numeric":
            columns[f.name] = Column(f"{f.name}_bucket", f.buckets + 1, False)
    if history_length:
        columns[HISTORY] = Column(HISTORY, sizes[ITEM_ID], True)
    return columns


def _crossed(
    crosses: Sequence[Sequence[str]], columns: Mapping[str, Column]
) -> list[tuple[Column, ...]]:
    for cross in crosses:
        unknown = [name for name in cross if name not in columns]
        if unknown:
            raise ValueError(
                f"a cross is made of features with indices or buckets, which {unknown} of "
                f"{list(cross)} are not (or are not used); there are {sorted(columns)}"
            )
    return [tuple(columns[name] for name in cross) for cross in crosses]
