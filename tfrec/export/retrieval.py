"""The retrieval SavedModel: raw ids and features in, raw item ids out, stock operations only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfrec.data.encoded import RetrievalData
from tfrec.export.feature_table import write_features
from tfrec.export.graphs import shared_graphs
from tfrec.export.query import query_signatures
from tfrec.export.raw import (
    DEFAULT_K,
    EXAMPLES,
    EXCLUDE,
    EXCLUDE_SEEN,
    ITEM_ROWS,
    SCORE,
    AddedItems,
    K,
    known_items,
    list_length,
    lookup_items,
    named_items,
    string_table,
)
from tfrec.features.encode import recent
from tfrec.features.encoder import Encoder, parse_examples, raw_specs
from tfrec.models.base import Recommender
from tfrec.retrieval.top_k import masked_top_k
from tfrec.schema import HISTORY, ITEM_ID, USER_ID
from tfrec.training.warm_start import write_manifest

EMBEDDING = "embedding"


class RetrievalModule(tf.Module):
    """A trained model behind its encoder; see docs/architecture.md for the signatures.

    Args:
        model: trained and refreshed.
        data: what it was trained on; supplies the item ids.
        encoder: raw columns to indices.
        titles: display names by item index, n_items + 1 of them; None leaves the output out.
        exclude_seen: whether ``recommend_examples`` leaves the history out.
    """

    def __init__(
        self,
        model: Recommender,
        data: RetrievalData,
        encoder: Encoder,
        titles: Sequence[str] | None = None,
        exclude_seen: bool = True,
    ) -> None:
        super().__init__(name="retrieval")
        # The weights are saved, the Keras object is not: it would write its own traces beside ours.
        self.weights = list(model.weights)
        self._model = lambda: model
        self.encoder = encoder
        self.n_items = data.n_items
        # Where features place items, the catalogue can be given new ones: ``tfrec index add``.
        self.growing = dict(model.growing()) if model.content else {}
        self.added = AddedItems() if model.content else None
        grows = model.content
        self.item_ids = string_table(data.item_ids, "item_ids", grows=grows)
        self.titles = None if titles is None else string_table(titles, "titles", grows=grows)
        self.exclude_seen = tf.Variable(exclude_seen, trainable=False, name=EXCLUDE_SEEN)
        self._item_features = data.features.of("item", ids=False)
        self._width = max(int(model.history_length), 1)
        self._features = (*data.features.of("user"), *data.features.of("context"))

    def user_specs(self) -> dict[str, tf.TensorSpec]:
        """What a signature takes of a user: raw columns by name."""
        return raw_specs(self._features, history=True)

    def item_specs(self) -> dict[str, tf.TensorSpec]:
        """What a signature takes of an item described by its features: raw columns by name."""
        return raw_specs(self._item_features, history=False)

    def positions(self, ids: tf.Tensor) -> tf.Tensor:
        """Places in the catalogue, int64, of raw item ids (string, any shape); 0 of unknown ones.

        1..n_items are the vocabulary, items added later lie behind them.
        """
        known = known_items(self.encoder, ids, self.n_items)
        if self.added is None:
            return known
        return tf.where(known > 0, known, self.added.find(ids, self.item_ids))

    def signatures(self) -> dict[str, Any]:
        """The traced signatures by name."""
        return retrieval_signatures(self)

    def parse(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same columns out of serialized tf.Examples."""
        return parse_examples(examples, self._features, history=True)

    def _users(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Raw user columns to what the model reads."""
        users = self.encoder({n: v for n, v in raw.items() if n != HISTORY})
        users[HISTORY] = recent(self.positions(raw[HISTORY]), self._width)
        return users

    def _answer(self, indices: tf.Tensor, scores: tf.Tensor) -> dict[str, tf.Tensor]:
        return named_items(self.item_ids, self.titles, indices, scores)

    def recommend(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Best items; see the class."""
        exclude = self.positions(raw.pop(EXCLUDE))
        k = list_length(raw.pop(K))
        return self._answer(*self._model().recommend(self._users(raw), k, exclude=exclude))

    def recommend_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """As ``recommend`` from serialized tf.Examples; see ``exclude_seen``."""
        raw = self.parse(examples)
        exclude = tf.where(self.exclude_seen, self.positions(raw[HISTORY]), 0)
        return self._answer(*self._model().recommend(self._users(raw), DEFAULT_K, exclude=exclude))

    def score(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores of pairs; -inf for items that the catalogue does not hold."""
        items = self.positions(raw.pop(ITEM_ID))
        scores = self._model().score(self._users(raw), tf.maximum(items, 1))
        return {SCORE: tf.where(items > 0, scores, float("-inf"))}

    def embed_user(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Vectors of users."""
        return {EMBEDDING: self._model().user_embedding(self._users(raw))}

    def fold_in(self, history: tf.Tensor, exclude: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Vectors and best items of users who are known by a history of raw ids alone."""
        items = recent(self.positions(history), self._width)
        nobody = {USER_ID: tf.zeros([tf.shape(items)[0]], tf.int64), HISTORY: items}
        banned = self.positions(exclude)
        found = self._model().recommend(nobody, list_length(k), exclude=banned)
        return {EMBEDDING: self._model().fold_in(items), **self._answer(*found)}

    def embed_item(self, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """Vectors of items."""
        model = self._model()
        items = self.positions(item_id) if model.content else lookup_items(self.encoder, item_id)
        return {EMBEDDING: model.item_embedding(items)}

    # -- items described by their features ----------------------------------------------------

    def _described(self, raw: dict[str, tf.Tensor], item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encoded features of items; their index is that of the vocabulary, 0 for new ones."""
        columns = self.encoder({f.name: raw[f.name] for f in self._item_features})
        return {**columns, ITEM_ID: known_items(self.encoder, item_id, self.n_items)}

    def embed_item_features(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Vectors of items that are known by their features alone."""
        nobody = tf.fill([tf.shape(next(iter(raw.values())))[0]], "")
        return {EMBEDDING: self._model().embed_described(self._described(raw, nobody))}

    def item_rows(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """What ``growing`` holds of items given by id (where known) and features."""
        return self._model().item_rows(self._described(raw, raw[ITEM_ID]))

    def score_features(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """As ``score``, the item's features being those given in place of the catalogue's."""
        items = self._described(raw, raw.pop(ITEM_ID))
        users = {n: v for n, v in raw.items() if n in self.user_specs()}
        return {SCORE: self._model().score_described(self._users(users), items)}

    def similar(self, item_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Items whose vectors point the same way (cosine), the item itself left out."""
        items = self.positions(item_id)
        every = tf.math.l2_normalize(self._model().item_embedding(), axis=-1)
        mine = tf.math.l2_normalize(self._model().item_embedding(items), axis=-1)
        scores = tf.matmul(mine, every, transpose_b=True)
        scores = tf.where(items[:, tf.newaxis] > 0, scores, float("-inf"))
        return self._answer(*masked_top_k(scores, list_length(k), exclude=items[:, tf.newaxis]))


def _has_vectors(model: Recommender) -> bool:
    return type(model).item_embedding is not Recommender.item_embedding


def _has_user_vectors(model: Recommender) -> bool:
    return type(model).user_embedding is not Recommender.user_embedding


def retrieval_signatures(module: RetrievalModule) -> dict[str, Any]:
    """The traced signatures by name."""
    # Most of them begin with the same user: a tower is traced once, not ten times.
    model = module._model()
    with (
        shared_graphs(model, *model.shared),
        shared_graphs(module, "_users", "_described"),
    ):
        return _traced(module)


def _traced(module: RetrievalModule) -> dict[str, Any]:
    user_side = module.user_specs()
    one_k = tf.TensorSpec(None, tf.int32, K)
    items = tf.TensorSpec([None], tf.string, ITEM_ID)
    exclude = tf.TensorSpec([None, None], tf.string, EXCLUDE)

    def trace(function: Callable[..., Any], **specs: tf.TensorSpec) -> Any:
        return tf.function(function, autograph=False).get_concrete_function(**specs)

    recommend = trace(module.recommend, **user_side, exclude=exclude, k=one_k)
    signatures = {
        "serving_default": recommend,
        "recommend": recommend,
        "recommend_examples": trace(
            module.recommend_examples, examples=tf.TensorSpec([None], tf.string, EXAMPLES)
        ),
        "score": trace(module.score, **user_side, item_id=items),
    }
    if _has_user_vectors(module._model()):
        signatures["embed_user"] = trace(module.embed_user, **user_side)
    if type(module._model()).fold_in is not Recommender.fold_in:
        history = tf.TensorSpec([None, None], tf.string, HISTORY)
        signatures["fold_in"] = trace(module.fold_in, history=history, exclude=exclude, k=one_k)
    if _has_vectors(module._model()):
        signatures["embed_item"] = trace(module.embed_item, item_id=items)
        signatures["similar"] = trace(module.similar, item_id=items, k=one_k)
    if module._model().content:
        item_side = module.item_specs()
        signatures["embed_item_features"] = trace(module.embed_item_features, **item_side)
        signatures[ITEM_ROWS] = trace(module.item_rows, item_id=items, **item_side)
        signatures["score_features"] = trace(
            module.score_features, **user_side, item_id=items, **item_side
        )
    signatures.update(query_signatures(module))
    return signatures


def retrieval_module(
    model: Recommender,
    data: RetrievalData,
    encoder: Encoder,
    titles: Sequence[str] | None = None,
    exclude_seen: bool = True,
) -> RetrievalModule:
    """The module that a model is saved as; that of a rating model takes ratings too."""
    from tfrec.export.rating import RatingModule
    from tfrec.models.rating import RatingRecommender

    rates = isinstance(model, RatingRecommender)
    kind = RatingModule if rates else RetrievalModule
    return kind(model, data, encoder, titles, exclude_seen)


def export_retrieval(
    model: Recommender,
    data: RetrievalData,
    encoder: Encoder,
    folder: str | Path,
    titles: Sequence[str] | None = None,
    *,
    exclude_seen: bool = True,
) -> Path:
    """Writes the SavedModel.

    Args:
        model: trained.
        data: what it was trained on.
        encoder: the encoder its inputs were made with.
        folder: of the SavedModel; made if it is not there.
        titles: display names by item index (n_items + 1, entry 0 ''), e.g. of ``title_table``.
        exclude_seen: whether ``recommend_examples``, which is told nothing to exclude, leaves the
            history out; a configuration's ``gate.exclude_seen``. It is kept in the SavedModel's
            variable ``exclude_seen``, where an index put around it and ``tfrec recommend`` find it.

    Returns:
        ``folder``.

    Raises:
        ValueError: ``titles`` of another length.
    """
    if titles is not None and len(titles) != data.n_items + 1:
        raise ValueError(
            f"titles holds one name an item index, {data.n_items + 1} with padding; "
            f"got {len(titles)}; use tfrec.export.title_table"
        )
    model.refresh()
    module = retrieval_module(model, data, encoder, titles, exclude_seen)
    tf.saved_model.save(module, str(folder), signatures=module.signatures())
    write_manifest(folder, model, encoder.vocabulary)
    write_features(folder, encoder.features)
    return Path(folder)


def title_table(item_ids: Sequence[str], by_id: dict[str, str]) -> list[str]:
    """Display names by item index; an item without one shows its id."""
    return ["", *(by_id.get(i) or i for i in list(item_ids)[1:])]


__all__ = [
    "RetrievalModule",
    "export_retrieval",
    "retrieval_module",
    "retrieval_signatures",
    "title_table",
]
