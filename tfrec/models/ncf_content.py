"""Attributes of users and items in the NCF family: they add to each part's vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.models.item_tower import missing
from tfrec.models.ncf_parts import Part
from tfrec.schema import Feature, Role

Encoded = Mapping[str, tf.Tensor]


class Side(tf.keras.layers.Layer):
    """What the attributes of one side add to the vectors of every part, as in the towers.

    Args:
        role: ``user`` or ``item``.
        data: features and sizes.
        parts: whose vectors are added to.
    """

    def __init__(self, role: Role, data: RetrievalData, parts: Sequence[Part]) -> None:
        super().__init__(name=f"{role}_content")
        self.features: tuple[Feature, ...] = data.features.of(role, ids=False)
        self.embeddings = [part.embedding(role, data) for part in parts]
        self(self.absent(tf.constant(1)))  # all variables exist before the first step

    def absent(self, batch: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encoded columns of rows about which nothing is known."""
        columns: dict[str, tf.Tensor] = {}
        for feature in self.features:
            columns.update(missing(feature, batch))
        return columns

    def columns(self, arrays: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
        """The encoded columns of this side out of ``data.users`` or ``data.items``."""
        names = list(self.absent(tf.constant(1)))
        return {name: tf.constant(arrays[name]) for name in names}

    def told(self, given: Encoded, batch: tf.Tensor) -> dict[str, tf.Tensor]:
        """The columns of this side out of ``given``; those it lacks are missing for all rows."""
        return {name: given.get(name, none) for name, none in self.absent(batch).items()}

    def call(self, columns: Encoded) -> tf.Tensor:
        """Float32 [..., sum of the parts' widths] of encoded columns [...]."""
        return tf.concat([embed(columns) for embed in self.embeddings], axis=-1)

    def vocabulary_tables(self) -> dict[str, list[tf.Variable]]:
        """See ``Recommender.vocabulary_tables``."""
        tables: dict[str, list[tf.Variable]] = {}
        for embed in self.embeddings:
            for name, found in embed.vocabulary_tables().items():
                tables.setdefault(name, []).extend(found)
        return tables
