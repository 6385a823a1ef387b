"""Search: which titles answer a query, by BM25, by a query tower, and by both together.

    python -m benchmarks.query [--quick] [--seeds 3]

CrowdFlower (9,708 product titles, 261 queries, relevance 3 or 4 of 4 is an answer; items of lower
relevance stay in the catalogue, what nobody judged counts as no answer). Two protocols, each over
the whole catalogue, what is known as an answer of the query left out:

- known-queries: 20% of all answers are held out, at random; their queries are known by others.
- new-queries: 20% of the *queries* are held out with all their answers, 10% more validate. No word
  of the test queries' answers was ever told to be one.

BM25 is bm25s (Lucene's variant, k1 1.5, b .75) over the tokens that the tower of the same note
reads: words, or n-grams. Parameters of the tower are those of ``configs/crowdflower.yaml``, chosen
on validation queries (folds of the training and validation queries of new-queries; see
docs/queries.md). The hybrid adds both scores of a query, each from 0 to 1; the tower's share is
chosen on the validation queries of each seed. Test is read once a row and seed. Gains are paired by
query, the tower's figure of a query being the mean of its seeds; 95% bootstrap intervals.

``benchmarks.query_shop`` measures personalised search.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from benchmarks.common import HERE, Results, arguments, shared_data
from benchmarks.kept import Arrays, Kept, OutOfTime, kept_arguments
from tfrec.config import Config, TrainConfig, load_config
from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.data.prepare import prepare
from tfrec.data.splits import split_events
from tfrec.data.tables import Tables, read_tables
from tfrec.evaluation.bootstrap import compare
from tfrec.evaluation.full_catalogue import evaluate, evaluate_lists
from tfrec.evaluation.protocol import HeldOut, held_out
from tfrec.evaluation.result import Evaluation
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.features.text import tokens
from tfrec.schema import Feature, FeatureTable
from tfrec.training.fit import fit_retrieval

METRICS = ("recall@10", "ndcg@10", "mrr@10")
KS = (10,)
SHARES = np.linspace(0.0, 1.0, 11)  # of the tower in the hybrid
WORDS = {"tokens": "words", "max_length": 16}
GRAMS = {"tokens": "ngrams", "ngram": [4, 4], "max_length": 64}
# How texts are read, and what differs from the configuration's parameters.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "words": (WORDS, {}),
    "n-grams": (GRAMS, {}),
    "words, events alone": (WORDS, {"own_queries": 0}),
    "words, events alone, 64 dimensions": (WORDS, {"own_queries": 0, "dim": 64}),
    "words, 64 dimensions": (WORDS, {"dim": 64}),
    "words, gru, 64 dimensions": ({**WORDS, "encoder": "gru"}, {"dim": 64}),
    "words, conv, 64 dimensions": ({**WORDS, "encoder": "conv"}, {"dim": 64}),
}
HYBRIDS = ("words", "n-grams")


def feature_table(reading: Mapping[str, Any], dim: int) -> FeatureTable:
    """Title and query under one reading."""
    text = {"kind": "text", "dim": dim, "oov_buckets": 16, **reading}
    title = {"name": "title", "role": "item", **text}
    asked = {"name": "query", "role": "context", "shares": "title", **text}
    return FeatureTable.model_validate({"features": [title, asked]})


def encode(tables: Tables, splits: Mapping[str, pa.Table], features: FeatureTable) -> RetrievalData:
    """Encoded data of one feature table."""
    with tempfile.TemporaryDirectory() as statistics:
        encoder = fit_encoder(
            splits["train"], tables.users, tables.items, features, statistics, 100
        )
        return retrieval_data(splits, tables.users, tables.items, encoder)


def tokens_of(
    texts: Sequence[str | None], reading: Mapping[str, Any], most: int = 512
) -> list[list[str]]:
    """The tokens that the towers read, by the same code; of a text at most ``most``."""
    feature = Feature.model_validate(
        {"name": "title", "role": "item", "kind": "text", **reading, "max_length": most}
    )
    cut = tokens(tf.constant([t or "" for t in texts]), feature).numpy()
    return [[word.decode() for word in row if word] for row in cut]


def bm25_scores(
    texts: Sequence[str | None], queries: Sequence[str], reading: Mapping[str, Any]
) -> np.ndarray:
    """BM25 of each item's text, float32 [query, item].

    Args:
        texts: of each item, by index; entry 0 is padding.
        queries: of each question.
        reading: how both are cut.
    """
    import bm25s

    engine = bm25s.BM25(method="lucene")
    engine.index(tokens_of(texts[1:], reading), show_progress=False)
    vocabulary = set(engine.vocab_dict)
    scores = np.zeros((len(queries), len(texts) - 1), np.float32)
    for row, words in enumerate(tokens_of(queries, reading)):
        known = [word for word in words if word in vocabulary]
        if known:
            scores[row] = engine.get_scores(known)
    return scores


def best_of(scores: np.ndarray, questions: HeldOut) -> np.ndarray:
    """Lists int32 [question, k] of the best scores [question, item]; known answers left out."""
    rows, seen = questions.seen(0, len(questions.users))
    allowed = scores.copy()
    allowed[rows, seen - 1] = -np.inf
    best = np.argsort(-allowed, axis=1, kind="stable")[:, : KS[-1]]
    # Where fewer than k items are left a list is short: 0 behind.
    left = np.isfinite(np.take_along_axis(allowed, best, axis=1))
    return np.where(left, best + 1, 0).astype(np.int32)


def measured(lists: np.ndarray, questions: HeldOut, data: RetrievalData, name: str) -> Evaluation:
    """What lists [question, k] are worth."""
    asked = replace_split(data, questions)
    return evaluate_lists(lists, questions.users, asked, questions.split, KS, name=name)


def replace_split(data: RetrievalData, questions: HeldOut) -> RetrievalData:
    """The data with only the asked users in the held-out split."""
    events: Interactions = getattr(data, questions.split)
    kept = events.select(np.isin(events.user, questions.users))
    changed: dict[str, Any] = {questions.split: kept}
    return replace(data, **changed)


def tower_scores(model: Any, data: RetrievalData, questions: HeldOut) -> np.ndarray:
    """The model's scores of the whole catalogue, float32 [question, item]."""
    rows = np.arange(len(questions.users))
    told = questions.inputs(data, rows, model.history_length)
    return np.asarray(model.score_catalogue({k: tf.constant(v) for k, v in told.items()}))


