"""Personalised search: user and query together, against the query alone and the user alone.

    python -m benchmarks.query_shop [--quick] [--seeds 3]

The synthetic shop has a user behind each query, and a planted truth. The question is the last
purchase of each user that a query led to, over the whole catalogue, what the user had left out. The
oracles rank by P(item | user, time) P(query | item), and by the same with the average user: more
than the first nobody can reach, and the difference of both is all that knowing the user is worth.

All towers read the same words of titles and queries and have a vector per item; ``query only``
knows no history, ``user only`` no query, ``query and user`` both. The last is also asked nothing,
which is plain recommendation by the same model. BM25 is bm25s over the same words. Early stopping
looks at validation purchases that a query led to. Gains are paired by user, a model's figure of a
user being the mean of its seeds; 95% bootstrap intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.common import Results, arguments
from benchmarks.kept import Arrays, Kept, OutOfTime, kept_arguments
from benchmarks.query import (
    KS,
    WORDS,
    best_of,
    bm25_scores,
    encode,
    feature_table,
    mean_of,
    measured,
    record,
    record_gain,
)
from tfrec.config import TrainConfig, parse_config
from tfrec.data.encoded import RetrievalData
from tfrec.data.splits import split_events
from tfrec.data.synthetic import generate
from tfrec.data.truth import Truth, index_of
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.evaluation.protocol import HeldOut, held_out
from tfrec.evaluation.result import Evaluation
from tfrec.training.fit import fit_retrieval

PROTOCOL = "synthetic/last-out/full"
DIM = 64
QUERY: dict[str, Any] = {"dim": DIM, "history_length": 1, "history_encoder": "none"}
QUERY |= {"temperature": 0.1, "use_user_id": False, "own_queries": 256}
BOTH: dict[str, Any] = {**QUERY, "history_length": 32, "history_encoder": "mean", "dropout": 0.2}
BOTH |= {"context_dropout": 0.2}
USER = {k: v for k, v in BOTH.items() if k not in ("own_queries", "context_dropout")}


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


def oracle(
    truth: Truth, data: RetrievalData, questions: HeldOut, likely: np.ndarray, personal: bool
) -> Evaluation:
    """The best lists that the planted law allows."""
    users = index_of(pa.array([str(u) for u in data.user_ids[questions.users]]))
    items = index_of(pa.array([str(i) for i in data.item_ids[1:]]))
    law = truth.probabilities(users, data.test.timestamp[questions.event])
    if not personal:
        everyone = np.arange(len(truth.start))
        now = np.full(len(everyone), truth.t0 + truth.span)
        law = np.broadcast_to(truth.probabilities(everyone, now).mean(0), law.shape)
    return measured(best_of((law * likely)[:, items], questions), questions, data, "oracle")


def without_context(questions: HeldOut) -> HeldOut:
    """The same questions with nothing asked."""
    return replace(questions, context={k: np.zeros_like(v) for k, v in questions.context.items()})


def column(table: pa.Table, key: str, value: str) -> dict[str, str]:
    """One column by another, both of texts."""
    return dict(zip(table.column(key).to_pylist(), table.column(value).to_pylist(), strict=True))


def question_of(note: str, data: RetrievalData) -> HeldOut:
    """What a model is asked in a row."""
    questions = held_out(data, "test")
    return without_context(questions) if "nothing asked" in note else questions


def train_and_list(
    params: dict[str, Any], train: TrainConfig, data: RetrievalData, searched: np.ndarray
) -> Arrays:
    """Test lists of a trained tower: as asked, and (where it reads a query) with nothing asked.

    Args:
        searched: bool [validation event], which ones early stopping looks at.
    """
    watched = replace(data, validation=data.validation.select(searched))
    fit = fit_retrieval("two_tower", params, train, watched, metric="recall@10")
    out = {"epoch": np.array(fit.best_epoch)}
    for name in ("asked", "nothing asked"):
        questions = question_of(name, data)
        out[name] = evaluate(fit.model, data, questions=questions, ks=KS, progress=False).lists
    return out


def measure(results: Results, seeds: int, quick: bool, kept: Kept) -> None:
    """All rows of the shop."""
    size = {"rows": 20_000, "users_count": 800, "items_count": 600}
    if not quick:
        size = {"rows": 40_000, "users_count": 2_000, "items_count": 1_000}
    config = parse_config({"name": "shop", "data": {"format": "synthetic", "seed": 1, **size}})
    shop = generate(config.data)
    tables = shop.tables()
    splits = split_events(tables.interactions, config.split)
    splits["test"] = splits["test"].filter(pc.is_valid(splits["test"].column("query")))
    table = feature_table(WORDS, DIM)
    data = encode(tables, splits, table)
    plain = encode(tables, splits, table.without("query"))
    questions = held_out(data, "test")
    searched = np.asarray(data.validation.context["query"].any(axis=1))
    raw = column(splits["test"], "user_id", "query")
    queries = [raw[str(u)] for u in data.user_ids[questions.users]]
    titles = column(tables.items, "item_id", "title")
    likely = likelihoods(tables.items, queries)
    for note, personal in (("query only", False), ("query and user", True)):
        found = oracle(shop.truth, data, questions, likely, personal)
        record(results, found, PROTOCOL, None, note)
    scores = bm25_scores(["", *(titles[i] for i in data.item_ids[1:])], queries, WORDS)
    words = measured(best_of(scores, questions), questions, data, "bm25")
    record(results, words, PROTOCOL, None, "query only")
    runs: dict[str, list[Evaluation]] = {}
    train = TrainConfig(epochs=8 if quick else 15, batch_size=32, learning_rate=0.005, patience=3)
    wide = train.model_copy(update={"batch_size": 1024})
    for seed in range(seeds):
        for note, params, how, source in (
            ("query only", QUERY, wide, data),
            ("user only", USER, train, plain),
            ("query and user", BOTH, train, data),
        ):
            chosen = how.model_copy(update={"seed": seed})
            make = partial(train_and_list, params, chosen, source, searched)
            done = kept(f"shop {quick} {note} {seed}", make)
            print(f"  {note}, seed {seed}: best epoch {done['epoch']}", flush=True)
            rows = {note: "asked"}
            if note == "query and user":
                rows["query and user, nothing asked"] = "nothing asked"
            for told, key in rows.items():
                found = measured(done[key], question_of(key, source), source, "two_tower")
                record(results, found, PROTOCOL, seed, told)
                runs.setdefault(told, []).append(found)
    means = {note: mean_of(found) for note, found in runs.items()}
    both = "query and user"
    for note in ("query only", "user only"):
        record_gain(results, means[note], means[both], PROTOCOL, f"{both} over {note}")
    for note in ("query only", both):
        record_gain(results, words, means[note], PROTOCOL, f"{note} over bm25")


def main() -> None:
    """Measures and writes ``results/query_shop.json``."""
    parser = arguments(__doc__ or "")
    kept_arguments(parser)
    given = parser.parse_args()
    results = Results("query_shop", given.quick)
    try:
        kept = Kept(given.kept, given.limit)
        measure(results, 1 if given.quick else given.seeds, given.quick, kept)
    except OutOfTime as missing:
        print(f"{missing} is not trained yet: start again with the same --kept")
        return
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
