"""The SavedModel of a rating model: raw ids and a rated history in, ratings and lists out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrec.data.encoded import HISTORY_WEIGHT, RetrievalData
from tfrec.export.raw import PREDICT, RATING, known_items
from tfrec.export.retrieval import RetrievalModule, export_retrieval
from tfrec.features.encoder import Encoder
from tfrec.models.rating import RatingRecommender
from tfrec.schema import HISTORY, ITEM_ID


class RatingModule(RetrievalModule):
    """A trained rating model behind its encoder.

    Beside a retrieval model's signatures it has ``predict``: ``user_id`` string [batch],
    ``history`` string [batch, H], ``history_weight`` float32 [batch, H] (the ratings of the
    history, NaN where unknown), user features, ``item_id`` string [batch] -> ``rating`` float32
    [batch], within the scale. The others take ``history_weight`` too. It may have fewer columns
    than ``history``; an item without a rating counts as rated by its mean. For an item that the
    vocabulary does not know ``predict`` answers the user's mean, ``score`` -inf.
    """

    def user_specs(self) -> dict[str, tf.TensorSpec]:
        weights = tf.TensorSpec([None, None], tf.float32, HISTORY_WEIGHT)
        return {**super().user_specs(), HISTORY_WEIGHT: weights}

    def parse(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {HISTORY_WEIGHT: tf.io.RaggedFeature(tf.float32)}
        weights = tf.io.parse_example(examples, spec)[HISTORY_WEIGHT]
        weights = weights.to_tensor(default_value=float("nan"))
        return {**super().parse(examples), HISTORY_WEIGHT: weights}

    def _users(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        weights = raw[HISTORY_WEIGHT]
        users = self.encoder({n: v for n, v in raw.items() if n not in (HISTORY, HISTORY_WEIGHT)})
        # The history stays as wide as it came: its ratings lie in the same places.
        users[HISTORY] = known_items(self.encoder, raw[HISTORY], self.n_items)
        users[HISTORY_WEIGHT] = weights
        return users

    def signatures(self) -> dict[str, Any]:
        items = tf.TensorSpec([None], tf.string, ITEM_ID)
        predict = tf.function(self.predict, autograph=False)
        return {
            **super().signatures(),
            PREDICT: predict.get_concrete_function(**self.user_specs(), item_id=items),
        }

    def predict(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Ratings of pairs; see the class."""
        items = known_items(self.encoder, raw.pop(ITEM_ID), self.n_items)
        return {RATING: self._model().predict_rating(self._users(raw), items)}


def observe_known(model: Any, data: RetrievalData) -> None:
    """Tells a trained rating model the validation ratings too; other models are left as they are.

    Models that answer known users by what they keep of them (``by: item``) are then served, as
    they are measured, with all that came before the test split.
    """
    if isinstance(model, RatingRecommender) and len(data.validation):
        model.observe(data.train.join(data.validation))


def export_rating(
    model: RatingRecommender,
    data: RetrievalData,
    encoder: Encoder,
    folder: str | Path,
    titles: Sequence[str] | None = None,
    *,
    exclude_seen: bool = True,
) -> Path:
    """Writes the SavedModel of a trained rating model; see ``export_retrieval``.

    Raises:
        TypeError: the model predicts no ratings.
    """
    if not isinstance(model, RatingRecommender):
        raise TypeError(
            f"{type(model).__name__} predicts no ratings; write it with export_retrieval"
        )
    return export_retrieval(model, data, encoder, folder, titles, exclude_seen=exclude_seen)
