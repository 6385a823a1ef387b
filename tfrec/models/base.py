"""The contract that every recommender keeps.

A recommender is a ``tf.keras.Model`` over *encoded* inputs: indices in place of ids (0 is padding,
1..n known, behind them the hashed unknown). Raw ids enter and leave in ``tfrec.export``.

``users`` is a dict of tensors: ``user_id`` int64 [batch], ``history`` int64 [batch, H] (item
indices, oldest first, 0 behind) and the encoded user and context features [batch, ...]; a model
reads what it needs of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import tensorflow as tf

from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.retrieval.top_k import masked_top_k

Users = Mapping[str, tf.Tensor]


def item_rows_of(table: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Rows of items in a table without a padding row; zeros for what is no item.

    Args:
        table: float32 [n_items, dim].
        items: int [batch], item indices 1..n_items; 0 and unknown ones among them.

    Returns:
        float32 [batch, dim].
    """
    items = tf.cast(items, tf.int64)
    known = (items >= 1) & (items <= tf.shape(table, tf.int64)[0])
    rows = tf.gather(table, tf.where(known, items - 1, tf.zeros_like(items)))
    return tf.where(known[..., tf.newaxis], rows, 0.0)


class Recommender(tf.keras.Model):
    """Base of all recommenders.

    A subclass is built as ``Model(data, **params)``: it takes sizes, vocabularies and the catalogue
    from ``data`` and its parameters by keyword. It must implement ``score_catalogue`` and
    ``training_data``; ``score`` where a pair can be scored more cheaply than a row;
    ``user_embedding`` and ``item_embedding`` where it has vectors; ``fold_in`` where a history
    alone can give a user vector; ``refresh`` where it caches catalogue vectors.

    Attributes:
        n_users, n_items: vocabulary sizes without padding.
        history_length: H, how many recent items the model reads; 0 for none.
        bytes_per_user: working memory of ``score_catalogue`` for each row of a batch, beside the
            scores themselves; evaluation and batch answers choose their blocks by it.
        content: True where items are placed by their features too, so that an exported catalogue
            can take new ones; then ``growing``, ``item_rows``, ``embed_described`` and
            ``score_described`` are there.
        id_dropout: share of ids hidden in training, so that features learn to stand alone.
        needs_validation: True where ``fit`` runs epochs that early stopping may end.
        shared: methods of encoded tensors that several signatures of an export call: each is
            traced once for all of them.
    """

    history_length: int = 0
    bytes_per_user: int = 0
    content: bool = False
    id_dropout: float = 0.0
    needs_validation: ClassVar[bool] = True
    shared: ClassVar[tuple[str, ...]] = ("user_embedding", "score_catalogue", "embed_described")

    def __init__(self, data: RetrievalData, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_users = data.n_users
        self.n_items = data.n_items
        # Variables are made here, not by a first call: Keras's backup has nothing to wait for.
        self.built = True

    # -- to implement -------------------------------------------------------------------------

    def score_catalogue(self, users: Users) -> tf.Tensor:
        """Scores of all items, float32 [batch, n_items]; column ``i - 1`` is item index ``i``."""
        raise NotImplementedError

    def training_data(self, data: RetrievalData, train: TrainConfig) -> tf.data.Dataset:
        """The batches that ``fit`` takes: one epoch of ``data.train``, in ``train.seed`` order."""
        raise NotImplementedError

    def compile_for(self, train: TrainConfig) -> None:
        """Compiles with the model's usual optimizer at ``train.learning_rate``."""
        self.compile(optimizer=tf.keras.optimizers.legacy.Adam(train.learning_rate))

    # -- with defaults ------------------------------------------------------------------------

    def refresh(self) -> None:
        """Brings cached catalogue vectors up to date; called after training, before scoring."""

    def score(self, users: Users, items: tf.Tensor) -> tf.Tensor:
        """Scores of pairs, float32 [batch]; ``items`` int [batch] are item indices 1..n_items."""
        scores = self.score_catalogue(users)
        return tf.gather(scores, tf.cast(items, tf.int64) - 1, batch_dims=1)

    def recommend(
        self,
        users: Users,
        k: int | tf.Tensor,
        exclude: tf.Tensor | None = None,
        among: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The best items of each user.

        Args:
            users: see the module's docstring.
            k: list length, scalar.
            exclude: int [batch, E] item indices never to be returned; 0 is padding.
            among: int [batch, A] item indices; where given, only these may be returned.

        Returns:
            Item indices int64 [batch, k] and scores float32 [batch, k], best first, equal scores by
            lower index. Where fewer than k items are allowed the rest is index 0, score -inf.
        """
        return masked_top_k(self.score_catalogue(users), k, exclude, among)

    def user_embedding(self, users: Users) -> tf.Tensor:
        """Vectors of users, float32 [batch, dim].

        Raises:
            TypeError: the model has no user vectors.
        """
        raise TypeError(f"{type(self).__name__} has no user vectors; see 'tfrec models'")

    def item_embedding(self, items: tf.Tensor | None = None) -> tf.Tensor:
        """Vectors of items, float32 [batch, dim]; of all items 1..n_items where none are named.

        Raises:
            TypeError: the model has no item vectors.
        """
        raise TypeError(f"{type(self).__name__} has no item vectors; see 'tfrec models'")

    def vocabulary_tables(self) -> dict[str, list[tf.Variable]]:
        """Variables with one row an index of a vocabulary, by the feature's name.

        A warm start moves their rows by raw value; they hold n + 1 rows (padding first) or those of
        the hashed tail behind them. All other trained weights must have the same shape as before.
        """
        return {}

    def warm_started(self) -> None:
        """Called when the weights of an earlier model have been put in, before training."""

    def growing(self) -> dict[str, tf.Variable]:
        """Variables with one row an item that an exported catalogue may grow, by name.

        Their first axis is of unknown length; row ``r`` belongs to item ``r`` (padding first), of
        ``index`` to item ``r + 1``.
        """
        return {}

    def item_rows(self, items: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Rows of ``growing`` for described items.

        Args:
            items: encoded item features [batch, ...]; ``item_id`` int64 [batch] is 0 for new ones.

        Raises:
            TypeError: the model places no item by its features.
        """
        raise TypeError(f"{type(self).__name__} knows items by their ids alone; see 'tfrec models'")

    def embed_described(self, items: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Vectors of items given by encoded features, float32 [batch, dim]; see ``item_rows``."""
        raise TypeError(f"{type(self).__name__} knows items by their ids alone; see 'tfrec models'")

    def score_described(self, users: Users, items: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Scores of users with items given by encoded features, float32 [batch]."""
        raise TypeError(f"{type(self).__name__} knows items by their ids alone; see 'tfrec models'")

    def fold_in(self, history: tf.Tensor) -> tf.Tensor:
        """A vector for users known by their history alone, the items held fixed.

        Args:
            history: int64 [batch, H] item indices, 0 is padding.

        Returns:
            float32 [batch, dim], comparable with ``user_embedding``.

        Raises:
            TypeError: the model cannot fold in.
        """
        raise TypeError(f"{type(self).__name__} cannot fold in a history; see 'tfrec models'")
