"""An index around an exported retrieval model, and its refresh without training.

The SavedModel that comes out answers the same signatures; ``recommend`` looks into the index. It is
made of a SavedModel alone, so new vectors (of new items, too) become a new version in seconds.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config.index import IndexConfig
from tfrec.export.added_requests import answer_anew
from tfrec.export.graphs import without_signatures
from tfrec.export.indexed import IndexedRetrieval
from tfrec.export.query import ITEM_VECTOR, QUERY_EXAMPLES, QUERY_VECTOR, VECTOR
from tfrec.export.raw import ITEM_ROWS, excludes_seen
from tfrec.retrieval.brute_force import SearchIndex
from tfrec.retrieval.build import build_ivf
from tfrec.retrieval.measure import IndexReport

EXTRA = "assets.extra"  # what servers leave alone
REPORT_FILE = "index.json"  # below it
BLOCK = 65_536  # items whose vectors are asked for at a time

# Signatures that the index answers itself.
OWN = ("recommend", "recommend_examples", "serving_default", "score", "similar")
# Signatures that speak of users alone: kept when the items are others.
SAME_USERS = (QUERY_VECTOR, QUERY_EXAMPLES, "embed_user")


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
        self.base = without_signatures(module.base if self.indexed else module)
        calls: dict[str, Any] = dict(module.calls) if self.indexed else signatures
        self.calls = {n: call for n, call in calls.items() if n not in OWN}
        self.specs = {
            name: dict(signatures[name].structured_input_signature[1]) for name in signatures
        }
        self.item_ids = np.array([i.decode() for i in module.item_ids.numpy()], object)
        titles = getattr(module, "titles", None)
        self.titles = (
            None if titles is None else np.array([t.decode() for t in titles.numpy()], object)
        )
        self.signatures = signatures
        self.exclude_seen = excludes_seen(module)

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
    vectors: np.ndarray, samples: np.ndarray, config: IndexConfig, *, grows: bool = False
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
        grows=grows,
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
    _must_be_new(Path(out), Path(folder))
    loaded = Loaded(folder)
    grows = ITEM_ROWS in loaded.calls
    index, report = build_index(loaded.vectors(), samples, config, grows=grows)
    module = IndexedRetrieval(
        loaded.base,
        loaded.calls,
        loaded.item_ids,
        loaded.titles,
        index,
        samples,
        report,
        loaded.exclude_seen,
    )
    _write(module, loaded, report, Path(folder), Path(out))
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

    Signatures that speak of single items of the model inside (``embed_item``, ``fold_in``, and
    ``item_rows``, without which no items can be added) are left out where the items are others;
    ``score`` and ``similar`` know the new ones.

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
    _must_be_new(Path(out), Path(folder))
    names = [str(i) for i in item_ids]
    if len(names) != len(vectors) or len(set(names)) != len(names) or "" in names:
        raise ValueError(
            f"one distinct, non-empty id a vector; got {len(names)} ids, {len(set(names))} "
            f"distinct, for {len(vectors)} vectors"
        )
    loaded = Loaded(folder)
    if not loaded.indexed:
        raise ValueError(f"{folder} has no index; put one around it with index_model first")
    samples = loaded.module.samples.numpy()
    if vectors.ndim != 2 or vectors.shape[1] != samples.shape[1]:
        raise ValueError(
            f"vectors are float [n_items, {samples.shape[1]}] like the model's queries; got "
            f"{vectors.shape}; make them with the signature item_vector of the same model"
        )
    same = set(names) == set(loaded.item_ids[1:])
    calls = {n: c for n, c in loaded.calls.items() if same or n in SAME_USERS}
    grows = ITEM_ROWS in calls
    index, report = build_index(np.asarray(vectors, np.float32), samples, config, grows=grows)
    ids = np.array(["", *names], object)
    if titles is None and loaded.titles is not None:
        known = dict(zip(loaded.item_ids, loaded.titles, strict=True))
        titles = [known.get(name, name) for name in names]
    shown = None if titles is None else np.array(["", *titles], object)
    module = IndexedRetrieval(
        loaded.base, calls, ids, shown, index, samples, report, loaded.exclude_seen
    )
    _write(module, loaded, report, Path(folder), Path(out))
    return report


def _must_be_new(out: Path, source: Path) -> None:
    if out.exists() and out != source:
        raise FileExistsError(f"{out} is there already; name a new version")


def _write(
    module: IndexedRetrieval, loaded: Loaded, report: IndexReport, source: Path, out: Path
) -> None:
    """Saves beside the place and moves there in one step, so that a server never sees half.

    What lies in the source's ``assets.extra`` (vocabularies for a warm start, the feature table,
    requests to warm up with) comes along; golden requests are answered anew.
    """
    _must_be_new(out, source)
    building = out.with_name(f".{out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    tf.saved_model.save(module, str(building), signatures=module.signatures(loaded.specs))
    extra = building / EXTRA
    if (source / EXTRA).is_dir():
        shutil.copytree(source / EXTRA, extra, dirs_exist_ok=True)
    extra.mkdir(exist_ok=True)
    write_report(building, report)
    answer_anew(building)
    if out.exists():
        shutil.rmtree(out)
    os.replace(building, out)


def write_report(folder: str | Path, report: IndexReport) -> None:
    """Keeps what is known of an index beside its SavedModel."""
    path = Path(folder) / EXTRA / REPORT_FILE
    path.write_text(json.dumps(report.as_dict(), indent=1) + "\n")


def index_report(folder: str | Path) -> IndexReport | None:
    """What is known of the index of a SavedModel; None where it has none."""
    path = Path(folder) / EXTRA / REPORT_FILE
    return IndexReport(**json.loads(path.read_text())) if path.is_file() else None
