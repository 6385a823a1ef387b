"""Where candidates come from: the retrieval model, what is like the last items, what is popular."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from tfrec.config.recommender import RecommenderConfig
from tfrec.export.graphs import one_graph
from tfrec.export.query import QUERY, QUERY_VECTOR
from tfrec.export.raw import EXCLUDE, K
from tfrec.export.recommender.catalogue import Catalogue
from tfrec.export.recommender.filters import is_member
from tfrec.features.encode import recent
from tfrec.schema import ITEM_ID

NAMES = ("", "retrieval", "similar", "popular", "fallback", "include")
CODES = {name: code for code, name in enumerate(NAMES)}


class Request(NamedTuple):
    """One batch of requests, in indices.

    Attributes:
        raw: the inputs.
        history: int64 [batch, H], item indices, 0 where unknown.
        banned: int64 [batch, E], not to be answered: what is excluded and what was seen.
        excluded: int64 [batch, E], the request's own exclusions alone.
        included: int64 [batch, I], what the list must hold; 0 where that cannot be shown.
        filtered: bool [], whether any row narrows the catalogue.
        allowed: bool [batch, n_items + 1] where ``filtered``, else [batch, 0].
        k: int32 [], list length.
    """

    raw: Mapping[str, tf.Tensor]
    history: tf.Tensor
    banned: tf.Tensor
    excluded: tf.Tensor
    included: tf.Tensor
    filtered: tf.Tensor
    allowed: tf.Tensor
    k: tf.Tensor


class Sources(tf.Module):
    """The sources of one recommender.

    Args:
        config: how many candidates of each.
        catalogue: the items.
        calls: signatures of the retrieval model.
        specs: their inputs by name.
        index: over the vectors of ``catalogue``'s items; None where the model's score is no inner
            product: then its own ``recommend`` is asked, and nothing is known to be similar.
    """

    def __init__(
        self,
        config: RecommenderConfig,
        catalogue: Catalogue,
        calls: Mapping[str, Callable[..., Any]],
        specs: Mapping[str, Mapping[str, tf.TensorSpec]],
        index: Any,
    ) -> None:
        super().__init__(name="sources")
        self._config = config
        # One of the signatures: whatever a module keeps is written with it.
        self._ask = calls["recommend" if index is None else QUERY_VECTOR]
        self._users = [n for n in specs["recommend"] if n not in (EXCLUDE, K)]
        self.catalogue, self.index = catalogue, index
        self._found = one_graph(self._under_filters)

    def candidates(self, request: Request) -> tuple[tf.Tensor, tf.Tensor]:
        """Distinct candidates and what gave each first.

        Returns:
            Item indices int64 [batch, candidate] and source codes int32 of the same shape: what the
            list must hold, then in the order of the sources; 0 behind where a row has fewer.
        """
        found = [request.included]
        sources = [tf.fill(tf.shape(request.included), CODES["include"])]
        for name, count in self._config.sources.items():
            wanted = tf.minimum(tf.maximum(count, request.k), self.catalogue.n_items)
            items = getattr(self, f"_{name}")(request, wanted)
            found.append(items)
            sources.append(tf.fill(tf.shape(items), CODES[name]))
        items, codes = tf.concat(found, axis=1), tf.concat(sources, axis=1)
        most = tf.maximum(self._config.candidates, request.k)
        items, codes = compact(items, codes, most + tf.shape(request.included)[1])
        # Each row has as many more as it must hold: empty strings in the request change nothing.
        held = tf.reduce_sum(tf.cast(request.included > 0, tf.int32), axis=1, keepdims=True)
        kept = tf.range(tf.shape(items)[1])[tf.newaxis] < most + held
        return tf.where(kept, items, tf.zeros_like(items)), tf.where(kept, codes, 0)

    # -- one by one ---------------------------------------------------------------------------

    def _search(
        self, request: Request, queries: tf.Tensor, k: tf.Tensor, rows: tf.Tensor
    ) -> tf.Tensor:
        """The index under the request's exclusions and filters; ``rows`` maps queries to users."""
        narrowing = (request.filtered, tf.gather(request.allowed, rows))
        return self._found(queries, k, tf.gather(request.banned, rows), *narrowing)

    def _under_filters(
        self,
        queries: tf.Tensor,
        k: tf.Tensor,
        banned: tf.Tensor,
        filtered: tf.Tensor,
        allowed: tf.Tensor,
    ) -> tf.Tensor:
        return tf.cond(
            filtered,
            lambda: self.index.search(queries, k, exclude=banned, allowed=allowed[:, 1:])[0],
            lambda: self.index.search(queries, k, exclude=banned)[0],
        )

    def _retrieval(self, request: Request, count: tf.Tensor) -> tf.Tensor:
        raw = {n: request.raw[n] for n in self._users}
        if self.index is not None:
            query = self._ask(**raw)[QUERY]
            return self._search(request, query, count, tf.range(tf.shape(query)[0]))
        # The model knows no filters: where there are any, it is asked for everything.
        k = tf.where(request.filtered, self.catalogue.n_items, count)
        exclude = tf.gather(self.catalogue.item_ids, request.banned)
        answer = self._ask(**raw, exclude=exclude, k=k)
        items = self.catalogue.positions(answer[ITEM_ID])
        kept = self._admitted(request, items)
        return compact(kept, tf.zeros_like(kept, tf.int32), count)[0]

    def _similar(self, request: Request, count: tf.Tensor) -> tf.Tensor:
        last = recent(request.history, self._config.recent)
        batch, width = tf.shape(last)[0], self._config.recent
        each = (count + width - 1) // width
        flat = tf.reshape(last, [-1])
        vectors = self.index.vectors_of(tf.cast(flat, tf.int32))
        queries = tf.math.l2_normalize(vectors, axis=1)
        rows = tf.repeat(tf.range(batch), width)
        present = tf.where(flat > 0)[:, 0]
        found = self._search(request, tf.gather(queries, present), each, tf.gather(rows, present))
        shape = tf.stack([tf.size(flat), each])
        found = tf.scatter_nd(present[:, tf.newaxis], found, tf.cast(shape, tf.int64))
        # The newest item's neighbours first, and an item is not its own neighbour.
        found = tf.reverse(tf.reshape(found, [batch, width, each]), [1])
        found = tf.reshape(found, [batch, -1])
        return tf.where(is_member(found, last), tf.zeros_like(found), found)

    def _popular(self, request: Request, count: tf.Tensor) -> tf.Tensor:
        return self.popular(request, count, request.banned)

    def popular(self, request: Request, count: tf.Tensor, banned: tf.Tensor) -> tf.Tensor:
        """Most popular allowed items, int64 [batch, count]; 0 behind where there are fewer.

        Args:
            request: its filters hold.
            count: int32 [].
            banned: int64 [batch, E], left out.
        """
        order = self.catalogue.popular
        all_of_them = tf.shape(order)[0]
        # Without a filter at most E of the first count + E are banned.
        enough = tf.minimum(all_of_them, count + tf.shape(banned)[1])
        head = order[: tf.where(request.filtered, all_of_them, enough)]
        items = tf.repeat(head[tf.newaxis], tf.shape(banned)[0], axis=0)
        items = tf.where(is_member(items, banned), tf.zeros_like(items), items)
        items = self._admitted(request, items)
        return compact(items, tf.zeros_like(items, tf.int32), count, distinct=True)[0]

    def _admitted(self, request: Request, items: tf.Tensor) -> tf.Tensor:
        """Items that the filters allow; the others become 0."""
        return tf.cond(
            request.filtered,
            lambda: tf.where(
                tf.gather(request.allowed, items, batch_dims=1), items, tf.zeros_like(items)
            ),
            lambda: items,
        )


def compact(
    items: tf.Tensor, codes: tf.Tensor, width: tf.Tensor, distinct: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves zeros (and repetitions) behind, in order, and cuts.

    Args:
        items: int64 [batch, n]; 0 is nothing.
        codes: int32 [batch, n], what goes along.
        width: most columns, int32 [].
        distinct: True where no item is repeated, to save the look.

    Returns:
        int64 and int32 [batch, min(n, width)].
    """
    if not distinct:
        order = tf.argsort(items, axis=1, stable=True)
        ordered = tf.gather(items, order, batch_dims=1)
        again = tf.equal(ordered[:, 1:], ordered[:, :-1])
        again = tf.pad(again, [[0, 0], [tf.minimum(tf.shape(items)[1], 1), 0]])
        again = again[:, : tf.shape(items)[1]]
        back = tf.argsort(order, axis=1)
        items = tf.where(tf.gather(again, back, batch_dims=1), tf.zeros_like(items), items)
    front = tf.argsort(tf.cast(tf.equal(items, 0), tf.int32), axis=1, stable=True)[:, :width]
    items = tf.gather(items, front, batch_dims=1)
    codes = tf.gather(codes, front, batch_dims=1)
    return items, tf.where(items > 0, codes, tf.zeros_like(codes))
