"""Baselines on MovieLens-1M against figures that another implementation measured.

Leave-last-one-out on ``position``, movies rated at least five times, whole catalogue, seen
excluded (the design's reference-figures page).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.builders import retrieval_data
from tfrec.config import TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation import evaluate
from tfrec.evaluation.sampled import evaluate_sampled
from tfrec.training.fit import fit_retrieval

pytestmark = pytest.mark.slow


def encode(column: pd.Series, order: pd.Index) -> np.ndarray:
    """Indices from 1 in the given order."""
    return column.map(pd.Series(np.arange(1, len(order) + 1), order)).to_numpy()


@pytest.fixture(scope="module")
def data(shared_data: Path) -> RetrievalData:
    path = shared_data / "ml-1m" / "ratings.csv.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    table = pd.read_csv(path).dropna(subset=["position"])
    table = table.sort_values(["user_id", "position"])
    last = ~table.duplicated("user_id", keep="last").to_numpy()
    # Vocabularies in descending frequency of training events, as the encoder makes them.
    items = table[~last].movie_id.value_counts().index
    items = items.append(pd.Index(table.movie_id.unique()).difference(items))
    user = encode(table.user_id, pd.Index(table.user_id.unique()))
    pairs = np.stack([user, encode(table.movie_id, items)], axis=1)
    found = retrieval_data(pairs[~last], (), pairs[last])
    assert (found.n_users, found.n_items) == (6040, 3416)
    return found


@pytest.mark.parametrize(
    ("name", "params", "recall", "ndcg", "tolerance"),
    [
        ("popular", {}, 0.0363, 0.0178, 0.0003),
        ("ease", {"l2": 200.0}, 0.1101, 0.0536, 0.0003),
        ("ease", {"l2": 1000.0}, 0.1070, 0.0533, 0.0003),
        # Another ALS (implicit's): the same quality, not the same numbers.
        ("als", {"dim": 64, "unobserved_weight": 1.0, "l2": 0.003}, 0.0980, 0.0489, 0.004),
    ],
)
def test_reference_lines(
    data: RetrievalData, name: str, params: dict, recall: float, ndcg: float, tolerance: float
) -> None:
    model = fit_retrieval(name, params, TrainConfig(), data).model
    found = evaluate(model, data, "test", (10, 20, 100))
    assert found["recall@10"] == pytest.approx(recall, abs=tolerance)
    assert found["ndcg@10"] == pytest.approx(ndcg, abs=tolerance)


def test_most_popular_on_the_files_of_ncf(shared_data: Path) -> None:
    """.4531 / .2542 (Dacrema et al. 2019): says that protocol, ties and files are right."""
    folder = shared_data / "ml-1m" / "ncf"
    if not folder.exists():
        pytest.skip(f"no {folder}")
    names = ["user", "item", "rating"]
    train = pd.read_csv(folder / "ml-1m.train.rating.gz", sep="\t", names=names, usecols=[0, 1, 2])
    test = pd.read_csv(folder / "ml-1m.test.rating", sep="\t", names=names, usecols=[0, 1, 2])
    negatives = pd.read_csv(folder / "ml-1m.test.negative.gz", sep="\t", header=None)
    drawn = negatives.iloc[:, 1:].to_numpy()
    every = np.unique(np.concatenate([train.item, test.item, drawn.ravel()]))
    index = np.zeros(every.max() + 1, np.int64)
    index[every] = np.arange(1, len(every) + 1)
    data = retrieval_data(
        np.stack([train.user + 1, index[train.item]], axis=1),
        (),
        np.stack([test.user + 1, index[test.item]], axis=1),
        6040,
        len(every),
    )
    model = fit_retrieval("popular", {}, TrainConfig(), data).model
    found = evaluate_sampled(model, data, index[drawn])
    assert found["hr@10"] == pytest.approx(0.4531, abs=0.001)
    assert found["ndcg@10"] == pytest.approx(0.2542, abs=0.001)