def unit(scores: np.ndarray) -> np.ndarray:
    """Scores of each question from 0 to 1."""
    low, high = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
    return (scores - low) / np.maximum(high - low, 1e-9)


def hybrid(
    model: Any, data: RetrievalData, lexical: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, float]:
    """Test lists of tower and BM25 added, and the tower's share: the best on validation.

    Args:
        lexical: BM25 scores [question, item] by split.
    """
    both: dict[str, tuple[np.ndarray, np.ndarray, HeldOut]] = {}
    for split in ("validation", "test"):
        questions = held_out(data, split)  # type: ignore[arg-type]
        scores = unit(tower_scores(model, data, questions))
        both[split] = (scores, unit(lexical[split]), questions)

    def mixed(split: str, share: float) -> np.ndarray:
        tower, words, questions = both[split]
        return best_of(share * tower + (1 - share) * words, questions)

    def worth(share: float) -> float:
        lists = mixed("validation", share)
        return measured(lists, both["validation"][2], data, "hybrid")["recall@10"]

    share = float(max(SHARES, key=worth))
    return mixed("test", share), share


def record(results: Results, found: Evaluation, protocol: str, seed: int | None, note: str) -> None:
    """Keeps the metrics of one evaluation under its name."""
    for metric in METRICS:
        results.add(found.name, metric, found[metric], protocol=protocol, seed=seed, note=note)


def mean_of(runs: Sequence[Evaluation]) -> Evaluation:
    """The mean of each question's figures over several seeds."""
    keys = runs[0].per_user
    return replace(runs[0], per_user={k: np.mean([r.per_user[k] for r in runs], 0) for k in keys})


def record_gain(results: Results, a: Evaluation, b: Evaluation, protocol: str, note: str) -> None:
    """Keeps the paired difference ``b - a`` and its interval under b's name."""
    for metric in ("recall@10", "ndcg@10"):
        gain = compare(a, b, metric).difference
        for bound in ("mean", "low", "high"):
            value = getattr(gain, bound)
            results.add(b.name, f"{metric} gain {bound}", value, protocol=protocol, note=note)


def by_query(events: pa.Table, seed: int = 0) -> dict[str, pa.Table]:
    """Whole queries held out: 20% test, 10% validate; seeded."""
    queries = np.array(sorted(set(events.column("query").to_pylist())), object)
    np.random.default_rng(seed).shuffle(queries)
    n_test, n_eval = len(queries) // 5, len(queries) // 10
    parts = {
        "test": queries[:n_test],
        "eval": queries[n_test : n_test + n_eval],
        "train": queries[n_test + n_eval :],
    }
    asked = events.column("query")
    return {
        name: events.filter(pc.is_in(asked, pa.array(list(chosen), pa.string())))
        for name, chosen in parts.items()
    }


def prepared() -> tuple[Config, Tables]:
    """The set's configuration and canonical tables."""
    config: Config = load_config(HERE.parent / "configs" / "crowdflower.yaml")
    source = shared_data()
    assert source is not None
    data_config = config.data.model_copy(update={"path": str(source / "crowdflower-search")})
    config = config.model_copy(update={"data": data_config})
    with tempfile.TemporaryDirectory() as folder:
        prepare(config, Path(folder))
        return config, read_tables(Path(folder))


