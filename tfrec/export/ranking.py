"""The ranking SavedModel: raw ids and features in, a score out, stock operations only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.export.raw import known_items
from tfrec.features.encode import recent
from tfrec.features.encoder import Encoder, parse_examples, raw_specs
from tfrec.schema import HISTORY, ITEM_ID

EXAMPLES, SCORE = "examples", "score"


class RankingModule(tf.Module):
    """A trained ranker behind its encoder.

    Signatures:

    - ``rank``: ``user_id``, ``item_id`` string [batch]; ``history`` string [batch, H] ('' behind)
      where the ranker reads one; raw user and context features by name. The item's features are
      those of the catalogue. A missing value is '' or NaN; unknown ids are allowed.
    - ``serving_default``: ``examples`` string [batch], serialized tf.Examples with all raw
      features, the item's too.

    Both give ``score`` float32 [batch]: a probability, or a rating.

    Args:
        model: trained.
        data: what it was trained on; supplies the catalogue.
        encoder: raw columns to indices.
    """

    def __init__(self, model: Any, data: RetrievalData, encoder: Encoder) -> None:
        super().__init__(name="ranking")
        self.encoder = encoder
        self.n_items = data.n_items
        self.history_length = int(model.history_length)
        self._features = data.features
        # The weights are saved, the Keras object is not: it would write its own traces beside ours.
        self.weights = list(model.weights)
        self._score = lambda inputs: model(inputs, training=False)
        self.catalogue = {
            name: tf.Variable(values, trainable=False, name=f"catalogue_{name}")
            for name, values in data.items.items()
            if name != ITEM_ID
        }

    def _encode(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        encoded = self.encoder({name: v for name, v in raw.items() if name != HISTORY})
        if self.history_length:
            history = known_items(self.encoder, raw[HISTORY], self.n_items)
            encoded[HISTORY] = recent(history, self.history_length)
        return encoded

    def rank(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores of pairs from plain tensors; see the class."""
        encoded = self._encode(raw)
        for name, values in self.catalogue.items():
            encoded[name] = tf.gather(values, encoded[ITEM_ID])
        return {SCORE: self._score(encoded)}

    def rank_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores of rows from serialized tf.Examples; see the class."""
        raw = parse_examples(examples, self._features, history=self.history_length > 0)
        return {SCORE: self._score(self._encode(raw))}


def ranking_signatures(module: RankingModule) -> dict[str, Any]:
    """The traced signatures by name."""
    features = module._features
    asked = (*features.of("user"), *features.of("context"), features[ITEM_ID])
    rank = tf.function(module.rank, autograph=False)
    examples = tf.function(module.rank_examples, autograph=False)
    return {
        "rank": rank.get_concrete_function(**raw_specs(asked, module.history_length > 0)),
        "serving_default": examples.get_concrete_function(
            examples=tf.TensorSpec([None], tf.string, EXAMPLES)
        ),
    }


def export_ranking(model: Any, data: RetrievalData, encoder: Encoder, folder: str | Path) -> Path:
    """Writes the SavedModel; ``tf.saved_model.load`` reads it with TensorFlow alone.

    Args:
        model: a trained ranker, as ``fit_ranking`` returns it.
        data: what it was trained on.
        encoder: the encoder its inputs were made with.
        folder: of the SavedModel; made if it is not there.

    Returns:
        ``folder``.

    Raises:
        ValueError: the encoder knows another catalogue than ``data``.
    """
    if encoder.sizes[ITEM_ID] != data.sizes[ITEM_ID]:
        raise ValueError(
            f"encoder and data share one catalogue; the encoder has {encoder.sizes[ITEM_ID]} item "
            f"indices, the data {data.sizes[ITEM_ID]}; pass the encoder that made the data"
        )
    module = RankingModule(model, data, encoder)
    tf.saved_model.save(module, str(folder), signatures=ranking_signatures(module))
    return Path(folder)
