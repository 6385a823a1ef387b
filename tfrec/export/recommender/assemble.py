"""Assembles the one-call recommender from exported models: no training code, no checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrec.config import Config
from tfrec.export.calibrate import calibrations_of
from tfrec.export.graphs import without_signatures
from tfrec.export.index import Loaded, build_index
from tfrec.export.query import QUERY_VECTOR
from tfrec.export.recommender.catalogue import Catalogue
from tfrec.export.recommender.exploring import Exploring
from tfrec.export.recommender.heads import Heads
from tfrec.export.recommender.inputs import joined, request_specs
from tfrec.export.recommender.lists import Lists
from tfrec.export.recommender.module import Recommendation
from tfrec.export.recommender.rules import Rules
from tfrec.export.recommender.sources import Sources
from tfrec.export.recommender.value import Value
from tfrec.retrieval.brute_force import BruteForce
from tfrec.retrieval.build import IndexReport
from tfrec.schema import HISTORY, ITEM_ID, USER_ID, FeatureTable

NOT_USERS = ("k", "exclude", ITEM_ID)


def popularity(item_ids: np.ndarray, interactions: pa.Table) -> np.ndarray:
    """Users who had each item, int64 [n + 1], by item index; entry 0 is 0."""
    pairs = interactions.select([USER_ID, ITEM_ID]).group_by([USER_ID, ITEM_ID]).aggregate([])
    ids = pa.array([str(i) for i in item_ids], pa.string())
    own = pc.index_in(pairs.column(ITEM_ID).combine_chunks().cast(pa.string()), ids)
    places = pc.fill_null(own, 0).to_numpy(zero_copy_only=False)
    counts = np.bincount(places, minlength=len(item_ids))
    counts[0] = 0
    return counts


def assemble(
    config: Config,
    retrieval: str | Path,
    ranking: str | Path,
    items: pa.Table,
    interactions: pa.Table,
) -> Recommendation:
    """Joins a retrieval and a ranking SavedModel into one module.

    Args:
        config: sections ``recommender``, ``utility``, ``rerank``, ``features``, and
            ``retrieval.index``, which says how vectors are searched.
        retrieval: folder of the exported retrieval model, with an index or without.
        ranking: folder of the exported ranking model; its ``assets.extra/calibration.json``, where
            there is one, makes probabilities of its outputs.
        items: canonical table of items: prices, groups and the like.
        interactions: canonical table of events, for what is popular.

    Returns:
        The module; ``save_recommender`` writes it.

    Raises:
        ValueError: a source or a re-ranker needs vectors that the retrieval model lacks, a column
            is not there, or the two models do not fit together.
    """
    model = _Retrieval(config, retrieval)
    ranker: Any = tf.saved_model.load(str(ranking))
    if "rank" not in ranker.signatures:
        raise ValueError(
            f"{ranking} has no signature 'rank'; pass an exported ranking model; its signatures "
            f"are {sorted(ranker.signatures)}"
        )
    rank = ranker.signatures["rank"]
    rank_specs = dict(rank.structured_input_signature[1])
    features = config.feature_table
    among = _filters(config, features)
    catalogue = Catalogue(
        model.item_ids,
        model.titles,
        items,
        popularity(model.item_ids, interactions),
        features,
        _grouped(config, among),
        config.utility,
    )
    sources = Sources(config.recommender, catalogue, model.calls, model.specs, model.index)
    heads = Heads(config, rank.structured_outputs, calibrations_of(ranking))
    sample = sampler(config, ranker, ranking)
    value = Value(config, catalogue, rank, rank_specs, heads, sample)
    lists = Lists(config.rerank, catalogue, _looks(config, catalogue, model, items))
    users = {
        name: spec
        for name, spec in joined(model.specs["recommend"], rank_specs).items()
        if name not in NOT_USERS
    }
    users.setdefault(HISTORY, tf.TensorSpec([None, None], tf.string, HISTORY))
    specs = request_specs(
        users,
        among,
        sorted(config.utility.weights),
        timed=config.utility.released is not None or bool(config.rerank.boosts),
        trade_off=config.rerank.method != "none",
        explores=config.recommender.exploration.kind != "none",
    )
    return Recommendation(
        config,
        [model.base, without_signatures(ranker)],
        catalogue,
        sources,
        value,
        lists,
        Exploring(config.recommender.exploration, value, lists),
        Rules(config, catalogue, among),
        specs,
        model.report,
    )


def save_recommender(module: Recommendation, folder: str | Path) -> Path:
    """Writes the SavedModel, in one step; ``folder`` must not be there."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        raise FileExistsError(f"{folder} is there already; name a new version")
    building = folder.with_name(f".{folder.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    tf.saved_model.save(module, str(building), signatures=module.signatures())
    report = module.index_report
    if report is not None:
        extra = building / "assets.extra"
        extra.mkdir(exist_ok=True)
        (extra / "index.json").write_text(json.dumps(report.as_dict(), indent=1) + "\n")
    building.rename(folder)
    return folder


def sampler(config: Config, ranker: Any, folder: str | Path) -> Any:
    """The ranker's signature ``rank_sample``, where it is needed; else None.

    Raises:
        ValueError: it is not there.
    """
    if config.recommender.exploration.kind != "thompson":
        return None
    if "rank_sample" not in ranker.signatures:
        raise ValueError(
            f"recommender.exploration.kind 'thompson' needs a ranker with a posterior; {folder} "
            f"has no signature 'rank_sample': train it with ranking.last_layer_prior"
        )
    return ranker.signatures["rank_sample"]


class _Retrieval:
    """The retrieval model as the recommender needs it."""

    def __init__(self, config: Config, folder: str | Path) -> None:
        plain: Any = tf.saved_model.load(str(folder))
        self.index: Any | None = None
        self.report: IndexReport | None = None
        self.vectors: np.ndarray | None = None
        if QUERY_VECTOR in plain.signatures:
            loaded = Loaded(folder, plain)
            self.base, self.calls, self.specs = loaded.base, loaded.calls, loaded.specs
            self.item_ids, self.titles = loaded.item_ids, loaded.titles
            self.vectors = loaded.vectors()
            section = config.retrieval.index
            if section.kind == "ivf":
                samples = loaded.module.samples.numpy() if loaded.indexed else self.vectors
                self.index, self.report = build_index(
                    self.vectors, samples[: section.sample], section
                )
            else:
                self.index = BruteForce(tf.constant(self.vectors))
            return
        self.base, self.calls = plain, dict(plain.signatures)
        self.specs = {n: dict(f.structured_input_signature[1]) for n, f in plain.signatures.items()}
        self.item_ids = np.array([i.decode() for i in plain.item_ids.numpy()], object)
        titles = getattr(plain, "titles", None)
        self.titles = (
            None if titles is None else np.array([t.decode() for t in titles.numpy()], object)
        )
        if config.recommender.similar:
            raise ValueError(
                f"recommender.similar needs item vectors, which the model in {folder} lacks; set "
                f"it to 0, or take a model whose score is an inner product"
            )


def _filters(config: Config, features: FeatureTable) -> list[str]:
    kinds = ("categorical", "multi")
    usual = [f.name for f in features.of("item") if f.kind in kinds]
    chosen = config.recommender.among
    return usual if chosen is None else list(chosen)


def _grouped(config: Config, among: list[str]) -> list[str]:
    """Item features whose values are needed: filters, limits, campaigns, categories, likeness."""
    rerank = config.rerank
    named = [*among, *rerank.max_per_group, *(b.feature for b in rerank.boosts)]
    if rerank.method == "calibrated":
        named.append(str(rerank.categories))
    if rerank.method in ("mmr", "dpp"):
        kinds = {f.name: f.kind for f in config.feature_table}
        named += [n for n in rerank.vectors if kinds[n] != "embedding"]
    return list(dict.fromkeys(named))


def _looks(
    config: Config, catalogue: Catalogue, model: _Retrieval, items: pa.Table
) -> np.ndarray | None:
    """What makes items alike, float32 [n + 1, dim]: features as marks, else the items' vectors."""
    rerank = config.rerank
    if rerank.method not in ("mmr", "dpp"):
        return None
    if not rerank.vectors:
        if model.vectors is None:
            raise ValueError(
                f"rerank.method {rerank.method!r} compares items, but the retrieval model has no "
                f"vectors; name item features in rerank.vectors"
            )
        return np.vstack([np.zeros_like(model.vectors[:1]), model.vectors])
    marks = []
    for name in rerank.vectors:
        if name not in catalogue.groups:
            marks.append(_given_vectors(items, name, model.item_ids))
            continue
        groups = catalogue.groups[name]
        one_hot = np.zeros((catalogue.n_items + 1, groups.size + 1), np.float32)
        np.put_along_axis(one_hot, groups.codes.numpy(), 1.0, axis=1)
        marks.append(one_hot[:, 1:])
    return np.concatenate(marks, axis=1)


def _given_vectors(items: pa.Table, name: str, item_ids: np.ndarray) -> np.ndarray:
    """A feature of kind ``embedding`` by item index, float32 [n + 1, dim]; zeros where missing."""
    by_id = dict(
        zip(items.column(ITEM_ID).to_pylist(), items.column(name).to_pylist(), strict=True)
    )
    width = max((len(v) for v in by_id.values() if v is not None), default=1)
    vectors = np.zeros((len(item_ids), width), np.float32)
    for place, item in enumerate(item_ids):
        if by_id.get(item) is not None:
            vectors[place] = by_id[item]
    return np.nan_to_num(vectors, nan=0.0, posinf=0.0, neginf=0.0)
