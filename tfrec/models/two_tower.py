"""Two-tower retrieval: a user tower over id, attributes, context and ordered history; an item tower
over id, attributes and text; their vectors' cosine, divided by a temperature, is the score.

Trained by a softmax over the distinct items of the global batch with the logQ correction
(``tfrec.losses.sampled_softmax``); every event of a window is a training example, because the
history encoder is causal.

It is a TensorFlow Recommenders model: ``compute_loss`` is that library's contract, and its index
layers and metrics work on ``user_embedding`` and ``item_embedding``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tensorflow_recommenders as tfrs

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.data.sequences import TARGET, TARGET_WEIGHT, sequence_dataset
from tfrec.features.embed import FeatureEmbedding
from tfrec.features.encode import recent
from tfrec.losses.optimizers import LazyAdam
from tfrec.losses.replicas import global_sum, replica_count, replica_number
from tfrec.losses.sampled_softmax import (
    batch_candidates,
    dot_softmax,
    inclusion_log_q,
    own_columns,
    sampled_softmax,
    with_correction,
)
from tfrec.models.base import Recommender, Users
from tfrec.models.history import HistoryEncoder, last_state
from tfrec.models.item_tower import ItemTower, Residual, missing
from tfrec.models.own_text import asked_texts, own_queries
from tfrec.schema import HISTORY

REFRESH_BLOCK = 8192  # items embedded at a time when the index is brought up to date


class TwoTower(Recommender, tfrs.Model):
    """The retrieval model; see the module's docstring.

    Args:
        data: sizes, vocabularies, catalogue and training counts are taken from it.
        dim: width of both towers' vectors.
        history_length: H, most recent items the user tower reads.
        history_encoder: ``attention``, ``gru``, ``mean`` or ``none``.
        layers, heads: of ``attention`` (``layers`` also of ``gru``).
        dropout: in the history encoder and the hidden layers.
        id_dropout: share of rows whose user or item id is hidden in training; of items only where
            they have features to answer in its place.
        min_id_events: where items have features, an item's id counts from so many training events
            on. Fewer say little of the item but that it is rare, and a new item is rare because it
            is new: its features alone place it, until it has sold.
        context_dropout: share of training events whose context (the query) is hidden, so that the
            model answers well with it and without it.
        token_dropout: share of the tokens of each text, query or item, left out in training.
        own_queries: items drawn evenly each step that are asked by a part of their own text, beside
            the events (``tfrec.models.own_text``); they are negatives of all others too.
        own_weight: weight of their mean loss beside that of the events.
        user_hidden, item_hidden: widths of residual hidden layers of each tower.
        temperature: divides the cosine.
        logq: whether the logQ correction is on.
        uniform_negatives: items drawn uniformly beside the batch's own, each step.
        hard_negatives: where above 0, only the hardest so many negatives of each row count.
        use_user_id: whether the user tower has a table of user ids.
        use_item_id: whether the item tower has one of item ids; without it items are known by
            their features alone, as where nearly all of a catalogue is new (search).
    """

    def __init__(
        self,
        data: RetrievalData,
        dim: int = 64,
        history_length: int = 100,
        history_encoder: str = "attention",
        layers: int = 1,
        heads: int = 2,
        dropout: float = 0.2,
        id_dropout: float = 0.0,
        min_id_events: int = 1,
        context_dropout: float = 0.0,
        token_dropout: float = 0.0,
        own_queries: int = 0,
        own_weight: float = 1.0,
        user_hidden: Sequence[int] = (),
        item_hidden: Sequence[int] = (),
        temperature: float = 0.07,
        logq: bool = True,
        uniform_negatives: int = 0,
        hard_negatives: int = 0,
        use_user_id: bool = True,
        use_item_id: bool = True,
    ) -> None:
        super().__init__(data, name="two_tower")
        if temperature <= 0:
            raise ValueError(f"temperature is above 0; got {temperature}")
        if min_id_events < 1:
            raise ValueError(f"min_id_events is from 1; got {min_id_events}")
        if not 0 <= context_dropout < 1:
            raise ValueError(f"context_dropout is a share below 1; got {context_dropout}")
        if not 0 <= token_dropout < 1:
            raise ValueError(f"token_dropout is a share below 1; got {token_dropout}")
        if own_queries < 0 or own_weight <= 0:
            raise ValueError(
                f"own_queries is from 0 and own_weight above 0; got {own_queries}, {own_weight}"
            )
        self._asked = asked_texts(data.features)
        if own_queries and not self._asked:
            raise ValueError(
                "own_queries ask an item by its text; give a context feature of kind 'text' that "
                "shares one of the items', as {name: query, role: context, kind: text, "
                "shares: title}"
            )
        if not use_item_id and not data.features.of("item", ids=False):
            raise ValueError("without use_item_id items need a feature; list one with role 'item'")
        self.context_dropout = context_dropout
        self.dim = dim
        self.history_length = history_length if history_encoder != "none" else 0
        self.id_dropout = id_dropout
        self.temperature = temperature
        self.logq, self.uniform_negatives = logq, uniform_negatives
        self.hard_negatives = hard_negatives
        self.own_queries, self.own_weight = own_queries, own_weight
        features = data.features
        user_features = features.of("user", ids=use_user_id)
        self.content = len(features.of("item", ids=False)) > 0
        self.item_tower = ItemTower(
            features.of("item", ids=use_item_id),
            data.sizes,
            data.items,
            dim,
            item_hidden,
            dropout,
            # Without features a hidden id would be no vector at all: noise in every step.
            id_dropout if self.content else 0.0,
            data.train.item_counts() >= (min_id_events if self.content else 1),
            token_dropout,
        )
        self._history = HistoryEncoder(
            history_encoder,
            history_length,
            layers,
            heads,
            dropout,
            unit=any(f.kind == "text" for f in features.of("context")),
            name="history",
        )
        self._user = (
            FeatureEmbedding(
                user_features,
                data.sizes,
                dim,
                id_dropout,
                data.train.user_counts() > 0,
                shared=self.item_tower.embed,
                token_dropout=token_dropout,
                name="user_features",
            )
            if user_features
            else None
        )
        context = features.of("context")
        self._context = (
            FeatureEmbedding(
                context,
                data.sizes,
                dim,
                shared=self.item_tower.embed,
                token_dropout=token_dropout,
                name="context_features",
            )
            if context
            else None
        )
        self._hidden = Residual(user_hidden, dropout, name="user_hidden")
        self._log_miss = tf.Variable(_log_miss(data), trainable=False, name="log_miss")
        self.index = tf.Variable(
            tf.zeros([data.n_items, dim]), trainable=False, name="index", shape=[None, dim]
        )
        self._loss = tf.keras.metrics.Mean("loss")
        self._seed = 0
        # All variables exist before the first step, so that its trace is the only one.
        self.fold_in(tf.zeros([1, max(history_length, 1)], tf.int64))
        self.item_tower(tf.zeros([1], tf.int64), training=True)

    # -- towers -------------------------------------------------------------------------------

    def _history_states(self, history: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        present = history > 0
        distinct, back = tf.unique(tf.reshape(history, [-1]))
        vectors = tf.gather(self.item_tower.represent(distinct, training), back)
        shape = tf.concat([tf.shape(history), [self.dim]], axis=0)
        return self._history(tf.reshape(vectors, shape), present, training=training), present

    def _user_vectors(
        self, states: tf.Tensor, users: Users, training: bool, hide_context: float = 0.0
    ) -> tf.Tensor:
        """Unit vectors from states [batch, H + 1, dim] (or [batch, dim] at serving).

        What the user is, what they had and what they ask now add up: without a query the sum is
        that of a plain recommendation, without a known user that of a plain search.

        A feature that ``users`` lacks counts as missing for every row; ``hide_context`` is the
        share of rows that are asked nothing.
        """
        batch = tf.shape(states)[0]
        for layer in (self._user, self._context):
            for feature in layer.features if layer is not None else ():
                if feature.name not in users:
                    users = {**users, **missing(feature, batch)}
        if self._user is not None:
            attributes = self._user(users, training=training)
            states += attributes if states.shape.rank == 2 else attributes[:, tf.newaxis]
        if self._context is not None:
            asked = self._context(users, training=training)
            if hide_context:
                # Nothing asked is the zero vector: no encoder of a context feature has a bias.
                keep = tf.random.uniform(tf.shape(states)[:-1]) >= hide_context
                asked *= tf.cast(keep, tf.float32)[..., tf.newaxis]
            states += asked
        return tf.math.l2_normalize(self._hidden(states, training=training), axis=-1)

    def user_embedding(self, users: Users) -> tf.Tensor:
        history = recent(tf.cast(users[HISTORY], tf.int64), self.history_length)
        states, present = self._history_states(history, training=False)
        return self._user_vectors(last_state(states, present), users, training=False)

    def item_embedding(self, items: tf.Tensor | None = None) -> tf.Tensor:
        if items is None:
            return tf.identity(self.index)  # of known length, which the variable's shape hides
        return self.item_tower(tf.cast(items, tf.int64))

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        return self.user_embedding({HISTORY: history})

    # -- what is new --------------------------------------------------------------------------

    def vocabulary_tables(self) -> dict[str, list[tf.Variable]]:
        tables: dict[str, list[tf.Variable]] = {}
        for side in (self.item_tower.embed, self._user, self._context):
            if side is not None:
                tables.update(side.vocabulary_tables())
        return tables

    def growing(self) -> dict[str, tf.Variable]:
        return {**self.item_tower.catalogue, "index": self.index}

    def item_rows(self, items: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        rows = self.item_tower.catalogue_rows(items)
        return {**rows, "index": self.embed_described(items)}

    def embed_described(self, items: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return self.item_tower.described(items)

    def score_described(self, users: Users, items: Mapping[str, tf.Tensor]) -> tf.Tensor:
        cosine = tf.reduce_sum(self.user_embedding(users) * self.embed_described(items), axis=-1)
        return cosine / self.temperature

    # -- the contract -------------------------------------------------------------------------

    def score_catalogue(self, users: Users) -> tf.Tensor:
        return (
            tf.matmul(self.user_embedding(users), self.index, transpose_b=True) / self.temperature
        )

    def score(self, users: Users, items: tf.Tensor) -> tf.Tensor:
        cosine = tf.reduce_sum(self.user_embedding(users) * self.item_embedding(items), axis=-1)
        return cosine / self.temperature

    def refresh(self) -> None:
        """Embeds the whole catalogue anew into ``index``."""
        self.item_tower.pool_images()
        blocks = [
            self.item_tower(
                tf.range(start, min(start + REFRESH_BLOCK, self.n_items + 1), dtype=tf.int64)
            )
            for start in range(1, self.n_items + 1, REFRESH_BLOCK)
        ]
        self.index.assign(tf.concat(blocks, axis=0))

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        return sequence_dataset(data, self._history.length, train.batch_size, train.seed)

    def compile_for(self, train: TrainConfig) -> None:
        self._seed = train.seed
        optimizer = LazyAdam(train.learning_rate, epsilon=1e-7)
        optimizer._create_all_weights(self.trainable_variables)
        self.compile(optimizer=optimizer)

    def call(self, users: Users, training: bool = False) -> tf.Tensor:
        return self.user_embedding(users)

    # -- training -----------------------------------------------------------------------------

    def batch_loss(
        self, batch: Mapping[str, tf.Tensor], training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss of one (replica's part of a) batch.

        Returns:
            This replica's share of the global mean loss, and its own mean, both float32 [].
        """
        weight = tf.reshape(batch[TARGET_WEIGHT], [-1])
        target = tf.reshape(batch[TARGET], [-1]) * tf.cast(weight > 0, tf.int64)
        mine = tf.reduce_sum(weight)
        everyone = tf.maximum(global_sum(mine), 1.0)
        seed = tf.stack(
            [tf.cast(self._seed, tf.int64), tf.cast(self.optimizer.iterations, tf.int64)]
        )
        rows = tf.where(weight > 0)[:, 0]
        items, weight = tf.gather(target, rows), tf.gather(weight, rows)
        states, _ = self._history_states(batch[HISTORY], training)
        hidden = self.context_dropout if training else 0.0
        users = self._user_vectors(states, batch, training, hidden)
        users = tf.gather(tf.reshape(users, [-1, self.dim]), rows)
        if self.own_queries:
            own, askers, known = self._asked_by_text(seed, training)
            share = known / tf.maximum(global_sum(tf.reduce_sum(known)), 1.0)
            weight = tf.concat([weight, self.own_weight * everyone * share], axis=0)
            items, users = tf.concat([items, own], axis=0), tf.concat([users, askers], axis=0)
            target = tf.concat([target, own], axis=0)
        candidates = batch_candidates(target, self.uniform_negatives, self.n_items, seed)
        vectors = self.item_tower(candidates, training=training)
        log_q = None
        if self.logq:
            drawn = self.uniform_negatives + self.own_queries * replica_count()
            log_q = inclusion_log_q(self._log_miss, candidates, everyone, drawn, self.n_items)
        users, vectors = with_correction(users, vectors, self.temperature, log_q)
        if self.hard_negatives:
            logits = tf.matmul(users, vectors, transpose_b=True)
            losses = sampled_softmax(logits, items, candidates, hard_negatives=self.hard_negatives)
        else:
            losses = dot_softmax(users, vectors, own_columns(items, candidates))
        total = tf.reduce_sum(losses * weight)
        return total / everyone, total / tf.maximum(mine, 1.0)

    def _asked_by_text(
        self, seed: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Items drawn for this replica, and what nobody in particular asks to find them.

        Returns:
            items int64 [own], user vectors float32 [own, dim], and float32 [own], 0 where the item
            has no text to be asked by.
        """
        mine = tf.random.experimental.stateless_fold_in(seed, 1 + replica_number())
        own = tf.random.stateless_uniform([self.own_queries], mine, 1, self.n_items + 1, tf.int64)
        queries = own_queries(self._asked, self.item_tower.catalogue, own)
        known = tf.reduce_any([tf.reduce_any(q > 0, axis=1) for q in queries.values()], axis=0)
        states, present = self._history_states(tf.zeros([1, 1], tf.int64), training)
        states = tf.repeat(last_state(states, present), self.own_queries, axis=0)
        return own, self._user_vectors(states, queries, training), tf.cast(known, tf.float32)

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The loss of a batch as TensorFlow Recommenders asks for it, float32 []."""
        return self.batch_loss(inputs, training)[0]

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            share, own_mean = self.batch_loss(batch, training=True)
        variables = self.trainable_variables
        # Replicas' gradients are summed by the optimizer; each holds its share of the global mean.
        self.optimizer.apply_gradients(zip(tape.gradient(share, variables), variables, strict=True))
        self._loss.update_state(own_mean, sample_weight=tf.reduce_sum(batch[TARGET_WEIGHT]))
        return {"loss": self._loss.result()}

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        return [self._loss]


def _log_miss(data: RetrievalData) -> tf.Tensor:
    """log(1 - p) of each item, float32 [n_items + 1], p its share of the training events."""
    counts = tf.constant(data.train.item_counts(), tf.float64)
    share = counts / tf.maximum(tf.reduce_sum(counts), 1.0)
    # One item alone would have p = 1; the bound keeps its logarithm finite.
    return tf.cast(tf.math.log1p(-tf.minimum(share, 1 - 1e-9)), tf.float32)
