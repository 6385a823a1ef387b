"""What jointly trained rankers share: features, two optimizers, one step on the summed loss.

Cheng et al. 2016 (arXiv:1606.07792), section 3.3: one loss trains a wide part by FTRL with L1
(weights that earn nothing are exactly zero) and everything else by AdaGrad.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import tensorflow as tf

from tfrec.config import TrainConfig
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


class LastLayerInputs(NamedTuple):
    """What a posterior over the last layer's weights is made of; ``score = given f(logit)``.

    Attributes:
        logit: float32 [batch], of the score; the score itself for task ``rating``.
        hidden: float32 [batch, units], what the last layer reads.
        given: float32 [batch], the chance that the score's probability is a factor of; 1 where
            there is none.
    """

    logit: tf.Tensor
    hidden: tf.Tensor
    given: tf.Tensor


class JointRanker(tf.keras.Model):
    """A ranker whose parts are trained by one loss.

    Gradients are those of the *summed* loss of the global batch (the loss shown is its mean): the
    accumulators of FTRL and AdaGrad and the strengths of L1 and L2 then mean the same at any batch
    size, and an id seen once a batch moves as far as it would alone.

    A subclass calls ``_configure``, sets ``wide`` (or None), ``deep`` (a layer with ``kernels``, or
    None) and ``bias``, and has ``logits`` and ``losses_of``.
    """

    task: Task
    history_length: int
    wide: WideLinear | None
    deep: Any
    bias: tf.Variable

    def _configure(
        self,
        data: Encoded,
        *,
        task: Task,
        use: Sequence[str] | None,
        history_length: int,
        l2: float,
        embedding_l2: float,
        l1: float,
        wide_l2: float,
        wide_learning_rate: float,
        deep_learning_rate: float | None,
        unknown_rate: float,
        seed: int,
    ) -> tuple[list[Feature], dict[str, int]]:
        """Keeps what all rankers need; see ``WideDeep`` for the arguments.

        Returns:
            The features used, and the sizes of the lookup features.

        Raises:
            ValueError: ``use`` names no feature; history without an item id; an unknown task.
        """
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
        features = used_features(data, use)
        sizes = dict(data.sizes)
        self._ids = tuple(
            (f.name, sizes[f.name], f.oov_buckets) for f in features if f.kind == "id"
        )
        if history_length and all(f.name != ITEM_ID for f in features):
            raise ValueError(
                "the history is read through the items' embedding, but item_id is not used; "
                "set history_length to 0 or use item_id"
            )
        self.loss_metric = tf.keras.metrics.Mean(name="loss")
        return features, sizes

    def logits(
        self, inputs: Mapping[str, tf.Tensor], training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What ``losses_of`` reads, and the squares of the vectors behind it, float32 [batch]."""
        raise NotImplementedError

    def losses_of(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The loss of each row, float32 [batch]."""
        raise NotImplementedError

    def last_layer_inputs(self, inputs: Mapping[str, tf.Tensor]) -> LastLayerInputs:
        """What the last layer reads, of encoded features.

        Raises:
            TypeError: the model has no hidden layer.
        """
        raise TypeError(
            f"{type(self).__name__} has no hidden layer; take wide_deep, deep or multi_task"
        )

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

    def _others(self) -> list[tf.Variable]:
        """All trained variables but the wide part's."""
        return [self.bias, *([] if self.deep is None else self.deep.trainable_variables)]

    @tf.autograph.experimental.do_not_convert
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
        rest = self._others()
        gradients = tape.gradient(total, [*rest, *wide])
        self.optimizer.apply_gradients(zip(gradients, rest, strict=False))
        if wide:
            self.wide_optimizer.apply_gradients(zip(gradients[len(rest) :], wide, strict=True))
        self.loss_metric.update_state(losses)
        return {"loss": self.loss_metric.result()}

    @tf.autograph.experimental.do_not_convert
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


def used_features(data: Encoded, use: Sequence[str] | None) -> list[Feature]:
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


def wide_columns(
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


def crossed_columns(
    crosses: Sequence[Sequence[str]], columns: Mapping[str, Column]
) -> list[tuple[Column, ...]]:
    """The columns of each cross.

    Raises:
        ValueError: a member has no column.
    """
    for cross in crosses:
        unknown = [name for name in cross if name not in columns]
        if unknown:
            raise ValueError(
                f"a cross is made of features with indices or buckets, which {unknown} of "
                f"{list(cross)} are not (or are not used); there are {sorted(columns)}"
            )
    return [tuple(columns[name] for name in cross) for cross in crosses]
