"""item2vec: skip-gram with negative sampling over users' sequences of events.

Barkan & Koenigstein 2016 (arXiv:1603.04259), prod2vec in Grbovic et al. 2015 (arXiv:1606.07154);
that the exponent of the negatives, the window and the sub-sampling decide, in Caselles-Dupre et al.
2018 (arXiv:1804.04212). With ``attributes`` an item's vector is that of its id plus those of its
attributes (Meta-Prod2Vec, Vasile et al. 2016, arXiv:1607.07326, in the additive form of EGES, Wang
et al. 2018, arXiv:1803.02349), so that rare and new items are placed by what they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.data.skip_gram import (
    AFTER,
    BEFORE,
    CENTRE,
    CONTEXT,
    NEGATIVES,
    keep_probability,
    negative_cumulative,
    skip_gram_dataset,
)
from tfrec.features.embed import FeatureEmbedding
from tfrec.features.encode import recent
from tfrec.losses.logistic import softplus
from tfrec.losses.optimizers import LazyAdam
from tfrec.losses.replicas import global_concat, global_sum
from tfrec.models.base import Recommender, Users
from tfrec.models.item_tower import missing
from tfrec.schema import HISTORY, ITEM_ID

UNSEEN = 100.0
REFRESH_BLOCK = 8192  # items embedded at a time when the vectors are brought up to date


class Item2Vec(Recommender):
    """Recommends what lies near the average of the recent items; see the module's docstring.

    Args:
        data: sizes, catalogue and item features.
        dim: length of the vectors.
        window: largest distance of two events that count as neighbours.
        negatives: weight of the negatives, as if so many were drawn for each pair. They are drawn
            once a batch and shared, which has the same expectation.
        exponent: of the items' counts by which negatives are drawn (word2vec: .75).
        subsample: threshold of sub-sampling, as a share of all events; 0 keeps all events.
        attributes: whether item attributes (all but images) enter the vectors.
        match: what is recommended: ``similar`` items (by cosine of the items' own vectors), or by
            ``context`` those that training holds likely beside the recent ones: the product of
            vectors is ``log p(c | i) / p_negative(c)`` up to a constant (Levy & Goldberg 2014), so
            the log probability of being drawn as a negative is added back, and that of surviving
            sub-sampling taken off. Who has no history is answered by the items' own counts: with a
            negative exponent the negatives' would put the rarest first.
        history_length: recent items that are averaged.

    Raises:
        ValueError: a number or name out of its range.
    """

    def __init__(
        self,
        data: RetrievalData,
        dim: int = 64,
        window: int = 5,
        negatives: int = 15,
        exponent: float = 0.75,
        subsample: float = 0.0,
        attributes: bool = False,
        match: str = "context",
        history_length: int = 10,
    ) -> None:
        super().__init__(data)
        if min(dim, window, negatives, history_length) < 1 or subsample < 0:
            raise ValueError(
                f"dim, window, negatives and history_length are from 1, subsample from 0; got "
                f"{dim}, {window}, {negatives}, {history_length} and {subsample}; mend 'params'"
            )
        if match not in ("similar", "context"):
            raise ValueError(f"match is 'similar' or 'context'; got {match!r}; mend 'params'")
        self.window, self.negatives, self.exponent = window, negatives, exponent
        self.subsample, self.match, self.history_length = subsample, match, history_length
        # An image would have to be decoded to vectors apart from training; see ``ItemTower``.
        described = tuple(f for f in data.features.of("item") if f.kind != "image")
        features = described if attributes else (data.features[ITEM_ID],)
        # Contexts are learned from events alone: only ``similar`` can place new items.
        self.content = len(features) > 1 and match == "similar"
        self.features = features
        trained = data.train.item_counts() > 0
        self._embed = FeatureEmbedding(
            features, data.sizes, dim, trained=trained, name="item_features"
        )
        columns = [f.name for f in features if f.kind != "id"]
        columns += [f"{f.name}_bucket" for f in features if f.kind == "numeric"]
        self._catalogue = {
            name: tf.Variable(
                data.items[name][: data.n_items + 1],
                trainable=False,
                shape=[None, *data.items[name].shape[1:]],
                name=f"catalogue_{name}",
            )
            for name in columns
        }
        # word2vec's start: the vectors that predict are zero, those that are predicted are not.
        self.contexts = self.add_weight(
            name="contexts", shape=(data.n_items + 1, dim), initializer="zeros"
        )
        self._log_noise = tf.Variable(
            log_noise(data, exponent, subsample),
            trainable=False,
            name="log_noise",
            dtype=tf.float32,
        )
        self._log_share = tf.Variable(
            log_noise(data, 1.0), trainable=False, name="log_share", dtype=tf.float32
        )
        self.index = tf.Variable(
            tf.zeros([data.n_items, dim]), trainable=False, name="index", shape=[None, dim]
        )
        self._loss = tf.keras.metrics.Mean("loss")
        self._vectors(tf.zeros([1], tf.int64))  # all variables exist before the first step

    def _vectors(self, items: tf.Tensor) -> tf.Tensor:
        """Item vectors float32 [item, dim] of indices int64 [item]."""
        rows: dict[str, tf.Tensor] = {}
        for name, values in self._catalogue.items():
            inside = items < tf.shape(values, items.dtype)[0]  # what is unknown has no features
            rows[name] = tf.gather(values, tf.where(inside, items, tf.zeros_like(items)))
        rows[ITEM_ID] = items
        return self._embed(rows)

    # -- training -----------------------------------------------------------------------------

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        """``batch_size`` counts events, each with all its neighbours."""
        return skip_gram_dataset(
            data.train,
            train.batch_size,
            train.seed,
            window=self.window,
            exponent=self.exponent,
            threshold=self.subsample,
        )

    def compile_for(self, train: TrainConfig) -> None:
        optimizer = LazyAdam(train.learning_rate)
        optimizer._create_all_weights(self.trainable_variables)
        self.compile(optimizer=optimizer)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step on ``sum log s(v.c) + negatives E log s(-v.n)`` a pair of neighbours.

        The expectation is taken over the negatives that the batch shares, whichever replica drew
        them.
        """
        centres, (before, after) = batch[CENTRE], (batch[BEFORE], batch[AFTER])
        pairs = tf.cast(before + after, tf.float32)
        mine = tf.reduce_sum(pairs)
        everyone = tf.maximum(global_sum(mine), 1.0)
        drawn = global_concat(tf.reshape(batch[NEGATIVES], [-1]))
        present = self._neighbours(before, after)
        with tf.GradientTape() as tape:
            centre = self._vectors(tf.reshape(centres, [-1]))
            context = tf.gather(self.contexts, batch[CONTEXT])
            rows = tf.reshape(centre, [-1, centres.shape[1], context.shape[-1]])
            near = tf.matmul(rows, context, transpose_b=True)
            far = tf.matmul(centre, tf.gather(self.contexts, drawn), transpose_b=True)
            loss = tf.reduce_sum(tf.where(present, softplus(-near), 0.0))
            away = self.negatives * tf.reduce_mean(softplus(far), axis=1)
            loss += tf.reduce_sum(away * tf.reshape(pairs, [-1]))
            share = loss / everyone
        variables = self.trainable_variables
        # Replicas' gradients are summed by the optimizer; each holds its share of the global mean.
        self.optimizer.apply_gradients(zip(tape.gradient(share, variables), variables, strict=True))
        self._loss.update_state(loss / tf.maximum(mine, 1.0), sample_weight=mine)
        return {"loss": self._loss.result()}

    def _neighbours(self, before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        """Which centre has which context, bool [stretch, L, L + 2 window]; see the data set."""
        length = before.shape[1]
        place = tf.range(length, dtype=tf.int64) + self.window
        column = tf.range(length + 2 * self.window, dtype=tf.int64)
        distance = column - place[:, tf.newaxis]
        reached = (distance >= -before[..., tf.newaxis]) & (distance <= after[..., tf.newaxis])
        return reached & (distance != 0)

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        return [self._loss]

    def refresh(self) -> None:
        """Embeds the whole catalogue anew into ``index``, as unit vectors where cosines count."""
        blocks = [
            self._vectors(
                tf.range(start, min(start + REFRESH_BLOCK, self.n_items + 1), dtype=tf.int64)
            )
            for start in range(1, self.n_items + 1, REFRESH_BLOCK)
        ]
        self.index.assign(self._shape(tf.concat(blocks, axis=0)))

    def _shape(self, vectors: tf.Tensor) -> tf.Tensor:
        return tf.math.l2_normalize(vectors, axis=1) if self.match == "similar" else vectors

    # -- answers ------------------------------------------------------------------------------

    def vocabulary_tables(self) -> dict[str, list[tf.Variable]]:
        tables = self._embed.vocabulary_tables()
        return {**tables, ITEM_ID: [*tables[ITEM_ID], self.contexts]}

    def growing(self) -> dict[str, tf.Variable]:
        return {**self._catalogue, "index": self.index} if self.content else {}

    def item_rows(self, items: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        rows = {name: items[name] for name in self._catalogue}
        return {**rows, "index": self.embed_described(items)}

    def embed_described(self, items: Mapping[str, tf.Tensor]) -> tf.Tensor:
        if not self.content:
            return super().embed_described(items)
        batch = tf.shape(items[ITEM_ID])[0]
        for feature in self.features:
            if feature.name not in items:
                items = {**items, **missing(feature, batch)}
        return self._shape(self._embed(items))

    def score_described(self, users: Users, items: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return tf.reduce_sum(self.user_embedding(users) * self.embed_described(items), axis=1)

    def item_embedding(self, items: tf.Tensor | None = None) -> tf.Tensor:
        """The items' own vectors: close are those that occur in like surroundings."""
        if items is None:
            return tf.identity(self.index)
        return self._shape(self._vectors(tf.cast(items, tf.int64)))

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        """The average vector of the most recent known items; zeros where there are none."""
        history = tf.cast(history, tf.int64)
        known = history <= tf.shape(self.index, tf.int64)[0]
        history = recent(tf.where(known, history, 0), self.history_length)
        present = tf.cast(history > 0, tf.float32)[..., tf.newaxis]
        vectors = tf.gather(self.index, tf.maximum(history - 1, 0)) * present
        return tf.reduce_sum(vectors, axis=1) / tf.maximum(tf.reduce_sum(present, axis=1), 1.0)

    def user_embedding(self, users: Users) -> tf.Tensor:
        return self.fold_in(users[HISTORY])

    def query(self, users: Users) -> tf.Tensor:
        """What scores by its product with ``answers``, float32 [batch, dim or dim + 2]."""
        vectors = self.user_embedding(users)
        if self.match == "similar":
            return vectors
        told = tf.reduce_any(vectors != 0.0, axis=1, keepdims=True)
        choice = tf.concat([told, ~told], axis=1)
        return tf.concat([vectors, tf.cast(choice, tf.float32)], axis=1)

    def answers(self) -> tf.Tensor:
        """The items' side of it, float32 [n_items, dim or dim + 2]; see ``match``."""
        if self.match == "similar":
            return tf.identity(self.index)
        bias = tf.stack([self._log_noise, self._log_share], axis=1)
        return tf.concat([self.contexts[1:], bias], axis=1)

    def score_catalogue(self, users: Users) -> tf.Tensor:
        return tf.matmul(self.query(users), self.answers(), transpose_b=True)

    def score(self, users: Users, items: tf.Tensor) -> tf.Tensor:
        rows = tf.gather(self.answers(), tf.cast(items, tf.int64) - 1)
        return tf.reduce_sum(self.query(users) * rows, axis=1)


def log_noise(data: RetrievalData, exponent: float, threshold: float = 0.0) -> np.ndarray:
    """Log probability of each item to be drawn as a negative, less that of being kept.

    Sub-sampling thins out frequent contexts by ``keep_probability``, which recommendations undo.

    Items that training never saw are never drawn and have no context vector; they stand ``UNSEEN``
    below the least likely item, behind all others.

    Returns:
        float32 [n_items].
    """
    if not len(data.train):
        return np.zeros(data.n_items, np.float32)
    counts = data.train.item_counts()[1:]
    share = np.diff(negative_cumulative(counts, exponent), prepend=0.0)
    share /= keep_probability(counts, threshold)
    least = share[share > 0].min()
    return np.where(share > 0, np.log(np.maximum(share, least)), np.log(least) - UNSEEN).astype(
        np.float32
    )
