"""The rules that a list had to break: counted in the list itself, whoever filled it.

A list is not left empty for a rule. What gives way, in this order: the limits of
``rerank.max_per_group``; that seen items do not come again; the request's own filters, but for
those of ``recommender.strict``. What the request excludes and what is sold out never comes back.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfrec.config import Config
from tfrec.export.recommender.catalogue import Catalogue
from tfrec.export.recommender.filters import admits, is_member
from tfrec.export.recommender.inputs import AMONG
from tfrec.export.recommender.sources import Request

LIMIT, SEEN = "max_per_group.", "exclude_seen"


class Rules(tf.Module):
    """The rules of one recommender.

    Args:
        config: sections ``rerank`` and ``recommender``.
        catalogue: the items.
        among: item features that a request may filter by.

    Attributes:
        names: of the rules, in the order in which they give way.
    """

    def __init__(self, config: Config, catalogue: Catalogue, among: Sequence[str]) -> None:
        super().__init__(name="rules")
        self.catalogue = catalogue
        self._limits = dict(config.rerank.max_per_group)
        self._seen = not config.recommends_seen
        self._among = [name for name in among if name not in config.recommender.strict]
        self.names = (
            *(LIMIT + name for name in self._limits),
            *((SEEN,) if self._seen else ()),
            *(AMONG + name for name in self._among),
        )

    def broken(self, request: Request, items: tf.Tensor) -> tf.Tensor:
        """How many items of a list break each rule.

        Args:
            request: whose.
            items: int64 [batch, k], the list; 0 is nothing.

        Returns:
            int32 [batch, rule].
        """
        items = tf.pad(items, [[0, 0], [0, 1]])  # a list of no places has one to look at
        there = items > 0
        marks = [
            over_limit(tf.gather(self.catalogue.groups[name].codes, items), most)
            for name, most in self._limits.items()
        ]
        if self._seen:
            marks.append(is_member(items, request.history))
        for name in self._among:
            marks.append(~admits(self.catalogue.groups[name], request.raw[AMONG + name], items))
        if not marks:
            return tf.zeros([tf.shape(items)[0], 0], tf.int32)
        counts = [tf.reduce_sum(tf.cast(there & m, tf.int32), axis=1) for m in marks]
        return tf.stack(counts, axis=1)

    def gave_way(self, broken: tf.Tensor) -> tf.Tensor:
        """Bool [batch]: whether a filter of the request gave way. ``broken`` is that of a list."""
        return tf.reduce_any(broken[:, len(self.names) - len(self._among) :] > 0, axis=1)


def over_limit(groups: tf.Tensor, most: int) -> tf.Tensor:
    """Items that come when their group has had its share.

    Args:
        groups: int [batch, k, membership], the groups of each item of a list; 0 is none.
        most: items of a group that are fine.

    Returns:
        Bool [batch, k].
    """
    shape = tf.shape(groups)
    flat = tf.reshape(groups, [shape[0], shape[1] * shape[2]])
    # Sorted by group, an item's distance from its group's first is how many came before it.
    order = tf.argsort(flat, axis=1, stable=True)
    ordered = tf.gather(flat, order, batch_dims=1)
    before = tf.range(tf.shape(flat)[1]) - tf.searchsorted(ordered, ordered)
    before = tf.gather(before, tf.argsort(order, axis=1), batch_dims=1)
    return tf.reduce_any(tf.reshape((before >= most) & (flat > 0), shape), axis=2)
