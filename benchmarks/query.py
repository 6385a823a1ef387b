"""Search: which items answer a query, by BM25, by a query tower, and by query and user together.

    python -m benchmarks.query                       # both sets, 3 seeds
    python -m benchmarks.query --only crowdflower

CrowdFlower (9,708 product titles, 261 queries, relevance 3 or 4 of 4 is an answer; items of lower
relevance stay in the catalogue). Two protocols, each over the whole catalogue, what is known as an
answer of the query left out:

- known-queries: 20% of all answers are held out, at random; their queries are known by others.
- new-queries: 20% of the *queries* are held out with all their answers, 10% more validate. No word
  of the test queries' answers was ever told to be one.

Synthetic shop (planted truth): the last purchase of each user, of those that a query led to. The
oracles rank by P(item | user, time) P(query | item), and by the same with the average user.

BM25 is bm25s (Lucene's variant, k1 1.5, b .75) over the same words as the towers. Towers are chosen
on validation; test is read once a model and seed. Personalised and not are compared by pairs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from benchmarks.common import HERE, Results, arguments, shared_data
from tfrec.config import Config, TrainConfig, load_config, parse_config
from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.data.prepare import prepare
from tfrec.data.splits import split_events
from tfrec.data.synthetic import generate
from tfrec.data.tables import Tables, read_tables
from tfrec.data.truth import Truth, index_of
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
TEXT = {"kind": "text", "dim": 64, "oov_buckets": 16}
WORDS = {**TEXT, "max_length": 16}
GRAMS = {**TEXT, "tokens": "ngrams", "ngram": [3, 5], "max_length": 128, "max_vocabulary": 50_000}
# How a title and a query are read; both the same way.
READINGS: dict[str, dict[str, Any]] = {
    "words, mean": WORDS,
    "words, gru": {**WORDS, "encoder": "gru"},
    "words, conv": {**WORDS, "encoder": "conv"},
    "n-grams, mean": GRAMS,
    "words, mean, not shared": WORDS,
}
SEARCH = {"dim": 64, "history_length": 1, "history_encoder": "none", "temperature": 0.1}
SEARCH |= {"use_user_id": False, "use_item_id": False, "logq": False}


def feature_table(note: str, query: bool = True) -> FeatureTable:
    """Title and query under one reading."""
    title = {"name": "title", "role": "item", **READINGS[note]}
    asked = {"name": "query", "role": "context", **READINGS[note]}
    if "not shared" not in note:
        asked["shares"] = "title"
    return FeatureTable.model_validate({"features": [title, asked] if query else [title]})


def encode(
    tables: Tables, splits: Mapping[str, pa.Table], features: FeatureTable, folder: Path
) -> RetrievalData:
    """Encoded data of one feature table."""
    with tempfile.TemporaryDirectory(dir=folder) as statistics:
        encoder = fit_encoder(
            splits["train"], tables.users, tables.items, features, statistics, 100
        )
        return retrieval_data(splits, tables.users, tables.items, encoder)


def words_of(texts: Sequence[str | None]) -> list[list[str]]:
    """The words that the towers read, by the same code."""
    feature = Feature(name="title", role="item", kind="text", max_length=64)
    cut = tokens(tf.constant([t or "" for t in texts]), feature).numpy()
    return [[word.decode() for word in row if word] for row in cut]


def bm25(
    texts: Sequence[str | None], queries: Sequence[str], questions: HeldOut, data: RetrievalData
) -> Evaluation:
    """Ranks items by BM25 of their text; what is known of the question is left out.

    Args:
        texts: of each item, by index; entry 0 is padding.
        queries: of each question.
    """
    import bm25s

    engine = bm25s.BM25(method="lucene")
    engine.index(words_of(texts[1:]), show_progress=False)
    vocabulary = set(engine.vocab_dict)
    lists = np.zeros((len(queries), KS[-1]), np.int32)
    for row, words in enumerate(words_of(queries)):
        known = [word for word in words if word in vocabulary]
        scores = engine.get_scores(known) if known else np.zeros(data.n_items, np.float32)
        _, seen = questions.seen(row, row + 1)
        scores[seen - 1] = -np.inf
        lists[row] = np.argsort(-scores, kind="stable")[: KS[-1]] + 1
    asked = replace_split(data, questions)
    return evaluate_lists(lists, questions.users, asked, questions.split, KS, name="bm25")


def replace_split(data: RetrievalData, questions: HeldOut) -> RetrievalData:
    """The data with only the asked users in the held-out split."""
    events: Interactions = getattr(data, questions.split)
    kept = events.select(np.isin(events.user, questions.users))
    changed: dict[str, Any] = {questions.split: kept}
    return replace(data, **changed)


def record(
    results: Results, name: str, found: Evaluation, protocol: str, seed: int | None, note: str = ""
) -> None:
    for metric in METRICS:
        results.add(name, metric, found[metric], protocol=protocol, seed=seed, note=note)
    results.write()


def fitted(
    data: RetrievalData, params: Mapping[str, Any], train: TrainConfig, metric: str = "ndcg@10"
) -> Any:
    """A trained two-tower."""
    return fit_retrieval("two_tower", dict(params), train, data, metric=metric).model


# -- CrowdFlower ------------------------------------------------------------------------------


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


def crowdflower(results: Results, seeds: int, quick: bool, folder: Path) -> None:
    """Both protocols of the real set."""
    config: Config = load_config(HERE.parent / "configs" / "crowdflower.yaml")
    source = shared_data()
    assert source is not None
    data_config = config.data.model_copy(update={"path": str(source / "crowdflower-search")})
    config = config.model_copy(update={"data": data_config})
    prepare(config, folder / "crowdflower")
    tables = read_tables(folder / "crowdflower")
    train = config.retrieval.train
    if quick:
        train = train.model_copy(update={"epochs": 6})
    readings = list(READINGS)[:1] if quick else list(READINGS)
    for name, splits in {
        "crowdflower/known-queries/full": split_events(tables.interactions, config.split),
        "crowdflower/new-queries/full": by_query(tables.interactions),
    }.items():
        for at, note in enumerate(readings):
            data = encode(tables, splits, feature_table(note), folder)
            questions = held_out(data, "test")
            if at == 0:
                text_baselines(results, tables, data, questions, name)
            for seed in range(seeds):
                chosen = train.model_copy(update={"seed": seed})
                model = fitted(data, SEARCH, chosen)
                found = evaluate(model, data, questions=questions, ks=KS, progress=False)
                record(results, "two_tower", found, name, seed, f"query only; {note}")


def text_baselines(
    results: Results, tables: Tables, data: RetrievalData, questions: HeldOut, protocol: str
) -> None:
    """BM25 on titles, and on titles and descriptions."""
    rows = {row["item_id"]: row for row in tables.items.to_pylist()}
    queries = [str(u) for u in data.user_ids[questions.users]]
    titles = ["", *(rows[i]["title"] for i in data.item_ids[1:])]
    both = [
        "",
        *(f"{rows[i]['title']} {rows[i].get('description') or ''}" for i in data.item_ids[1:]),
    ]
    for note, texts in {"title": titles, "title and description": both}.items():
        found = bm25(texts, queries, questions, data)
        record(results, "bm25", found, protocol, None, note)


# -- the synthetic shop -----------------------------------------------------------------------


def likelihoods(items: pa.Table, queries: Sequence[str]) -> np.ndarray:
    """P(query | item) of the shop's law, float64 [query, n]: each item has four equal queries."""
    columns = {name: items.column(name).to_pylist() for name in ("title", "style", "category")}
    chance: dict[str, dict[int, float]] = {}
    for at, (title, style, category) in enumerate(
        zip(columns["title"], columns["style"], columns["category"], strict=True)
    ):
        _, material, noun = title.split(" no. ")[0].split(" ")
        for text in (noun, f"{style} {noun}", f"{material} {noun}", f"{style} {category}"):
            chance.setdefault(text, {})[at] = chance.get(text, {}).get(at, 0.0) + 0.25
    out = np.zeros((len(queries), items.num_rows))
    for row, query in enumerate(queries):
        for at, share in chance.get(query, {}).items():
            out[row, at] = share
    return out


