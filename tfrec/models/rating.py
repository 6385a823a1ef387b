"""What all rating models share: rated histories in, ratings of pairs and of the catalogue out."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import HISTORY_WEIGHT, Interactions, RetrievalData
from tfrec.models.base import Recommender, Users
from tfrec.models.closed_form import whole_history_length
from tfrec.models.rating_rows import RatingRows, Scale, column_means
from tfrec.schema import HISTORY

SHRINK = 5.0  # ratings of the mean of all that are added to the mean of a user or an item


class RatingRecommender(Recommender):
    """Base of the models that predict a rating; lists are ordered by it.

    ``users`` holds, beside the inputs of every recommender, ``history_weight`` float32 [batch, H]:
    the rating of each item of ``history``. Where it is NaN or left out the item's mean rating
    stands in. Of an item that stands twice in a history the last rating counts.

    A subclass implements ``rate_catalogue`` and ``rate_pairs``; items that training never saw get
    the user's mean instead.

    Args:
        data: its training events give levels, means and sizes.
        history_length: most recent ratings read; None reads all.

    Attributes:
        scale: the levels.
        mean_rating: of all training ratings.
    """

    def __init__(self, data: RetrievalData, history_length: int | None = None) -> None:
        super().__init__(data)
        self.scale = Scale.of(data.train.weight)
        self.history_length = whole_history_length(data, history_length)
        rows = RatingRows.of(data.train, self.scale, "user")
        means, self.mean_rating = column_means(rows, self.scale, SHRINK)
        self.item_mean = self._fixed("item_mean", np.concatenate([[self.mean_rating], means]))
        rated = data.train.item_counts() > 0
        self.item_rated = self._fixed("item_rated", rated)
        self.user_rated = self._fixed("user_rated", np.append(data.train.user_counts() > 0, 0))

    def _fixed(self, name: str, values: np.ndarray) -> tf.Variable:
        """A float32 variable that is never trained; saved with the model."""
        initial = tf.keras.initializers.Constant(np.asarray(values, np.float32))
        shape = np.shape(values)
        return self.add_weight(name=name, shape=shape, initializer=initial, trainable=False)

    # -- to implement -------------------------------------------------------------------------

    def rate_catalogue(self, users: Users) -> tf.Tensor:
        """Predicted rating of every item, float32 [batch, n_items], not clipped."""
        raise NotImplementedError

    def rate_pairs(self, users: Users, at: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Predicted ratings of pairs, not clipped.

        Args:
            users: inputs of [batch] users.
            at: int64 [pair], the row of ``users`` each pair belongs to.
            items: int64 [pair], 1..n_items.

        Returns:
            float32 [pair].
        """
        raise NotImplementedError

    def observe(self, known: Interactions) -> None:
        """Tells a model that keeps ratings itself what is known by now; others read histories."""

    # -- answers ------------------------------------------------------------------------------

    # Ordinary TensorFlow code: AutoGraph has nothing to convert here, and trips over ``super()``.
    @tf.autograph.experimental.do_not_convert
    def score_catalogue(self, users: Users) -> tf.Tensor:
        ratings = self.rate_catalogue(users)
        unseen = self.item_rated[tf.newaxis, 1:] == 0
        return tf.where(unseen, self.user_mean(users)[:, tf.newaxis], ratings)

    @tf.autograph.experimental.do_not_convert
    def score_pairs(self, users: Users, at: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """As ``rate_pairs``, with the user's mean for items that training never saw."""
        items, at = tf.cast(items, tf.int64), tf.cast(at, tf.int64)
        mean = tf.gather(self.user_mean(users), at)
        unseen = tf.gather(self.item_rated, items) == 0
        # Index 0, an unknown item, is never looked up.
        return tf.where(unseen, mean, self.rate_pairs(users, at, tf.maximum(items, 1)))

    def score(self, users: Users, items: tf.Tensor) -> tf.Tensor:
        return self.score_pairs(users, tf.range(tf.shape(items, tf.int64)[0]), items)

    def predict_rating(self, users: Users, items: tf.Tensor) -> tf.Tensor:
        """Predicted ratings of pairs within the scale.

        Args:
            users: inputs of [batch] users.
            items: int [batch], item indices; 0 is an unknown item.

        Returns:
            float32 [batch], between the lowest and the highest level.
        """
        return self.clip(self.score(users, items))

    def clip(self, ratings: tf.Tensor) -> tf.Tensor:
        """Brings ratings into the scale."""
        return tf.clip_by_value(ratings, self.scale.levels[0], self.scale.levels[-1])

    # -- histories ----------------------------------------------------------------------------

    def rated_history(self, users: Users) -> tuple[tf.Tensor, tf.Tensor]:
        """Known items of the histories and their ratings.

        Returns:
            Items int64 [batch, H + 1] (0: padding or unknown) and ratings float32 [batch, H + 1]
            (the item's mean where none is given).
        """
        history = tf.cast(users[HISTORY], tf.int64)
        # A column of padding: a history of no columns is a history too.
        history = tf.pad(history, [[0, 0], [0, 1]])
        items = tf.where((history >= 1) & (history <= self.n_items), history, 0)
        means = tf.gather(self.item_mean, items)
        if HISTORY_WEIGHT not in users:
            return items, means
        width = tf.shape(history)[1]
        given = tf.cast(users[HISTORY_WEIGHT], tf.float32)[:, :width]
        short = [[0, 0], [0, width - tf.shape(given)[1]]]
        given = tf.pad(given, short, constant_values=float("nan"))
        return items, tf.where(tf.math.is_finite(given), given, means)

    def codes_of(self, ratings: tf.Tensor) -> tf.Tensor:
        """Code of the level nearest to each rating, int32 of the same shape."""
        flat = tf.searchsorted(self.scale.midpoints, tf.reshape(ratings, [-1]), side="right")
        return tf.reshape(flat + 1, tf.shape(ratings))

    def history_codes(self, users: Users) -> tf.Tensor:
        """Level code of each item in each history, int32 [batch, n_items]; 0 is not rated."""
        items, ratings = self.rated_history(users)
        shape = tf.shape(items, tf.int64)
        slots = tf.cast(self.n_items + 1, tf.int64)
        key = items + slots * tf.range(shape[0])[:, tf.newaxis]
        place = tf.tile(tf.range(shape[1])[tf.newaxis, :], [shape[0], 1])
        last = tf.math.unsorted_segment_max(place, key, shape[0] * slots)
        last = tf.reshape(last, [shape[0], slots])[:, 1:]
        code = tf.gather(self.codes_of(ratings), tf.maximum(last, 0), batch_dims=1)
        return tf.ensure_shape(tf.where(last >= 0, code, 0), [None, self.n_items])

    def user_mean(self, users: Users) -> tf.Tensor:
        """Mean of all ratings plus the user's shrunk deviation from the items' means [batch]."""
        items, ratings = self.rated_history(users)
        here = tf.cast(items > 0, tf.float32)
        apart = tf.reduce_sum(here * (ratings - tf.gather(self.item_mean, items)), axis=1)
        return self.mean_rating + apart / (tf.reduce_sum(here, axis=1) + SHRINK)

    def is_known(self, users: Users, users_id: str = "user_id") -> tf.Tensor:
        """Whether training saw ratings of each user, bool [batch]."""
        index = tf.cast(users[users_id], tf.int64)
        inside = tf.where((index >= 1) & (index <= self.n_users), index, self.n_users + 1)
        return tf.gather(self.user_rated, inside) > 0


def check_positive(**values: Any) -> None:
    """Raises ValueError where a named parameter is not above 0."""
    wrong = {name: value for name, value in values.items() if not value > 0}
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: a number above 0; got {wrong}; mend 'params'")