def lexical_scores(
    tables: Tables, data: RetrievalData, reading: Mapping[str, Any], described: bool = False
) -> dict[str, np.ndarray]:
    """BM25 of titles (and descriptions) for the questions of validation and test."""
    rows = {row["item_id"]: row for row in tables.items.to_pylist()}
    texts = [""]
    for item in data.item_ids[1:]:
        more = f" {rows[item].get('description') or ''}" if described else ""
        texts.append(f"{rows[item]['title']}{more}")
    out = {}
    for split in ("validation", "test"):
        questions = held_out(data, split)  # type: ignore[arg-type]
        out[split] = bm25_scores(texts, [str(u) for u in data.user_ids[questions.users]], reading)
    return out


def train_and_list(
    params: Mapping[str, Any],
    train: TrainConfig,
    data: RetrievalData,
    lexical: Mapping[str, np.ndarray],
) -> Arrays:
    """Test lists of a trained tower and, where ``lexical`` has scores, of the hybrid."""
    fit = fit_retrieval("two_tower", dict(params), train, data, metric="recall@10")
    out = {"epoch": np.array(fit.best_epoch)}
    questions = held_out(data, "test")
    out["two_tower"] = evaluate(fit.model, data, questions=questions, ks=KS, progress=False).lists
    if lexical:
        out["two_tower + bm25"], share = hybrid(fit.model, data, lexical)
        out["share"] = np.array(share)
    return out


def one_protocol(
    results: Results,
    protocol: str,
    config: Config,
    tables: Tables,
    splits: Mapping[str, pa.Table],
    seeds: int,
    variants: Sequence[str],
    kept: Kept,
) -> None:
    """All rows of one protocol."""
    lexical: dict[str, Evaluation] = {}
    for note in variants:
        reading, changed = VARIANTS[note]
        params = {**config.retrieval.params, **changed}
        data = encode(tables, splits, feature_table(reading, params["dim"]))
        questions = held_out(data, "test")
        scores: dict[str, np.ndarray] = {}
        if note in HYBRIDS:
            scores = lexical_scores(tables, data, reading)
            lists = best_of(scores["test"], questions)
            lexical[note] = measured(lists, questions, data, "bm25")
            record(results, lexical[note], protocol, None, f"title, {note}")
        if note == "words":
            both = lexical_scores(tables, data, reading, described=True)
            lists = best_of(both["test"], questions)
            found = measured(lists, questions, data, "bm25")
            record(results, found, protocol, None, "title and description, words")
        runs: dict[str, list[Evaluation]] = {}
        for seed in range(seeds):
            train = config.retrieval.train.model_copy(update={"seed": seed})
            name = f"{protocol} {note} {seed}"
            done = kept(name, partial(train_and_list, params, train, data, scores))
            print(f"  {note}, seed {seed}: best epoch {done['epoch']}", flush=True)
            for model in ("two_tower", "two_tower + bm25"):
                if model in done:
                    found = measured(done[model], questions, data, model)
                    record(results, found, protocol, seed, note)
                    runs.setdefault(model, []).append(found)
            if "share" in done:
                share = float(done["share"])
                results.add(
                    "two_tower + bm25", "share", share, protocol=protocol, seed=seed, note=note
                )
        for base, words in lexical.items():
            for found in map(mean_of, runs.values()):
                record_gain(results, words, found, protocol, f"{note}, over bm25 on {base}")


def main() -> None:
    """Measures and writes ``results/query.json``."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--variant", choices=list(VARIANTS), action="append")
    kept_arguments(parser)
    given = parser.parse_args()
    if shared_data() is None:
        print("skipped: the real data is not here; set TFREC_SHARED_DATA")
        return
    results = Results("query", given.quick)
    seeds = 1 if given.quick else given.seeds
    variants = given.variant or (list(VARIANTS)[:1] if given.quick else list(VARIANTS))
    config, tables = prepared()
    if given.quick:
        train = config.retrieval.train.model_copy(update={"epochs": 6})
        retrieval = config.retrieval.model_copy(update={"train": train})
        config = config.model_copy(update={"retrieval": retrieval})
    kept = Kept(given.kept, given.limit)
    try:
        for protocol, splits in {
            "crowdflower/new-queries/full": by_query(tables.interactions),
            "crowdflower/known-queries/full": split_events(tables.interactions, config.split),
        }.items():
            one_protocol(results, protocol, config, tables, splits, seeds, variants, kept)
    except OutOfTime as missing:
        print(f"{missing} is not trained yet: start again with the same --kept")
        return
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
