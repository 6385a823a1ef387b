"""What the NCF family shares: pairs, logistic loss, answers to users known and unknown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.losses.logistic import softplus
from tfrec.losses.optimizers import LazyAdam
from tfrec.losses.replicas import global_sum
from tfrec.losses.whole_catalogue import whole_catalogue_logistic
from tfrec.models.base import Recommender, Users
from tfrec.models.blocks import in_blocks
from tfrec.models.fold_in import (
    SPREAD,
    USERS,
    average_user,
    covariance_factor,
    fold_in_histories,
    with_folded,
)
from tfrec.models.ncf_content import Side
from tfrec.models.ncf_parts import Part
from tfrec.models.pairs import (
    BLOCK_USERS,
    COUNTS,
    NEGATIVES,
    checked_pairs,
    pair_batches,
    user_blocks,
)
from tfrec.schema import HISTORY, ITEM_ID, USER_ID, Role

CATALOGUE_BYTES = 64 << 20  # activations alive while the catalogue is scored
FOLD_IN_BYTES = 48 << 20  # activations of one step of theirs
REFRESH_BLOCK = 8192  # items whose vectors are made at a time


class NCF(Recommender):
    """Base of the three: the sum of its parts' logits and a bias.

    A vector is the row of the id plus, with ``attributes``, what the features say. Users whom
    training never met are placed by their features and the average of the ids (nothing, where
    ``id_dropout`` taught the features to stand alone), then moved by their history; items that it
    never met by their features alone.

    Args:
        data: sizes and features.
        parts: one or two; their user vectors side by side are the vector that is folded in.
        negatives: items drawn for each observed pair.
        l2: regularisation of the vectors of each example.
        history_length: most recent items read to answer an unknown user.
        fold_in_steps: gradient steps of that answer.
        attributes: whether user and item features enter; without any it makes no difference.
        id_dropout: share of the ids that are hidden in training where features enter.
        pairs: ``sampled`` draws the negatives; ``catalogue`` takes the expectation over them, all
            items for ``block_users`` users a step (``training.batch_size`` is not read).
        block_users: users a step of ``catalogue``.

    Raises:
        ValueError: a number below its bound.
    """

    shared = ("_vectors", "score_catalogue", "embed_described")

    def __init__(
        self,
        data: RetrievalData,
        parts: Sequence[Part],
        negatives: int,
        l2: float,
        history_length: int,
        fold_in_steps: int,
        attributes: bool = True,
        id_dropout: float = 0.0,
        pairs: str = "sampled",
        block_users: int = BLOCK_USERS,
    ) -> None:
        super().__init__(data)
        if min(negatives, history_length, fold_in_steps, block_users) < 1 or l2 < 0:
            raise ValueError(
                f"negatives, history_length, fold_in_steps and block_users are from 1, l2 from 0; "
                f"got {negatives}, {history_length}, {fold_in_steps}, {block_users}, {l2}; mend "
                f"'params'"
            )
        if not 0 <= id_dropout < 1:
            raise ValueError(f"id_dropout is a share in 0..1; got {id_dropout}; mend 'params'")
        self.parts = list(parts)
        self.pairs, self.block_users = checked_pairs(pairs), block_users
        self.negatives, self.l2 = negatives, l2
        self.history_length, self.fold_in_steps = history_length, fold_in_steps
        self.bias = self.add_weight(name="bias", shape=(), initializer="zeros")
        width = sum(part.dim for part in parts)
        self.average = self.add_weight(
            name="average_user", shape=(width,), initializer="zeros", trainable=False
        )
        self.scatter = self.add_weight(
            name="users_scatter",
            shape=(width, width),
            initializer=tf.keras.initializers.Identity(),
            trainable=False,
        )
        # Who has training events; row 0, padding and unknown users, has none.
        self.user_known = self._constant("user_id_known", data.train.user_counts() > 0)
        self.user_side = self._side("user", data, parts) if attributes else None
        self.item_side = self._side("item", data, parts) if attributes else None
        self.id_dropout = id_dropout if self.user_side or self.item_side else 0.0
        self.content = self.item_side is not None
        if self.item_side is not None:
            self.item_known = self._constant("item_id_known", data.train.item_counts() > 0)
            # Kept out of the weights: an export holds the items' vectors, not their features.
            columns = self.item_side.columns(data.items)
            self._catalogue = lambda: columns
            self.vectors = tf.Variable(
                tf.zeros([data.n_items + 1, width]),
                trainable=False,
                shape=[None, width],
                name="item_vectors",
            )
        self._pair_bytes = sum(part.bytes_per_pair for part in parts)
        self._loss = tf.keras.metrics.Mean("loss")

    def _constant(self, name: str, values: np.ndarray) -> tf.Variable:
        start = tf.keras.initializers.Constant(np.asarray(values, np.float32))
        return self.add_weight(name=name, shape=values.shape, initializer=start, trainable=False)

    def _side(self, role: Role, data: RetrievalData, parts: Sequence[Part]) -> Side | None:
        return Side(role, data, parts) if data.features.of(role, ids=False) else None

    # -- the network --------------------------------------------------------------------------

    def _logits(self, users: tf.Tensor, items: Sequence[tf.Tensor]) -> tf.Tensor:
        """Logits [batch, n] of user vectors [batch, width] with each part's items."""
        split = tf.split(users, [part.dim for part in self.parts], axis=1)
        terms = [p.logits(u, i) for p, u, i in zip(self.parts, split, items, strict=True)]
        return tf.add_n(terms) + self.bias

    def _learned(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.concat([tf.gather(part.users, rows) for part in self.parts], axis=1)

    def _apart(self, vectors: tf.Tensor) -> list[tf.Tensor]:
        """Each part's share of vectors [..., width]."""
        return tf.split(vectors, [part.dim for part in self.parts], axis=-1)

    def _items(self, items: tf.Tensor) -> list[tf.Tensor]:
        """Each part's vectors [..., dim] of items [...], as they answer."""
        if self.item_side is not None:
            return self._apart(tf.gather(self.vectors, items))
        return [tf.gather(part.items, items) for part in self.parts]

    def _hide(self, rows: tf.Tensor) -> tf.Tensor:
        """Hides ``id_dropout`` of id vectors [..., width] in training."""
        if not self.id_dropout:
            return rows
        keep = tf.random.uniform(tf.shape(rows)[:-1]) >= self.id_dropout
        return rows * tf.cast(keep, tf.float32)[..., tf.newaxis]

    def _learning_users(self, batch: Users) -> tf.Tensor:
        """User vectors float32 [batch, width], as they are trained."""
        rows = self._learned(batch[USER_ID])
        return self._hide(rows) + self.user_side(batch) if self.user_side is not None else rows

    def _learning_items(self, items: tf.Tensor) -> list[tf.Tensor]:
        """Each part's vectors [batch, n, dim] of items [batch, n], as they are trained."""
        if self.item_side is None:
            return self._items(items)
        distinct, back = tf.unique(tf.reshape(items, [-1]))
        vectors = tf.gather(self._described(distinct, self._rows(distinct), training=True), back)
        width = self.average.shape[0]
        return self._apart(tf.reshape(vectors, tf.concat([tf.shape(items), [width]], axis=0)))

    def _rows(self, items: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encoded features of items int64 [item] of the catalogue."""
        return {name: tf.gather(values, items) for name, values in self._catalogue().items()}

    def _described(self, items: tf.Tensor, columns: Users, training: bool = False) -> tf.Tensor:
        """Vectors float32 [item, width]: the id's, where training met it, plus the features'."""
        assert self.item_side is not None
        inside = tf.where(items <= self.n_items, items, tf.zeros_like(items))
        rows = tf.concat([tf.gather(part.items, inside) for part in self.parts], axis=-1)
        rows *= tf.gather(self.item_known, inside)[..., tf.newaxis]
        return (self._hide(rows) if training else rows) + self.item_side(columns)

    # -- training -----------------------------------------------------------------------------

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        """Observed pairs with their negatives, ``batch_size`` examples of both; or whole users."""
        if self.pairs == "catalogue":
            return self._told(user_blocks(data, train.seed, self.block_users), data)
        pairs = max(1, train.batch_size // (1 + self.negatives))
        return self._told(pair_batches(data, pairs, self.negatives, train.seed), data)

    def _told(self, batches: tf.data.Dataset, data: RetrievalData) -> tf.data.Dataset:
        """Batches with the users' encoded features."""
        if self.user_side is None:
            return batches
        columns = self.user_side.columns(data.users)

        def join(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {**batch, **{n: tf.gather(v, batch[USER_ID]) for n, v in columns.items()}}

        return batches.map(join)

    def compile_for(self, train: TrainConfig) -> None:
        optimizer = LazyAdam(train.learning_rate)
        optimizer._create_all_weights(self.trainable_variables)
        self.compile(optimizer=optimizer)

    def _sampled(self, batch: Users) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Loss, squares of the vectors and number of examples of pairs with drawn items."""
        shown = tf.concat([batch[ITEM_ID][:, tf.newaxis], batch[NEGATIVES]], axis=1)
        users, items = self._learning_users(batch), self._learning_items(shown)
        logits = self._logits(users, items)
        loss = tf.reduce_sum(softplus(-logits[:, 0])) + tf.reduce_sum(softplus(logits[:, 1:]))
        prices = self._apart(self._prices())
        squares = tf.add_n(
            [tf.reduce_sum(rows**2 * price) for rows, price in zip(items, prices, strict=True)]
        )
        squares += (1.0 + self.negatives) * tf.reduce_sum(users**2 * self._prices())
        return loss, squares, tf.cast(tf.size(shown), tf.float32)

    def _whole(self, batch: Users) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The same of whole users, each pair weighing what it would be drawn."""
        everything = tf.range(1, self.n_items + 1, dtype=tf.int64)[tf.newaxis]
        users, items = self._learning_users(batch), self._learning_items(everything)
        logits = self._logits(users, items)
        found = whole_catalogue_logistic(logits, batch[COUNTS], self.negatives)
        rows, prices = tf.concat([part[0] for part in items], axis=1), self._prices()
        squares = found.charged(*(tf.linalg.matvec(v**2, prices) for v in (users, rows)))
        return found.loss, squares, tf.reduce_sum(found.examples)

    def _prices(self) -> tf.Tensor:
        """Of the squares of a vector float32 [width]."""
        return tf.concat([part.price() for part in self.parts], axis=0)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Users) -> dict[str, tf.Tensor]:
        """One step on the mean logistic loss of the global batch's examples."""
        with tf.GradientTape() as tape:
            take = self._whole if self.pairs == "catalogue" else self._sampled
            loss, squares, mine = take(batch)
            everyone = tf.maximum(global_sum(mine), 1.0)
            share = (loss + 0.5 * self.l2 * squares) / everyone
        variables = self.trainable_variables
        # Replicas' gradients are summed by the optimizer; each holds its share of the global mean.
        self.optimizer.apply_gradients(zip(tape.gradient(share, variables), variables, strict=True))
        self._loss.update_state(loss / tf.maximum(mine, 1.0), sample_weight=mine)
        return {"loss": self._loss.result()}

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        return [self._loss]

    def refresh(self) -> None:
        """Mean and covariance of the learned users: who is unknown is taken for one of them.

        Where ids were hidden in training the features alone stand for the unknown. Also brings the
        items' vectors up to date.
        """
        table = tf.concat([part.users for part in self.parts], axis=1)
        if self.user_side is None or not self.id_dropout:
            self.average.assign(average_user(table, self.user_known))
        self.scatter.assign(covariance_factor(table, self.average, self.user_known))
        if self.item_side is not None:
            size = self.n_items + 1
            blocks = [
                tf.range(start, min(start + REFRESH_BLOCK, size), dtype=tf.int64)
                for start in range(0, size, REFRESH_BLOCK)
            ]
            vectors = [self._described(block, self._rows(block)) for block in blocks]
            self.vectors.assign(tf.concat(vectors, axis=0))

    # -- what is new --------------------------------------------------------------------------

    def vocabulary_tables(self) -> dict[str, list[tf.Variable]]:
        tables = {
            USER_ID: [*(part.users for part in self.parts), self.user_known],
            ITEM_ID: [part.items for part in self.parts],
        }
        if self.item_side is not None:
            tables[ITEM_ID].append(self.item_known)
        for side in (self.user_side, self.item_side):
            if side is not None:
                tables.update(side.vocabulary_tables())
        return tables

    def growing(self) -> dict[str, tf.Variable]:
        return {"item_vectors": self.vectors} if self.content else {}

    def item_rows(self, items: Users) -> dict[str, tf.Tensor]:
        return {"item_vectors": self.embed_described(items)}

    def embed_described(self, items: Users) -> tf.Tensor:
        if self.item_side is None:
            return super().embed_described(items)
        index = items[ITEM_ID]
        return self._described(index, self.item_side.told(items, tf.shape(index)[0]))

    def score_described(self, users: Users, items: Users) -> tf.Tensor:
        vectors = self._apart(self.embed_described(items)[:, tf.newaxis])
        return self._logits(self._vectors(users), vectors)[:, 0]

    # -- answers ------------------------------------------------------------------------------

    def user_embedding(self, users: Users) -> tf.Tensor:
        """What the network reads of a user, its parts side by side: float32 [batch, width].

        Users compare with users, items with items; what a user and an item come to is the
        network's to say, not their product's (but for ``GMF``).
        """
        return self._vectors(users)

    def item_embedding(self, items: tf.Tensor | None = None) -> tf.Tensor:
        tables = [self.vectors] if self.content else [part.items for part in self.parts]
        if items is None:
            return tf.concat([table[1:] for table in tables], axis=1)
        known = items <= tf.cast(self._known_items(), items.dtype)
        rows = tf.where(known, items, tf.zeros_like(items))
        return tf.concat([tf.gather(table, rows) for table in tables], axis=1)

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        unknown = tf.zeros([tf.shape(history)[0]], tf.int64)
        return self.user_embedding({USER_ID: unknown, HISTORY: history})

    def _fold(self, history: tf.Tensor, begin: tf.Tensor) -> tf.Tensor:
        """User vectors float32 [batch, width] of histories, the network and the items held."""
        return fold_in_histories(
            history,
            self._known_items(),
            lambda vectors, items: self._logits(vectors, self._items(items)),
            begin,
            self.scatter,
            self.n_items,
            negatives=self.negatives,
            l2=self.l2 * self._prices(),
            steps=self.fold_in_steps,
            spread=max(1, min(SPREAD, FOLD_IN_BYTES // (USERS * self._pair_bytes))),
        )

    def _known_items(self) -> int | tf.Tensor:
        """Largest item index there is; an export may have been given more than were trained."""
        return tf.shape(self.vectors, tf.int64)[0] - 1 if self.content else self.n_items

    def _vectors(self, users: Users) -> tf.Tensor:
        """Learned vectors of known users; of the others by their features and history."""
        user = tf.cast(users[USER_ID], tf.int64)
        row = tf.where(user <= self.n_users, user, 0)
        known = tf.gather(self.user_known, row) > 0
        vectors = tf.where(known[:, tf.newaxis], self._learned(row), self.average)
        if self.user_side is not None:
            vectors += self.user_side(self.user_side.told(users, tf.shape(user)[0]))
        if HISTORY not in users:
            return vectors
        history = tf.cast(users[HISTORY], tf.int64)
        told = tf.reduce_any((history >= 1) & (history <= self._known_items()), axis=1)
        return with_folded(
            vectors,
            ~known & told,
            lambda rows: self._fold(tf.gather(history, rows), tf.gather(vectors, rows)),
        )

    def score_catalogue(self, users: Users) -> tf.Tensor:
        """Item by item in blocks: never more than ``CATALOGUE_BYTES`` of activations."""
        vectors = self._vectors(users)
        batch = tf.maximum(tf.shape(vectors)[0], 1)
        size = tf.maximum(CATALOGUE_BYTES // (batch * self._pair_bytes), 1)

        def block(start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
            if self.content:
                items = self._apart(self.vectors[1 + start : 1 + stop][tf.newaxis])
            else:
                items = [part.items[1 + start : 1 + stop][tf.newaxis] for part in self.parts]
            return tf.transpose(self._logits(vectors, items))

        scores = tf.transpose(in_blocks(self._known_items(), size, block))
        return tf.ensure_shape(scores, [None, None if self.content else self.n_items])

    def score(self, users: Users, items: tf.Tensor) -> tf.Tensor:
        rows = self._items(tf.cast(items, tf.int64)[:, tf.newaxis])
        return self._logits(self._vectors(users), rows)[:, 0]
