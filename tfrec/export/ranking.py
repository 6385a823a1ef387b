"""The ranking SavedModel: raw ids and features in, a score out, stock operations only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.export.raw import EXAMPLES, SCORE, known_items
from tfrec.features.encode import recent
from tfrec.features.encoder import Encoder, parse_examples, raw_specs
from tfrec.features.image_cnn import present_name, vector_name
from tfrec.features.image_prepare import image_features
from tfrec.schema import HISTORY, ITEM_ID

SEED, DRAWS = "seed", "draws"  # inputs of ``rank_sample``


class RankingModule(tf.Module):
    """A trained ranker behind its encoder.

    Signatures:

    - ``rank``: ``user_id``, ``item_id`` string [batch]; ``history`` string [batch, H] ('' behind)
      where the ranker reads one; raw user and context features by name. The item's features are
      those of the catalogue. A missing value is '' or NaN; unknown ids are allowed.
    - ``serving_default``: ``examples`` string [batch], serialized tf.Examples with all raw
      features, the item's too; images alone are those of the catalogue.

    Both give ``score`` float32 [batch], a probability or a rating; a multi-task ranker gives each
    objective by its name, too: a probability, a rating, or the expected spend.

    - ``rank_sample``, of a ranker with ``last_layer_prior``: as ``rank``, with ``seed`` int64
      [batch] and ``draws`` int32 [] -> ``score`` float32 [batch, draws], scores under weights drawn
      from the posterior. Rows of one seed have the same weights: give all candidates of a request
      one seed, and draw 0 is a Thompson sample of the request.

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
        self._asked = tuple(f for f in data.features if f.kind != "image")
        # The weights are saved, the Keras object is not: it would write its own traces beside ours.
        self.weights = list(model.weights)
        self._model = lambda inputs: _answers(model, inputs)
        self._parts = getattr(model, "last_layer_inputs", None)
        self.posterior = getattr(model, "posterior", None)
        images = image_features(data.features)
        of_images = [n for f in images for n in (f.name, present_name(f))]
        self.catalogue = {
            name: tf.Variable(values, trainable=False, name=f"catalogue_{name}")
            for name, values in data.items.items()
            if name != ITEM_ID and name not in of_images
        }
        # Of an image the vector is kept, which no request brings.
        self.looks = {
            vector_name(f): tf.Variable(layer.pool_catalogue(data.items), trainable=False)
            for f in images
            if (layer := _image_layers(model).get(f.name)) is not None
        }

    def _encode(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        encoded = self.encoder({name: v for name, v in raw.items() if name != HISTORY})
        if self.history_length:
            history = known_items(self.encoder, raw[HISTORY], self.n_items)
            encoded[HISTORY] = recent(history, self.history_length)
        rows = encoded[ITEM_ID]
        return encoded | {name: tf.gather(values, rows) for name, values in self.looks.items()}

    def rank(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores of pairs from plain tensors; see the class."""
        return self._model(self._pairs(raw))

    def _pairs(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Encoded features of pairs, those of the items from the catalogue."""
        encoded = self._encode(raw)
        for name, values in self.catalogue.items():
            encoded[name] = tf.gather(values, encoded[ITEM_ID])
        return encoded

    def rank_sample(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores of pairs under drawn weights; see the class."""
        seed, draws = raw.pop(SEED), raw.pop(DRAWS)
        assert self._parts is not None
        assert self.posterior is not None
        return {SCORE: self.posterior.draws(*self._parts(self._pairs(raw)), seed, draws)}

    def rank_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores of rows from serialized tf.Examples; see the class."""
        raw = parse_examples(examples, self._asked, history=self.history_length > 0)
        return self._model(self._encode(raw))


def _answers(model: Any, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """``score`` and, of a multi-task ranker, every objective."""
    if not hasattr(model, "objective_scores"):
        return {SCORE: model(inputs, training=False)}
    found = model.objective_scores(inputs)
    # The same tensor under two names would be one output of the signature.
    return {SCORE: tf.identity(found[model.primary]), **found}


def _image_layers(model: Any) -> dict[str, Any]:
    """The ``ImageEncoder`` of each image feature that a ranker reads."""
    return dict(getattr(getattr(model, "deep", None), "images", {}))


def ranking_signatures(module: RankingModule) -> dict[str, Any]:
    """The traced signatures by name."""
    features = module._features
    asked = (*features.of("user"), *features.of("context"), features[ITEM_ID])
    rank = tf.function(module.rank, autograph=False)
    examples = tf.function(module.rank_examples, autograph=False)
    specs = raw_specs(asked, module.history_length > 0)
    sample = {}
    if module.posterior is not None:
        sampled = tf.function(module.rank_sample, autograph=False)
        sample["rank_sample"] = sampled.get_concrete_function(
            **specs,
            seed=tf.TensorSpec([None], tf.int64, SEED),
            draws=tf.TensorSpec([], tf.int32, DRAWS),
        )
    return {
        **sample,
        "rank": rank.get_concrete_function(**specs),
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
