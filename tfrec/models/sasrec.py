"""Sequential models: what comes next after a user's ordered history (SASRec, GRU4Rec).

The state of a causal encoder at each event predicts the next one: score = state . item vector, un-
normalised, with the vectors the encoder reads (tied). SASRec is Kang & McAuley 2018
(arXiv:1808.09781), its losses with many negatives gSASRec's (Petrov & Macdonald 2023,
arXiv:2308.07192) and the softmax of Klenitskiy & Vasilev 2023 (arXiv:2309.07602); the GRU is
Hidasi et al. 2016 (arXiv:1511.06939).
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.data.sequences import TARGET, TARGET_WEIGHT, sequence_dataset
from tfrec.features.encode import recent
from tfrec.losses.next_item import LOSSES, binary_losses, gbce_beta
from tfrec.losses.optimizers import LazyAdam
from tfrec.losses.replicas import global_sum
from tfrec.losses.sampled_softmax import batch_candidates, inclusion_log_q, sampled_softmax
from tfrec.models.base import Recommender, Users
from tfrec.models.history import HistoryEncoder, last_state
from tfrec.schema import HISTORY

TABLE_STDDEV = 0.02


class Sequential(Recommender):
    """Base of the two; see the module's docstring.

    Args:
        data: sizes and training counts.
        encoder: ``attention`` or ``gru``, see ``tfrec.models.history``.
        dim: width of item vectors and states.
        history_length: H, most recent items read.
        layers, heads: of the encoder.
        dropout: on its inputs and inside.
        loss: ``softmax`` over the whole catalogue; ``sampled_softmax`` over the distinct targets
            of the global batch and ``negatives`` uniform items, with logQ correction; ``gbce`` or
            ``bce`` against ``negatives`` uniform items drawn for each window.
        negatives: see ``loss``.
        calibration: t of ``gbce``, in 0..1.

    Raises:
        ValueError: an unknown loss or encoder, or a number out of its range.
    """

    def __init__(
        self,
        data: RetrievalData,
        encoder: str,
        dim: int,
        history_length: int,
        layers: int,
        heads: int,
        dropout: float,
        loss: str,
        negatives: int,
        calibration: float,
    ) -> None:
        super().__init__(data)
        if loss not in LOSSES:
            raise ValueError(f"loss is one of {LOSSES}; got {loss!r}; mend 'params'")
        if min(dim, history_length, layers, heads, negatives) < 1:
            raise ValueError(
                f"dim, history_length, layers, heads and negatives are from 1; got {dim}, "
                f"{history_length}, {layers}, {heads} and {negatives}; mend 'params'"
            )
        self.dim, self.history_length = dim, history_length
        self.loss_name, self.negatives = loss, negatives
        self._beta = gbce_beta(negatives, data.n_items, calibration if loss == "gbce" else 0.0)
        self.items = self.add_weight(
            name="items",
            shape=(data.n_items + 1, dim),
            initializer=tf.keras.initializers.RandomNormal(stddev=TABLE_STDDEV),
        )
        self._encoder = HistoryEncoder(
            encoder, history_length, layers, heads, dropout, name="history"
        )
        share = data.train.item_counts() / max(len(data.train), 1)
        # One item alone would have a share of 1; the bound keeps its logarithm finite.
        log_miss = tf.math.log1p(-tf.minimum(tf.constant(share, tf.float64), 1 - 1e-9))
        self._log_miss = tf.Variable(
            tf.cast(log_miss, tf.float32), trainable=False, name="log_miss"
        )
        self._loss = tf.keras.metrics.Mean("loss")
        self._seed = 0
        # Bytes of the encoder's activations: vectors, heads and their attention, a layer at a time.
        self.bytes_per_user = 4 * (history_length + 1) * (12 * dim + heads * (history_length + 1))
        # All variables exist before the first step, so that its trace is the only one.
        self.fold_in(tf.zeros([1, history_length], tf.int64))

    # -- states and answers -------------------------------------------------------------------

    def _states(self, history: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """States [batch, H + 1, dim] and which events are there [batch, H]."""
        present = (history > 0) & (history <= self.n_items)
        vectors = tf.gather(self.items, tf.where(present, history, 0)) * self.dim**0.5
        return self._encoder(vectors, present, training=training), present

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        """The state behind the history: exact, as the model knows users by nothing else."""
        history = tf.cast(history, tf.int64)
        known = tf.where(history <= self.n_items, history, 0)
        return last_state(*self._states(recent(known, self.history_length), training=False))

    def user_embedding(self, users: Users) -> tf.Tensor:
        return self.fold_in(users[HISTORY])

    def item_embedding(self, items: tf.Tensor | None = None) -> tf.Tensor:
        if items is None:
            return self.items[1:]
        return tf.gather(self.items, tf.where(items <= self.n_items, items, 0))

    def score_catalogue(self, users: Users) -> tf.Tensor:
        return tf.matmul(self.user_embedding(users), self.items[1:], transpose_b=True)

    def score(self, users: Users, items: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(self.user_embedding(users) * tf.gather(self.items, items), axis=1)

    def call(self, users: Users, training: bool = False) -> tf.Tensor:
        return self.user_embedding(users)

    # -- training -----------------------------------------------------------------------------

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        """Windows over the histories; ``batch_size`` counts windows."""
        return sequence_dataset(data, self.history_length, train.batch_size, train.seed)

    def compile_for(self, train: TrainConfig) -> None:
        self._seed = train.seed
        optimizer = LazyAdam(train.learning_rate, beta_2=0.98)
        optimizer._create_all_weights(self.trainable_variables)
        self.compile(optimizer=optimizer)

    def _step_seed(self, each_replica: bool = False) -> tf.Tensor:
        """int64 [2], of this step; the same on all replicas unless ``each_replica``."""
        seed = tf.cast(self._seed, tf.int64)
        replica = tf.distribute.get_replica_context()
        if each_replica and replica is not None:
            seed += 2**32 * tf.cast(replica.replica_id_in_sync_group, tf.int64)
        return tf.stack([seed, tf.cast(self.optimizer.iterations, tf.int64)])

    def _softmax(self, states: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of targets int64 [row] under states [row, dim] over the catalogue."""
        logits = tf.matmul(states, self.items[1:], transpose_b=True)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target - 1, logits=logits)

    def _sampled(
        self, states: tf.Tensor, wanted: tf.Tensor, target: tf.Tensor, everyone: tf.Tensor
    ) -> tf.Tensor:
        """As ``_softmax`` over sampled candidates; ``target`` [window, position]: all targets."""
        # Replicas gather equal shapes: all positions, 0 where there is no target.
        positions = tf.reshape(target, [-1])
        candidates = batch_candidates(positions, self.negatives, self.n_items, self._step_seed())
        log_q = inclusion_log_q(self._log_miss, candidates, everyone, self.negatives, self.n_items)
        logits = tf.matmul(states, tf.gather(self.items, candidates), transpose_b=True)
        return sampled_softmax(logits, wanted, candidates, log_q)

    def _binary(self, states: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Losses [window, position]; negatives are drawn by the window's place in the batch."""
        seed = self._step_seed(each_replica=True)
        drawn = tf.random.stateless_uniform(
            [tf.shape(target)[0], self.negatives], seed, 1, self.n_items + 1, tf.int64
        )
        vectors = tf.gather(self.items, tf.concat([target, drawn], axis=1))
        positions = tf.shape(target)[1]
        positive = tf.reduce_sum(states * vectors[:, :positions], axis=-1)
        negative = tf.matmul(states, vectors[:, positions:], transpose_b=True)
        return binary_losses(positive, negative, target, drawn, self._beta)

    def batch_loss(self, batch: Mapping[str, tf.Tensor], training: bool) -> tuple[tf.Tensor, ...]:
        """Summed loss of this replica's part of a batch, its targets and those of all replicas."""
        weight = batch[TARGET_WEIGHT]
        target = batch[TARGET] * tf.cast(weight > 0, tf.int64)
        mine = tf.reduce_sum(weight)
        everyone = tf.maximum(global_sum(mine), 1.0)
        states, _ = self._states(batch[HISTORY], training)
        if self.loss_name in ("gbce", "bce"):
            losses = self._binary(states, target) * weight
            return tf.reduce_sum(losses), mine, everyone
        # Only positions that have a target cost a row of logits.
        rows = tf.where(weight > 0)
        states, wanted = tf.gather_nd(states, rows), tf.gather_nd(target, rows)
        if self.loss_name == "softmax":
            return tf.reduce_sum(self._softmax(states, wanted)), mine, everyone
        return tf.reduce_sum(self._sampled(states, wanted, target, everyone)), mine, everyone

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            total, mine, everyone = self.batch_loss(batch, training=True)
            share = total / everyone
        variables = self.trainable_variables
        # Replicas' gradients are summed by the optimizer; each holds its share of the global mean.
        self.optimizer.apply_gradients(zip(tape.gradient(share, variables), variables, strict=True))
        self._loss.update_state(total / tf.maximum(mine, 1.0), sample_weight=mine)
        return {"loss": self._loss.result()}

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        return [self._loss]


class SASRec(Sequential):
    """Self-attention over the history.

    Args:
        data, dim, history_length, layers, heads, dropout, loss, negatives, calibration: see
            ``Sequential``.
    """

    def __init__(
        self,
        data: RetrievalData,
        dim: int = 64,
        history_length: int = 100,
        layers: int = 1,
        heads: int = 2,
        dropout: float = 0.2,
        loss: str = "softmax",
        negatives: int = 256,
        calibration: float = 0.75,
    ) -> None:
        super().__init__(
            data,
            "attention",
            dim,
            history_length,
            layers,
            heads,
            dropout,
            loss,
            negatives,
            calibration,
        )


class GRU4Rec(Sequential):
    """Gated recurrent units over the history; the same arguments, less ``heads``."""

    def __init__(
        self,
        data: RetrievalData,
        dim: int = 64,
        history_length: int = 50,
        layers: int = 1,
        dropout: float = 0.2,
        loss: str = "softmax",
        negatives: int = 256,
        calibration: float = 0.75,
    ) -> None:
        super().__init__(
            data, "gru", dim, history_length, layers, 1, dropout, loss, negatives, calibration
        )
