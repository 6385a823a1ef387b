"""Wide & deep against each of its parts: MovieLens-1M by time, and the Census income set.

    python -m benchmarks.wide_deep            # 34 minutes on 2 cores shared by 15
    python -m benchmarks.wide_deep --quick    # one seed, one epoch, a fifth of MovieLens

``ml-1m/time-rating4``: is a rating 4 or more? The last tenth of all ratings tests, the tenth before
it validates. ``census/published``: is the income above 50,000? The published train and test files;
a tenth of train validates. The number of epochs is chosen on validation.
82% of MovieLens's times here are exact, the others interpolated in the known order.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import tensorflow as tf

from benchmarks.common import Results, arguments, shared_data
from tfrec.config import Config, DataConfig, RankingConfig, SplitConfig, TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.data.prepare import prepare
from tfrec.data.splits import assign
from tfrec.data.tables import read_tables
from tfrec.features.fit import encode_table, fit_encoder, fit_row_encoder, retrieval_data
from tfrec.models import registry
from tfrec.schema import Feature, FeatureTable
from tfrec.training.fit import FitResult
from tfrec.training.ranking import (
    build_ranker,
    evaluate_ranking,
    fit_ranking,
    fit_rows,
    rows_measurer,
)
from tfrec.training.ranking_rows import RankingRows, plain_rows

MODELS = ("wide", "deep", "wide_deep")
MOVIES, CENSUS = "ml-1m/time-rating4", "census/published"

MOVIE_FEATURES = (
    Feature(name="gender", role="user", kind="categorical", dim=4),
    Feature(name="age", role="user", kind="categorical", dim=4),
    Feature(name="occupation", role="user", kind="categorical", dim=8),
    Feature(name="genres", role="item", kind="multi", dim=16, max_length=6),
    Feature(name="year", role="item", kind="numeric", buckets=20),
)
MOVIE_RANKING = RankingConfig(
    label="rating",
    threshold=4.0,
    history_length=20,
    crosses=(("gender", "item_id"), ("age", "item_id"), ("user_id", "genres")),
    params={
        "hidden": [128, 64],
        "embedding_dim": 32,
        "embedding_stddev": 0.01,  # three of four validation events are of users new to the model
        "history_pooling": "attention",
        "dots": True,
        "dropout": 0.2,
        "cross_buckets": 200_000,
        "wide_learning_rate": 0.02,
        "l1": 3.0,
    },
    train=TrainConfig(epochs=3, batch_size=2048, learning_rate=0.03, patience=1),
)
# What validation likes better for the wide part where no deep part helps it.
WIDE_ALONE = {"wide_learning_rate": 0.05, "l1": 2.0}

NUMBERS = ("age", "education_num", "capital_gain", "capital_loss", "hours_per_week")
CATEGORIES = (
    "workclass",
    "education",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "native_country",
)
CENSUS_COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status"),
    *("occupation", "relationship", "race", "sex", "capital_gain", "capital_loss"),
    *("hours_per_week", "native_country", "income"),
)
CENSUS_FEATURES = FeatureTable(
    features=tuple(
        Feature(name=n, role="user", kind="numeric", buckets=20)
        if n in NUMBERS
        else Feature(name=n, role="user", kind="categorical", dim=8)
        for n in (*NUMBERS, *CATEGORIES)
    )
)
CENSUS_PARAMS: dict[str, Any] = {
    "crosses": (
        ("education", "occupation"),
        ("age", "education", "occupation"),
        ("marital_status", "occupation"),
        ("relationship", "hours_per_week"),
    ),
    "hidden": [128, 64],
    "dropout": 0.2,
    "l1": 2.0,
    "wide_learning_rate": 0.02,
}
CENSUS_TRAIN = TrainConfig(epochs=30, batch_size=512, learning_rate=0.02, patience=3)


def movies(folder: Path) -> RetrievalData:
    """MovieLens-1M, encoded, split by time."""
    config = Config(
        name="ml-1m",
        data=DataConfig(format="movielens_1m", path=str(folder)),
        features=MOVIE_FEATURES,
        split=SplitConfig(method="time", validation=0.1, test=0.1),
    )
    work = Path(tempfile.gettempdir()) / "tfrec-benchmarks"
    prepare(config, work / "ml-1m")
    tables = read_tables(work / "ml-1m")
    split = assign(tables.interactions, config.split)
    splits = {n: tables.interactions.filter(pc.equal(split, n)) for n in ("train", "eval", "test")}
    with tempfile.TemporaryDirectory() as statistics:
        encoder = fit_encoder(
            splits["train"], tables.users, tables.items, config.feature_table, statistics, 0
        )
        return retrieval_data(splits, tables.users, tables.items, encoder)


@dataclass(frozen=True)
class Rows:
    """A labelled table, encoded.

    Attributes:
        splits: by ``train``, ``validation``, ``test``: encoded features and labels float32 [row].
        features, sizes: what the model has to know of them.
    """

    splits: dict[str, tuple[dict[str, np.ndarray], np.ndarray]]
    features: FeatureTable
    sizes: dict[str, int]


def census(folder: Path) -> Rows:
    """Census income; a tenth of the published train file validates."""

    def read(name: str) -> tuple[pa.Table, np.ndarray]:
        table = pacsv.read_csv(
            folder / name,
            pacsv.ReadOptions(column_names=CENSUS_COLUMNS, skip_rows=1),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(CENSUS_COLUMNS, pa.string())
            ),
        )
        columns = {}
        for column in CENSUS_COLUMNS:
            text = pc.utf8_trim_whitespace(table.column(column))
            text = pc.if_else(pc.equal(text, "?"), pa.scalar(None, pa.string()), text)
            columns[column] = pc.cast(text, pa.float32()) if column in NUMBERS else text
        label = pc.starts_with(columns["income"], ">50K").to_numpy(zero_copy_only=False)
        return pa.table(columns), label.astype(np.float32)

    table, label = read("adult.data")
    held = np.random.default_rng(0).random(len(label)) < 0.1
    train, validation = table.filter(pa.array(~held)), table.filter(pa.array(held))
    test, test_label = read("adult.test")
    with tempfile.TemporaryDirectory() as statistics:
        encoder = fit_row_encoder(train, CENSUS_FEATURES, statistics)
        encoded = [
            encode_table(t, tuple(CENSUS_FEATURES), encoder) for t in (train, validation, test)
        ]
    labels = (label[~held], label[held], test_label)
    names = ("train", "validation", "test")
    splits = {n: (e, y) for n, e, y in zip(names, encoded, labels, strict=True)}
    return Rows(splits, CENSUS_FEATURES, encoder.sizes)


def fit_census(
    name: str, rows: Rows, seed: int, params: dict[str, Any], train: TrainConfig
) -> tuple[FitResult, dict[str, float]]:
    """One model on the Census rows: how it was fitted, and its figures on test."""
    tf.keras.utils.set_random_seed(seed)
    model = registry.build(name, rows, {**params, "seed": seed})
    model.compile_for(train)
    inputs, label = rows.splits["train"]
    model.set_prior(float(label.mean()))
    held, test = (
        plain_rows(*rows.splits[n], batch_size=8192, seed=None) for n in ("validation", "test")
    )
    fitted = fit_rows(
        model,
        plain_rows(inputs, label, train.batch_size, seed),
        -(-len(label) // train.batch_size),
        train,
        rows_measurer(model, held, "binary"),
        "auc",
    )
    return fitted, rows_measurer(model, test, "binary")()


def fit_movies(
    name: str, data: RetrievalData, seed: int, ranking: RankingConfig
) -> tuple[FitResult, dict[str, float]]:
    """One model on MovieLens-1M: how it was fitted, and its figures on test."""
    train = ranking.train.model_copy(update={"seed": seed})
    params = {**ranking.params, **(WIDE_ALONE if name == "wide" else {})}
    ranking = ranking.model_copy(update={"model": name, "train": train, "params": params})
    fitted = fit_ranking(ranking, data)
    return fitted, evaluate_ranking(fitted.model, data, "test")


def train_speed(data: RetrievalData, ranking: RankingConfig) -> tuple[float, float]:
    """Examples a second of a train step on ready batches, and of the batches alone."""
    rows = RankingRows(data, "train", ranking)
    batches = rows.dataset(ranking.train.batch_size, 0, shuffle=True)
    model = build_ranker(ranking, data)
    ready = list(batches.take(8))
    step = tf.function(model.train_step, reduce_retracing=True)
    step(ready[0])
    began = time.perf_counter()
    for i in range(40):
        step(ready[i % 8])
    step_seconds = time.perf_counter() - began
    source = iter(batches)
    next(source)
    began = time.perf_counter()
    for _ in range(100):
        next(source)
    return (
        40 * ranking.train.batch_size / step_seconds,
        100 * ranking.train.batch_size / (time.perf_counter() - began),
    )


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    folder = shared_data()
    if folder is None:
        print("no real data here; set TFREC_SHARED_DATA; nothing measured")
        return
    seeds = range(1 if options.quick else options.seeds)
    results = Results("wide_deep", options.quick)

    rows = census(folder / "census")
    train = CENSUS_TRAIN.model_copy(update={"epochs": 5} if options.quick else {})
    for seed in seeds:
        for name in MODELS:
            _, figures = fit_census(name, rows, seed, CENSUS_PARAMS, train)
            for metric in ("accuracy", "auc", "log_loss"):
                results.add(name, metric, figures[metric], protocol=CENSUS, seed=seed)
    data = movies(folder / "ml-1m")
    ranking = MOVIE_RANKING
    if options.quick:
        some = np.random.default_rng(0).random(len(data.train)) < 0.2
        data = replace(data, train=data.train.select(some))
        one = ranking.train.model_copy(update={"epochs": 1})
        ranking = ranking.model_copy(update={"train": one})
    for seed in seeds:
        for name in MODELS:
            fitted, figures = fit_movies(name, data, seed, ranking)
            for metric in ("auc", "log_loss"):
                results.add(name, metric, figures[metric], protocol=MOVIES, seed=seed)
            if name != "deep":
                weights = fitted.model.wide.weight.numpy()
                results.add(
                    name, "nonzero", float((weights != 0).mean()), protocol=MOVIES, seed=seed
                )
        results.write()
    step, source = train_speed(data, ranking)
    results.add("wide_deep", "examples_per_s", step, protocol=MOVIES, note="train step")
    results.add("wide_deep", "examples_per_s", source, protocol=MOVIES, note="input alone")
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
