"""An inverted file of stock operations: cells of near vectors, of which a query looks into a few.

Jegou et al., "Product quantization for nearest neighbor search" (2011), section IV, describes the
structure. A query probes the cells whose centroids are nearest and scores what lies in them; with
``quantised`` first by 8-bit integers, then the best of them by the exact vectors.

Answers are complete: excluded and disallowed items are masked before the best are taken, and a row
whose cells cannot fill k places is answered by all vectors. Only *which* near items are missed is
approximate; ``tfrec.retrieval.build`` measures that. ``build_ivf`` there makes the index.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.retrieval.layout import BLOCK, Layout
from tfrec.retrieval.scan import best_first, exact_row, listed_row
from tfrec.retrieval.top_k import NEVER

REFINE = 4  # quantised: candidates re-scored exactly, in multiples of k
FILL = 4  # cells probed hold on average at least so many times the items asked for


class IvfIndex(tf.Module):
    """The index; ``search`` is that of ``tfrec.retrieval.brute_force.SearchIndex``.

    Args:
        vectors: float32 [n_items, dim].
        centroids: float32 [cells, dim]; cells are probed by largest inner product with the query.
        layout: which item lies where.
        probes: cells a query looks into.
        quantised: whether cells hold 8-bit integers; the exact vectors are kept beside them.
        grows: whether a SavedModel of it may be given variables of more items later.
        parallel: rows of a batch that are searched at the same time.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        centroids: np.ndarray,
        layout: Layout,
        probes: int,
        quantised: bool = False,
        parallel: int = 8,
        grows: bool = False,
    ) -> None:
        super().__init__(name="ivf")

        def kept(values: np.ndarray, name: str) -> tf.Variable:
            return tf.Variable(values, trainable=False, name=name)

        def by_item(values: np.ndarray, name: str) -> tf.Variable:
            shape = [None, *values.shape[1:]] if grows else None
            return tf.Variable(values, trainable=False, name=name, shape=shape)

        self.n_items, self.dim = vectors.shape
        self.cells = len(centroids)
        self.quantised = quantised
        self.grows = grows
        self.parallel = parallel
        self.centroids = kept(np.ascontiguousarray(centroids, np.float32), "centroids")
        self.probes = kept(np.array(probes, np.int32), "probes")
        self.first, self.blocks = kept(layout.first, "first"), kept(layout.blocks, "blocks")
        self.items = by_item(layout.items, "items")
        self.slot, self.cell = by_item(layout.slot, "slot"), by_item(layout.cell, "cell")
        self.exact: tf.Variable | None = None
        self.scales: tf.Variable | None = None
        if quantised:
            scale = np.maximum(np.abs(vectors).max(axis=1), 1e-30) / 127
            codes = np.rint(vectors / scale[:, None]).astype(np.int8)
            self.rows = by_item(layout.scatter(codes), "codes")
            self.scales = by_item(layout.scatter(scale.astype(np.float32)), "scales")
            self.exact = by_item(np.ascontiguousarray(vectors, np.float32), "exact")
        else:
            self.rows = by_item(layout.scatter(np.asarray(vectors, np.float32)), "rows")

    def count(self) -> tf.Tensor:
        """Items in the index, scalar int32; in a graph that grows, those of its variables."""
        if self.grows:
            return tf.shape(self.slot)[0] - 1
        return tf.constant(self.n_items)

    # -- searching ----------------------------------------------------------------------------

    def search(
        self,
        queries: tf.Tensor,
        k: int | tf.Tensor,
        exclude: tf.Tensor | None = None,
        among: tf.Tensor | None = None,
        allowed: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rows = tf.shape(queries)[0]
        # A loop over no rows has no shape: an empty batch is searched as one row of zeros.
        empty = tf.cast(tf.equal(rows, 0), tf.int32)
        queries, exclude, among, allowed = (
            None if x is None else tf.pad(x, [[0, empty], [0, 0]])
            for x in (queries, exclude, among, allowed)
        )
        batch = rows + empty
        k = tf.cast(k, tf.int32)
        width = tf.minimum(k, self.count())
        banned = tf.zeros([batch, 0], tf.int32) if exclude is None else tf.cast(exclude, tf.int32)
        # A scalar per row stands for "no mask": every row has the same structure in the loop.
        mask = tf.ones([batch, 0], tf.bool) if allowed is None else allowed
        masked = allowed is not None

        def over(function, *inputs: tf.Tensor):  # type: ignore[no-untyped-def]
            kinds = (tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32))
            return tf.map_fn(
                lambda row: function(*row),
                inputs,
                fn_output_signature=kinds,
                parallel_iterations=self.parallel,
            )

        def everything(query: tf.Tensor, ban: tf.Tensor, may: tf.Tensor):  # type: ignore[no-untyped-def]
            return exact_row(self.exact_scores(query), ban, may if masked else None, width)

        if among is not None:
            items, scores = over(
                lambda query, ban, may, only: listed_row(
                    tf.linalg.matvec(self.vectors_of(only), query),
                    only,
                    ban,
                    may if masked else None,
                    width,
                ),
                queries,
                banned,
                mask,
                self._inside(among),
            )
        else:
            cells = self._cells(queries, width + tf.shape(banned)[1])
            items, scores = over(
                lambda query, ban, may, own: self._probe(
                    query, own, ban, may if masked else None, width
                ),
                queries,
                banned,
                mask,
                cells,
            )
            short = tf.where(tf.reduce_any(tf.equal(items, 0), axis=1))

            def filled() -> tuple[tf.Tensor, tf.Tensor]:
                rows = [tf.gather(x, short[:, 0]) for x in (queries, banned, mask)]
                full = over(everything, *rows)
                return (
                    tf.tensor_scatter_nd_update(items, short, full[0]),
                    tf.tensor_scatter_nd_update(scores, short, full[1]),
                )

            items, scores = tf.cond(tf.size(short) > 0, filled, lambda: (items, scores))
        behind = [[0, 0], [0, k - width]]
        items = tf.reshape(items, [batch, width])[:rows]
        scores = tf.reshape(scores, [batch, width])[:rows]
        return (
            tf.pad(tf.cast(items, tf.int64), behind),
            tf.pad(scores, behind, constant_values=NEVER),
        )

    def _inside(self, indices: tf.Tensor) -> tf.Tensor:
        """Item indices int32, 0 where they are outside 1..n_items."""
        known = (indices >= 1) & (indices <= tf.cast(self.count(), indices.dtype))
        return tf.cast(tf.where(known, indices, tf.zeros_like(indices)), tf.int32)

    def _cells(self, queries: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
        """Cells to probe, nearest first, int32 [batch, probes]."""
        items = tf.cast(tf.maximum(self.count(), 1), tf.float32)
        fill = tf.cast(FILL * self.cells, tf.float32) / items
        needed = tf.cast(tf.math.ceil(tf.cast(wanted, tf.float32) * fill), tf.int32)
        probes = tf.minimum(tf.maximum(self.probes, needed), self.cells)
        near = tf.matmul(queries, self.centroids, transpose_b=True)
        return tf.math.top_k(near, probes, sorted=False).indices

    def _probe(
        self,
        query: tf.Tensor,
        cells: tf.Tensor,
        ban: tf.Tensor,
        may: tf.Tensor | None,
        width: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Best ``width`` items of one query's cells: int32 and float32 [width]."""
        first, count = tf.gather(self.first, cells), tf.gather(self.blocks, cells)
        blocks = tf.ragged.range(first, first + count).flat_values
        items = tf.reshape(tf.gather(self.items, blocks), [-1])
        rows = tf.reshape(tf.gather(self.rows, blocks), [-1, self.dim])
        if self.scales is None:
            scores = tf.linalg.matvec(rows, query)
        else:
            scores = tf.linalg.matvec(tf.cast(rows, tf.float32), query)
            scores *= tf.reshape(tf.gather(self.scales, blocks), [-1])
        keep = items > 0
        if may is not None:
            keep &= tf.gather(may, tf.maximum(items - 1, 0))
        scores = tf.where(keep, scores, NEVER)
        scores = self._forbid(scores, cells, first, count, ban)
        if self.exact is None:
            return best_first(scores, items, width)
        rough = tf.minimum(width * REFINE, tf.size(scores))
        found = tf.math.top_k(scores, rough, sorted=False)
        items = tf.where(found.values > NEVER, tf.gather(items, found.indices), 0)
        exact = tf.linalg.matvec(self.vectors_of(items), query)
        return best_first(tf.where(items > 0, exact, NEVER), items, width)

    def _forbid(
        self,
        scores: tf.Tensor,
        cells: tf.Tensor,
        first: tf.Tensor,
        count: tf.Tensor,
        ban: tf.Tensor,
    ) -> tf.Tensor:
        """-inf at the places of banned items: each is found by its slot, none is searched for."""
        begins = tf.cumsum(count, exclusive=True) * BLOCK
        shift = tf.tensor_scatter_nd_update(tf.fill([self.cells], -1), cells[:, tf.newaxis], begins)
        ban = self._inside(ban)
        cell = tf.gather(self.cell, ban)
        shift = tf.gather(shift, cell)
        place = shift + tf.gather(self.slot, ban) - tf.gather(self.first, cell) * BLOCK
        place = tf.boolean_mask(place, (ban > 0) & (shift >= 0))
        never = tf.fill(tf.shape(place), NEVER)
        return tf.tensor_scatter_nd_update(scores, place[:, tf.newaxis], never)

    # -- exact --------------------------------------------------------------------------------

    def vectors_of(self, items: tf.Tensor) -> tf.Tensor:
        """Exact vectors float32 [n, dim] of item indices int32 [n]; index 0 gives any vector."""
        if self.exact is not None:
            return tf.gather(self.exact, tf.maximum(items - 1, 0))
        return tf.gather(tf.reshape(self.rows, [-1, self.dim]), tf.gather(self.slot, items))

    def exact_scores(self, query: tf.Tensor) -> tf.Tensor:
        """Inner products of one query, float32 [dim], with all items, float32 [n_items]."""
        if self.exact is not None:
            return tf.linalg.matvec(self.exact, query)
        scores = tf.linalg.matvec(tf.reshape(self.rows, [-1, self.dim]), query)
        return tf.gather(scores, self.slot[1:])
