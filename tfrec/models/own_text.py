"""Items asked by their own text: training data for search that costs no event.

Few queries are ever logged, and they hold few of a catalogue's words. A part of an item's own text,
asked as a query that this item answers, teaches both towers which words tell items apart and keeps
apart those that no logged query holds: the inverse cloze task (Lee et al. 2019, arXiv:1906.00300),
with the words left in the text, as a search mostly names its answers by their words.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tfrec.features.token_noise import random_span
from tfrec.schema import Feature, FeatureTable


def asked_texts(features: FeatureTable) -> tuple[Feature, ...]:
    """Context features that read the text of an item: each shares an item's feature."""
    items = {f.name for f in features.of("item") if f.kind == "text"}
    return tuple(f for f in features.of("context") if f.shares in items)


def own_queries(
    asked: tuple[Feature, ...], catalogue: Mapping[str, tf.Tensor], items: tf.Tensor
) -> dict[str, tf.Tensor]:
    """A random part of each item's text, as the encoded query.

    Args:
        asked: as ``asked_texts`` gives them.
        catalogue: encoded item features int64 [n_items + 1, n] by name.
        items: int64 [item], indices.

    Returns:
        by name of the context feature, int64 [item, max_length]; all 0 where the item has no text.
    """
    return {
        feature.name: random_span(
            tf.cast(tf.gather(catalogue[str(feature.shares)], items), tf.int64), feature.max_length
        )
        for feature in asked
    }
