"""Rating models that code a row of ratings, a user's or an item's, and decode a rating a column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.losses.replicas import global_sum, replica_count
from tfrec.models.base import Users
from tfrec.models.item_rows import ItemRows
from tfrec.models.rating import SHRINK, RatingRecommender
from tfrec.models.rating_rows import CODE, RatingRows, Side, column_means, level_logits
from tfrec.models.row_products import Products, choose, rows_in, rows_out, units_in
from tfrec.schema import HISTORY, USER_ID

Schedule = Literal["constant", "cosine"]


class RowModel(RatingRecommender):
    """A net over rows of ratings.

    ``by="user"``: a row is a user, its columns are items; the code is made of the history given.
    ``by="item"``: a row is an item, its columns are users. The items' codes are made of the
    ratings known (``refresh``, ``observe``), a known user is a column of the decoder, and an
    unknown one is fitted from the history by ``ItemRows``.

    A subclass implements ``encode``, ``output`` and ``objective``; ``link`` has a default.

    Args:
        data: encoded data.
        by: what a row is.
        history_length: most recent ratings read of a user; None reads all.
        polyak: decay of the running averages of the weights that answer in place of the last
            weights; None answers by the last.
        products: how the large products are made; see ``row_products``. ``auto`` is dense where at
            least one entry in forty is rated, else sparse.
        schedule: the learning rate over all ``epochs``: constant, or falling to 0 along half a
            cosine (Loshchilov & Hutter 2017, without restarts).

    Raises:
        ValueError: ``by``, ``polyak``, ``products`` or ``schedule`` out of range.
    """

    def __init__(
        self,
        data: RetrievalData,
        by: Side = "user",
        history_length: int | None = None,
        polyak: float | None = None,
        products: Products = "auto",
        schedule: Schedule = "constant",
    ) -> None:
        super().__init__(data, history_length)
        if by not in get_args(Side):
            raise ValueError(f"by is 'user' or 'item', what a row of ratings is; got {by!r}")
        if polyak is not None and not 0 < polyak < 1:
            raise ValueError(f"polyak is a decay between 0 and 1, as 0.995, or null; got {polyak}")
        if schedule not in get_args(Schedule):
            raise ValueError(f"schedule is one of {list(get_args(Schedule))}; got {schedule!r}")
        self.by, self.polyak, self.schedule = by, polyak, schedule
        self.n_levels = len(self.scale)
        self.n_columns = data.n_items if by == "user" else data.n_users
        rows = RatingRows.of(data.train, self.scale, by)
        self.n_rated_rows = int((rows.counts > 0).sum())
        self.products = choose(products, len(rows.code) / max(rows.n_rows * rows.n_columns, 1))
        self.column_mean, _ = column_means(rows, self.scale, SHRINK)
        self.column_logits = level_logits(rows, self.n_levels, SHRINK)
        self._weights: dict[str, tf.Variable] = {}
        self._averages: dict[str, tf.Variable] = {}
        self._live = 0
        self._steps = self.add_weight(
            name="steps", shape=(), dtype=tf.int64, initializer="zeros", trainable=False
        )
        self._figures: dict[str, tf.keras.metrics.Mean] = {}
        self.item_coder: ItemRows | None = None
        self._known = data.train

    # -- to implement -------------------------------------------------------------------------

    def encode(self, code: tf.Tensor) -> tf.Tensor:
        """What is known of a row, float32 [batch, dim], of level codes int32 [batch, n_columns]."""
        raise NotImplementedError

    def output(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Last layer: weights float32 [n_columns, K, dim] and biases [n_columns, K]."""
        raise NotImplementedError

    def link(self, scores: tf.Tensor) -> tf.Tensor:
        """Ratings [...] of the K outputs [..., K]: here the expected level."""
        return tf.linalg.matvec(tf.nn.softmax(scores), self.scale.levels)

    def objective(self, code: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """What goes down, a scalar, and figures to log, for level codes [batch, n_columns]."""
        raise NotImplementedError

    # -- weights and training -----------------------------------------------------------------

    def weight(self, name: str, initial: np.ndarray) -> None:
        """Makes a trained weight; read it by ``self[name]``."""
        initializer = tf.keras.initializers.Constant(np.asarray(initial, np.float32))
        self._weights[name] = self.add_weight(
            name=name, shape=np.shape(initial), initializer=initializer
        )
        if self.polyak is not None:
            self._averages[name] = self.add_weight(
                name=f"{name}_average",
                shape=np.shape(initial),
                initializer=initializer,
                trainable=False,
            )

    def ready(self) -> None:
        """Ends a subclass's ``__init__``, once its weights are there."""
        if self.by == "item":
            self.item_coder = ItemRows(self)

    def __getitem__(self, name: str) -> tf.Variable:
        return (self._weights if self._live or not self._averages else self._averages)[name]

    @contextmanager
    def live(self) -> Iterator[None]:
        """Within: ``self[name]`` is the weight in training, not its average."""
        # Counted: replicas are traced in turns, and the first one in is the first one out.
        self._live += 1
        try:
            yield
        finally:
            self._live -= 1

    def rows_in(self, code: tf.Tensor, marks: np.ndarray, weights: tf.Tensor) -> tf.Tensor:
        """Units of rows times weights; see ``row_products.rows_in``."""
        return rows_in(code, marks, weights, self._kind)

    def units_in(
        self, at: tf.Tensor, units: tf.Tensor, rows: tf.Tensor, weights: tf.Tensor
    ) -> tf.Tensor:
        """Units with values of their own times weights; see ``row_products.units_in``."""
        return units_in(at, units, rows, weights, self._kind)

    def rows_out(self, hidden: tf.Tensor, weights: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
        """Codes times weights at the entries asked for; see ``row_products.rows_out``."""
        return rows_out(hidden, weights, at, self._kind)

    @property
    def _kind(self) -> Products:
        return "dense" if self.products == "bfloat16" and not self._live else self.products

    @property
    def metrics(self) -> list[Any]:
        return list(self._figures.values())

    def rate(self, train: TrainConfig) -> Any:
        """The learning rate for an optimizer: a number, or a schedule over all of training."""
        if self.schedule == "constant":
            return train.learning_rate
        steps = max(1, -(-self.n_rated_rows // train.batch_size)) * train.epochs
        return tf.keras.optimizers.schedules.CosineDecay(train.learning_rate, steps)

    def compile_for(self, train: TrainConfig) -> None:
        self.compile(optimizer=tf.keras.optimizers.legacy.Adam(self.rate(train)))

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        self._known = data.train
        rows = RatingRows.of(data.train, self.scale, self.by)
        self.steps_per_epoch = max(1, -(-self.n_rated_rows // train.batch_size))
        return rows.batches(train.batch_size, train.seed)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch: Users) -> dict[str, tf.Tensor]:
        with self.live():
            with tf.GradientTape() as tape:
                loss, figures = self.objective(batch[CODE])
            self.descend(tape, loss)
        return self.logged({"loss": loss, **figures})

    def descend(self, tape: tf.GradientTape, loss: tf.Tensor) -> None:
        """One step of the optimizer, then of the averages (Polyak & Juditsky 1992)."""
        weights = list(self._weights.values())
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self._steps.assign_add(1)
        if self.polyak is not None:
            # The first weights are forgotten fast: decay (1 + t) / (10 + t) until it is reached.
            steps = tf.cast(self._steps, tf.float32)
            rate = 1 - tf.minimum(self.polyak, (1 + steps) / (10 + steps))
            for name, average in self._averages.items():
                average.assign_add(rate * (self._weights[name] - average))

    def logged(self, figures: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Means over the epoch of what each step reports."""
        for name, value in figures.items():
            if name not in self._figures:
                self._figures[name] = tf.keras.metrics.Mean(name)
            self._figures[name].update_state(value)
        return {name: self._figures[name].result() for name in figures}

    def decay(self, names: Iterable[str]) -> tf.Tensor:
        """This replica's part of half the squared weights of these names: replicas' losses add."""
        squares = tf.add_n([tf.nn.l2_loss(self[name]) for name in names])
        return squares / replica_count()

    @staticmethod
    def per_rating(total: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """A sum over this replica's ratings, divided by the number of all replicas' ratings."""
        return total / tf.maximum(global_sum(count), 1.0)

    # -- answers ------------------------------------------------------------------------------

    @property
    def bytes_per_user(self) -> int:  # type: ignore[override]
        return 4 * self.n_items * (4 * self.n_levels + 4)

    def observe(self, known: Interactions) -> None:
        self._known = known
        self.refresh()

    def refresh(self) -> None:
        """Codes all items anew (item-based models): call it after the weights change."""
        if self.item_coder is not None:
            self.item_coder.refresh(self._known)

    def rate_catalogue(self, users: Users) -> tf.Tensor:
        if self.item_coder is not None:
            return self.item_coder.catalogue(users)
        hidden = self.encode(self.history_codes(users))
        weights, biases = self.output()
        n, k, dim = weights.shape
        scores = tf.matmul(hidden, tf.reshape(weights, [n * k, dim]), transpose_b=True)
        return self.link(tf.reshape(scores, [-1, n, k]) + biases)

    def rate_pairs(self, users: Users, at: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        if self.item_coder is not None:
            return self.item_coder.pairs(users, at, items)
        hidden = self.encode(self.history_codes(users))
        return self.decode_pairs(tf.gather(hidden, at), tf.cast(items, tf.int64) - 1)

    def decode_pairs(self, hidden: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        """Ratings [pair] of codes [pair, dim] at columns int64 [pair]."""
        weights, biases = self.output()
        scores = tf.einsum("pkd,pd->pk", tf.gather(weights, columns), hidden)
        return self.link(scores + tf.gather(biases, columns))

    def user_columns(self, users: Users) -> tf.Tensor:
        """Column of each user, int64 [batch]; 0 for those that are no column."""
        index = tf.cast(users[USER_ID], tf.int64) - 1
        return tf.where(self.is_known(users), index, 0)

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        return self.user_embedding({HISTORY: history})

    def user_embedding(self, users: Users) -> tf.Tensor:
        if self.item_coder is not None:
            return self.item_coder.fit_user(users)
        return self.encode(self.history_codes(users))

    def item_embedding(self, items: tf.Tensor | None = None) -> tf.Tensor:
        if self.item_coder is not None:
            vectors = self.item_coder.tastes[1:]
        else:
            vectors = self.slope(*self.output())
        return vectors if items is None else tf.gather(vectors, tf.cast(items, tf.int64) - 1)

    def slope(self, weights: tf.Tensor, biases: tf.Tensor) -> tf.Tensor:
        """How each column's rating grows with the code, where it is its bias alone: [n, dim]."""
        if weights.shape[1] == 1:
            return weights[:, 0]
        chances = tf.nn.softmax(biases)
        apart = self.scale.levels - tf.linalg.matvec(chances, self.scale.levels)[:, tf.newaxis]
        return tf.einsum("nk,nkd->nd", chances * apart, weights)
