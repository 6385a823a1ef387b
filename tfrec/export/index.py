"""An index around an exported retrieval model, and its refresh without training.

The SavedModel that comes out answers the same signatures; ``recommend`` looks into the index. It is
made of a SavedModel alone, so new vectors (of new items, too) become a new version in seconds.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config.index import IndexConfig
from tfrec.export.query import (
    EXAMPLES,
    ITEM_VECTOR,
    QUERY,
    QUERY_EXAMPLES,
    QUERY_VECTOR,
    VECTOR,
)
from tfrec.export.raw import EXCLUDE, SCORE, K, list_length, named_items, string_table
from tfrec.retrieval.brute_force import SearchIndex
from tfrec.retrieval.build import IndexReport, build_ivf
from tfrec.schema import HISTORY, ITEM_ID

REPORT_FILE = "index.json"  # below ``assets.extra``, which servers leave alone
DEFAULT_K = 10  # list length of ``recommend_examples``
BLOCK = 65_536  # items whose vectors are asked for at a time

# Signatures that the index answers itself.
OWN = ("recommend", "recommend_examples", "serving_default", "score", "similar", ITEM_VECTOR)
# Would grow the catalogue of the model inside, which the index would not notice.
GROWING = ("item_rows",)
# Signatures that speak of users alone: kept when the items are others.
SAME_USERS = (QUERY_VECTOR, QUERY_EXAMPLES, "embed_user")


class IndexedRetrieval(tf.Module):
    """A retrieval SavedModel whose lists come from an index.

    Signatures, as docs/architecture.md has them: ``recommend`` (= ``serving_default``),
    ``recommend_examples``, ``score`` (the inner product), ``similar`` (cosine of the indexed
    vectors), ``item_vector``; the others are those of the model inside, but for
    ``item_rows``, which grows a catalogue: an index is refreshed in its place.

    Args:
        base: what keeps the resources of the model inside alive.
        calls: its signatures by name, functions of named tensors.
        item_ids: object [n_items + 1], entry 0 ''.
        titles: names by item index, or None.
        index: over the items' vectors.
        vectors: float32 [n_items, dim] by item index, or a function that gives them.
        samples: float32 [sample, dim] queries that recall was measured on; a refresh does again.
        report: of the index.
    """

    def __init__(
        self,
        base: Any,
        calls: dict[str, Callable[..., Any]],
        item_ids: np.ndarray,
        titles: np.ndarray | None,
        index: Any,
        samples: np.ndarray,
        report: IndexReport,
    ) -> None:
        super().__init__(name="indexed_retrieval")
        self.base = base
        self.calls = calls
        self.index = index
        self.item_ids = string_table(item_ids, "item_ids")
        self.titles = None if titles is None else string_table(titles, "titles")
        self.samples = tf.Variable(samples, trainable=False, name="samples")
        self.report = tf.Variable(json.dumps(report.as_dict()), trainable=False, name="report")
        keys = tf.constant([str(i) for i in item_ids[1:]], tf.string)
        values = tf.range(1, len(item_ids), dtype=tf.int64)
        self._places = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(keys, values), default_value=0
        )

    def _answer(self, indices: tf.Tensor, scores: tf.Tensor) -> dict[str, tf.Tensor]:
        return named_items(self.item_ids, self.titles, indices, scores)

    def recommend(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Best items of the index."""
        exclude = self._places.lookup(raw.pop(EXCLUDE))
        k = list_length(raw.pop(K))
        query = self.calls[QUERY_VECTOR](**raw)[QUERY]
        return self._answer(*self.index.search(query, k, exclude=exclude))

    def recommend_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """The same from serialized tf.Examples; the history is excluded."""
        asked = self.calls[QUERY_EXAMPLES](examples=examples)
        exclude = self._places.lookup(asked[HISTORY])
        return self._answer(*self.index.search(asked[QUERY], DEFAULT_K, exclude=exclude))

    def score(self, **raw: tf.Tensor) -> dict[str, tf.Tensor]:
        """Inner products of pairs; -inf for items that the index does not hold."""
        items = self._places.lookup(raw.pop(ITEM_ID))
        query = self.calls[QUERY_VECTOR](**raw)[QUERY]
        scores = tf.reduce_sum(query * self.index.vectors_of(tf.cast(items, tf.int32)), axis=1)
        return {SCORE: tf.where(items > 0, scores, float("-inf"))}

    def item_vector(self, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """Indexed vectors of items; zeros where unknown."""
        items = self._places.lookup(item_id)
        vectors = self.index.vectors_of(tf.cast(items, tf.int32))
        return {VECTOR: tf.where(items[:, tf.newaxis] > 0, vectors, 0.0)}

    def similar(self, item_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """Items whose indexed vectors point the same way; all are compared."""
        from tfrec.retrieval.top_k import masked_top_k

        items = self._places.lookup(item_id)
        every = self.index.vectors_of(tf.range(1, self.index.n_items + 1))
        mine = tf.math.l2_normalize(self.index.vectors_of(tf.cast(items, tf.int32)), axis=-1)
        scores = tf.matmul(mine, tf.math.l2_normalize(every, axis=-1), transpose_b=True)
        scores = tf.where(items[:, tf.newaxis] > 0, scores, float("-inf"))
        k = list_length(k)
        return self._answer(*masked_top_k(scores, k, exclude=items[:, tf.newaxis]))

    def signatures(self, specs: dict[str, dict[str, tf.TensorSpec]]) -> dict[str, Any]:
        """The traced signatures by name.

        Args:
            specs: inputs of the signatures of the model inside, by signature and name.
        """
        user = specs[QUERY_VECTOR]
        one_k = tf.TensorSpec(None, tf.int32, K)
        items = tf.TensorSpec([None], tf.string, ITEM_ID)
        exclude = tf.TensorSpec([None, None], tf.string, EXCLUDE)
        examples = tf.TensorSpec([None], tf.string, EXAMPLES)

        def trace(function: Callable[..., Any], **given: tf.TensorSpec) -> Any:
            return tf.function(function, autograph=False).get_concrete_function(**given)

        recommend = trace(self.recommend, **user, exclude=exclude, k=one_k)
        traced = {
            "serving_default": recommend,
            "recommend": recommend,
            "recommend_examples": trace(self.recommend_examples, examples=examples),
            "score": trace(self.score, **user, item_id=items),
            "similar": trace(self.similar, item_id=items, k=one_k),
            ITEM_VECTOR: trace(self.item_vector, item_id=items),
        }
        for name, call in self.calls.items():
            if name not in traced and name in specs:
                traced[name] = trace(_passed(call), **specs[name])
        return traced


def _passed(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **given: dict(call(**given))


class Loaded:
    """A retrieval SavedModel to put an index around, plain or indexed already.

    Args:
        folder: of one version.
        module: what ``tf.saved_model.load`` gave of it, where it is loaded already.

    Raises:
        ValueError: its model scores by no inner product.
    """

    def __init__(self, folder: str | Path, module: Any = None) -> None:
        module = tf.saved_model.load(str(folder)) if module is None else module
        signatures = dict(module.signatures)
        if QUERY_VECTOR not in signatures:
            raise ValueError(
                f"{folder} has no signature {QUERY_VECTOR!r}: an index needs a model whose score "
                f"is an inner product (two_tower, als, mf_*, sasrec, gru4rec, item2vec); its "
                f"signatures are {sorted(signatures)}"
            )
        self.module = module
        self.indexed = hasattr(module, "samples")
        # The resources of an indexed model's inside, without its old index.
        self.base = module.base if self.indexed else module
        calls: dict[str, Any] = dict(module.calls) if self.indexed else signatures
        self.calls = {n: call for n, call in calls.items() if n not in (*OWN, *GROWING)}
        self.specs = {
            name: dict(signatures[name].structured_input_signature[1]) for name in signatures
        }
        self.item_ids = np.array([i.decode() for i in module.item_ids.numpy()], object)
        titles = getattr(module, "titles", None)
        self.titles = (
            None if titles is None else np.array([t.decode() for t in titles.numpy()], object)
        )
        self.signatures = signatures

    def vectors(self) -> np.ndarray:
        """Vectors of the catalogue, float32 [n_items, dim]."""
        ask = self.signatures[ITEM_VECTOR]
        ids = self.item_ids[1:]
        parts = [
            ask(item_id=tf.constant(list(ids[at : at + BLOCK])))[VECTOR].numpy()
            for at in range(0, len(ids), BLOCK)
        ]
        return np.concatenate(parts)


def build_index(
    vectors: np.ndarray, samples: np.ndarray, config: IndexConfig
) -> tuple[SearchIndex, IndexReport]:
    """The index that a configuration asks for; see ``tfrec.retrieval.build.build_ivf``."""
    return build_ivf(
        vectors,
        samples,
        cells=None if config.cells == "auto" else min(config.cells, len(vectors)),
        probes=None if config.probes == "auto" else config.probes,
        min_recall=config.min_recall,
        at=config.at,
        quantised=config.quantised,
        init=config.init,
        passes=config.passes,
        seed=config.seed,
    )


def index_model(
    folder: str | Path, out: str | Path, config: IndexConfig, samples: np.ndarray
) -> IndexReport:
    """Writes a SavedModel again, with an index.

    Args:
        folder: an exported retrieval model.
        out: of the new SavedModel; must not be there, unless it is ``folder`` itself.
        config: of the index.
        samples: float32 [sample, dim] queries as ``query_vector`` gives them.

    Returns:
        What was built and measured; also in ``assets.extra/index.json`` and the SavedModel's
        variable ``report``.

    Raises:
        ValueError: the model scores by no inner product.
        FileExistsError: ``out`` is there already.
    """
    loaded = Loaded(folder)
    index, report = build_index(loaded.vectors(), samples, config)
    module = IndexedRetrieval(
        loaded.base, loaded.calls, loaded.item_ids, loaded.titles, index, samples, report
    )
    _write(module, module.signatures(loaded.specs), report, Path(out), replaces=Path(folder))
    return report


def refresh_index(
    folder: str | Path,
    item_ids: Sequence[str],
    vectors: np.ndarray,
    out: str | Path,
    config: IndexConfig,
    titles: Sequence[str] | None = None,
) -> IndexReport:
    """A new version of an indexed model from new vectors, without training.

    Signatures that speak of single items of the model inside (``embed_item``, ``fold_in`` and the
    like) are left out where the items are others; ``score`` and ``similar`` know the new ones.

    Args:
        folder: an indexed retrieval model.
        item_ids: raw ids, one a vector; any, in any order.
        vectors: float32 [n_items, dim], of the same space as ``query_vector``.
        out: folder of the new version; must not be there.
        config: of the index.
        titles: one an item; None takes the known ones, and the id for new items.

    Returns:
        See ``index_model``.

    Raises:
        ValueError: not indexed, another dimension, ids twice or empty.
        FileExistsError: ``out`` is there already.
    """
    loaded = Loaded(folder)
    if not loaded.indexed:
        raise ValueError(f"{folder} has no index; put one around it with index_model first")
    samples = loaded.module.samples.numpy()
    names = [str(i) for i in item_ids]
    if len(names) != len(vectors) or len(set(names)) != len(names) or "" in names:
        raise ValueError(
            f"one distinct, non-empty id a vector; got {len(names)} ids, {len(set(names))} "
            f"distinct, for {len(vectors)} vectors"
        )
    if vectors.ndim != 2 or vectors.shape[1] != samples.shape[1]:
        raise ValueError(
            f"vectors are float [n_items, {samples.shape[1]}] like the model's queries; got "
            f"{vectors.shape}; make them with the signature item_vector of the same model"
        )
    index, report = build_index(np.asarray(vectors, np.float32), samples, config)
    ids = np.array(["", *names], object)
    if titles is None and loaded.titles is not None:
        known = dict(zip(loaded.item_ids, loaded.titles, strict=True))
        titles = [known.get(name, name) for name in names]
    shown = None if titles is None else np.array(["", *titles], object)
    same = set(names) == set(loaded.item_ids[1:])
    calls = {n: c for n, c in loaded.calls.items() if same or n in SAME_USERS}
    module = IndexedRetrieval(loaded.base, calls, ids, shown, index, samples, report)
    _write(module, module.signatures(loaded.specs), report, Path(out))
    return report


def _write(
    module: tf.Module,
    signatures: dict[str, Any],
    report: IndexReport,
    out: Path,
    replaces: Path | None = None,
) -> None:
    """Saves beside the place and moves there in one step, so that a server never sees half."""
    if out.exists() and out != replaces:
        raise FileExistsError(f"{out} is there already; name a new version")
    building = out.with_name(f".{out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    tf.saved_model.save(module, str(building), signatures=signatures)
    extra = building / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / REPORT_FILE).write_text(json.dumps(report.as_dict(), indent=1) + "\n")
    if out.exists():
        shutil.rmtree(out)
    os.replace(building, out)


def index_report(folder: str | Path) -> IndexReport | None:
    """What is known of the index of a SavedModel; None where it has none."""
    path = Path(folder) / "assets.extra" / REPORT_FILE
    return IndexReport(**json.loads(path.read_text())) if path.is_file() else None
