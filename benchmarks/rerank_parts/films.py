"""MovieLens-1M: what diversity and calibration cost, along the trade-off.

EASE scores the catalogue; each user's best candidates are re-ranked by genres. The last film of a
user is the test item, whole catalogue, seen films left out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.common import Results
from tfrec.config import Config, DataConfig, TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.beyond import Beyond, feature_vectors
from tfrec.evaluation.exposure import exposures
from tfrec.evaluation.full_catalogue import evaluate_lists
from tfrec.evaluation.protocol import HeldOut, blocks, held_out
from tfrec.rerank import rerank
from tfrec.rerank.calibrated import distribution, taste
from tfrec.schema import HISTORY, Feature
from tfrec.training.fit import fit_retrieval
from tfrec.training.workspace import open_workspace

PROTOCOL = "ml-1m/last-out/full, EASE"
K, BLOCK = 10, 256
TRADE_OFFS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
METHODS: tuple[tuple[str, int | None], ...] = (
    ("mmr", None),
    ("dpp", None),
    ("dpp", 4),
    ("calibrated", None),
)


def load(folder: Path, work: Path) -> RetrievalData:
    """Films with their genres; validation events train too."""
    config = Config(
        name="ml-1m",
        data=DataConfig(format="movielens_1m", path=str(folder / "ml-1m"), min_item_events=5),
        features=(Feature(name="genres", role="item", kind="multi", max_length=6),),
    )
    return open_workspace(config, work).data.refit()


class Candidates:
    """Each asked user's best unseen films by EASE, their genres, and the user's taste."""

    def __init__(self, data: RetrievalData, questions: HeldOut, width: int) -> None:
        model = fit_retrieval("ease", {"l2": 500.0}, TrainConfig(), data).model
        vectors = feature_vectors(data)
        assert vectors is not None
        self.genres = vectors
        length = model.history_length
        items, scores, targets = [], [], []
        for start, stop in blocks(len(questions.users), BLOCK):
            users = questions.users[start:stop]
            inputs = data.user_inputs(users, questions.known, length)
            history = inputs[HISTORY]
            best, score = model.recommend(inputs, width, exclude=history)
            items.append(best.numpy().astype(np.int32))
            scores.append(score.numpy())
            targets.append(taste(self.genres[history]).numpy())
        self.items, self.scores = np.concatenate(items), np.concatenate(scores)
        self.target = np.concatenate(targets)

    def lists(self, method: str, window: int | None, trade_off: float) -> np.ndarray:
        """int32 [user, K] item indices."""

        @tf.function(autograph=False, reduce_retracing=True)
        def answer(scores: tf.Tensor, vectors: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
            found = rerank(
                scores,
                K,
                method=method,
                trade_off=trade_off,
                vectors=vectors,
                categories=vectors,
                target=target,
                window=window,
                normalise=True,
            )
            return found.indices

        out = []
        for start, stop in blocks(len(self.items), BLOCK):
            items = self.items[start:stop]
            at = answer(self.scores[start:stop], self.genres[items], self.target[start:stop])
            out.append(np.take_along_axis(items, at.numpy(), axis=1))
        return np.concatenate(out)

    def miscalibration(self, lists: np.ndarray) -> float:
        """Mean KL(p || .99 q + .01 p) of the lists' genres q from the users' p, nats."""
        p = self.target.astype(np.float64)
        q = distribution(distribution(self.genres).numpy()[lists].sum(axis=1)).numpy()
        mixed = 0.99 * q + 0.01 * p
        ratio = np.divide(p, mixed, out=np.ones_like(p), where=p > 0)
        return float((p * np.log(ratio)).sum(axis=1).mean())


def measure(results: Results, folder: Path, quick: bool) -> None:
    """Adds accuracy, diversity, calibration, coverage and exposure along the trade-off."""
    with tempfile.TemporaryDirectory() as work:
        data = load(folder, Path(work))
    questions = held_out(data, "test")
    found = Candidates(data, questions, 50 if quick else 200)
    beyond = Beyond(data, K, vectors=found.genres)
    for method, window in METHODS[: 1 if quick else None]:
        for trade_off in (0.0, 0.5) if quick else TRADE_OFFS:
            lists = found.lists(method, window, trade_off)
            judged = evaluate_lists(lists, questions.users, data, ks=(K,), beyond=beyond)
            bands = exposures(judged, data, K)[0]
            figures: dict[str, Any] = {
                f"ndcg@{K}": judged[f"ndcg@{K}"],
                f"recall@{K}": judged[f"recall@{K}"],
                f"diversity@{K}": judged[f"diversity@{K}"],
                f"miscalibration@{K}": found.miscalibration(lists),
                f"coverage@{K}": judged[f"coverage@{K}"],
                "shown from the tail": bands.shown[3],
            }
            note = f"trade-off {trade_off:.1f}" + (f", window {window}" if window else "")
            for metric, value in figures.items():
                results.add(method, metric, value, protocol=PROTOCOL, note=note)
        results.write()