def oracle_lists(
    truth: Truth, data: RetrievalData, questions: HeldOut, likely: np.ndarray, personal: bool
) -> np.ndarray:
    """The best lists that the planted law allows, int32 [question, k]."""
    users = index_of(pa.array([str(u) for u in data.user_ids[questions.users]]))
    items = index_of(pa.array([str(i) for i in data.item_ids[1:]]))
    times = data.test.timestamp[questions.event]
    law = truth.probabilities(users, times)
    if not personal:
        everyone = np.arange(len(truth.start))
        now = np.full(len(everyone), truth.t0 + truth.span)
        law = np.broadcast_to(truth.probabilities(everyone, now).mean(0), law.shape)
    scores = (law * likely)[:, items]
    rows, seen = questions.seen(0, len(questions.users))
    scores[rows, seen - 1] = -1.0
    return (np.argsort(-scores, axis=1, kind="stable")[:, : KS[-1]] + 1).astype(np.int32)


def without_context(questions: HeldOut) -> HeldOut:
    """The same questions with nothing asked."""
    return replace(questions, context={k: np.zeros_like(v) for k, v in questions.context.items()})


def synthetic(results: Results, seeds: int, quick: bool, folder: Path) -> None:
    """Personalised search on the shop: who asks matters as much as what is asked."""
    config = parse_config(
        {
            "name": "shop",
            "data": {
                "format": "synthetic",
                "rows": 20_000 if quick else 60_000,
                "users_count": 800 if quick else 2_000,
                "items_count": 600 if quick else 2_000,
                "seed": 1,
            },
        }
    )
    protocol = "synthetic/last-out/full"
    shop = generate(config.data)
    tables = shop.tables()
    splits = split_events(tables.interactions, config.split)
    searched = {}
    for name, table in splits.items():
        searched[name] = (
            table.filter(pc.is_valid(table.column("query"))) if name == "test" else table
        )
    data = encode(tables, searched, feature_table("words, mean"), folder)
    plain = encode(tables, searched, feature_table("words, mean", query=False), folder)
    questions = held_out(data, "test")
    raw = dict(
        zip(
            searched["test"].column("user_id").to_pylist(),
            searched["test"].column("query").to_pylist(),
            strict=True,
        )
    )
    queries = [raw[str(u)] for u in data.user_ids[questions.users]]
    likely = likelihoods(tables.items, queries)
    asked = replace_split(data, questions)
    for note, personal in (("query only", False), ("query and user", True)):
        lists = oracle_lists(shop.truth, data, questions, likely, personal)
        found = evaluate_lists(lists, questions.users, asked, "test", KS, name="oracle")
        record(results, "oracle", found, protocol, None, note)
    by_id = dict(
        zip(
            tables.items.column("item_id").to_pylist(),
            tables.items.column("title").to_pylist(),
            strict=True,
        )
    )
    titles = ["", *(by_id[i] for i in data.item_ids[1:])]
    record(results, "bm25", bm25(titles, queries, questions, data), protocol, None, "title")
    train = TrainConfig(epochs=10 if quick else 20, batch_size=16, learning_rate=0.003, patience=4)
    user = {"dim": 64, "history_length": 50, "history_encoder": "mean", "temperature": 0.1}
    user |= {"use_user_id": False, "dropout": 0.2}
    for seed in range(seeds):
        chosen = train.model_copy(update={"seed": seed})
        wide = chosen.model_copy(update={"batch_size": 1024})

        def measure(model: Any, data: RetrievalData, asked: HeldOut, note: str, seed: int) -> Any:
            found = evaluate(model, data, questions=asked, ks=KS, progress=False, name=note)
            record(results, "two_tower", found, protocol, seed, note)
            return found

        alone = {**SEARCH, "use_item_id": True, "logq": True}
        query_only = measure(fitted(data, alone, wide), data, questions, "query only", seed)
        measure(fitted(plain, user, chosen), plain, held_out(plain, "test"), "user only", seed)
        model = fitted(data, {**user, "context_dropout": 0.3}, chosen)
        both = measure(model, data, questions, "query and user", seed)
        nothing = without_context(questions)
        measure(model, data, nothing, "query and user, nothing asked", seed)
        pair = compare(query_only, both, "recall@10")
        for bound, value in (
            ("mean", pair.difference.mean),
            ("low", pair.difference.low),
            ("high", pair.difference.high),
        ):
            note = f"query and user minus query only, {bound}"
            results.add(
                "two_tower", "recall@10 gain", value, protocol=protocol, seed=seed, note=note
            )
        results.write()


SETS: dict[str, Callable[[Results, int, bool, Path], None]] = {
    "crowdflower": crowdflower,
    "synthetic": synthetic,
}


def main() -> None:
    """Measures and writes ``results/query.json``."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", choices=sorted(SETS), action="append")
    given = parser.parse_args()
    results = Results("query", given.quick)
    seeds = 1 if given.quick else given.seeds
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only or SETS:
            if name == "crowdflower" and shared_data() is None:
                print("skipped crowdflower: the real data is not here; set TFREC_SHARED_DATA")
                continue
            SETS[name](results, seeds, given.quick, Path(folder))
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
