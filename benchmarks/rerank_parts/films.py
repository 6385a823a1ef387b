"""MovieLens-1M: what diversity and calibration cost, along the trade-off.

EASE scores the catalogue; each user's best candidates are re-ranked by genres. The last film of a
user is the test item, whole catalogue, seen films left out.

What a user has by itself (NDCG, recall, diversity, miscalibration) is also given as the difference
from the same user's list by worth alone, with a 95% bootstrap interval over users. A trade-off
that is read off the test split flatters itself; so one is also chosen on the validation split, the
largest that keeps ``KEPT`` of the NDCG there, and measured on the test split.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.common import Results
from tfrec.config import Config, DataConfig, TrainConfig
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.beyond import coverage, feature_vectors, intra_list_diversity
from tfrec.evaluation.bootstrap import confidence_interval
from tfrec.evaluation.exposure import exposures
from tfrec.evaluation.full_catalogue import evaluate_lists
from tfrec.evaluation.protocol import HeldOut, Split, blocks, held_out
from tfrec.rerank import rerank
from tfrec.rerank.calibrated import distribution, taste
from tfrec.schema import HISTORY, Feature
from tfrec.training.fit import fit_retrieval
from tfrec.training.workspace import open_workspace

PROTOCOL = "ml-1m/last-out/full, EASE"
K, BLOCK = 10, 256
KEPT = 0.99
TRADE_OFFS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
METHODS: tuple[tuple[str, int | None], ...] = (
    ("mmr", None),
    ("dpp", None),
    ("dpp", 4),
    ("calibrated", None),
)
Figures = dict[str, np.ndarray]


def load(folder: Path, work: Path) -> RetrievalData:
    """Films with their genres."""
    config = Config(
        name="ml-1m",
        data=DataConfig(format="movielens_1m", path=str(folder / "ml-1m"), min_item_events=5),
        features=(Feature(name="genres", role="item", kind="multi", max_length=6),),
    )
    return open_workspace(config, work).data


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

    def miscalibration(self, lists: np.ndarray) -> np.ndarray:
        """KL(p || .99 q + .01 p) of a list's genres q from the user's p, nats: float64 [user]."""
        p = self.target.astype(np.float64)
        q = distribution(distribution(self.genres).numpy()[lists].sum(axis=1)).numpy()
        mixed = 0.99 * q + 0.01 * p
        ratio = np.divide(p, mixed, out=np.ones_like(p), where=p > 0)
        return np.asarray((p * np.log(ratio)).sum(axis=1))


class Films:
    """One split: candidates, and the figures of their lists.

    Args:
        data: what EASE learns from; its ``split`` is asked.
        split: ``validation`` or ``test``.
        width: candidates of each user.
    """

    def __init__(self, data: RetrievalData, split: Split, width: int) -> None:
        self.data, self.questions = data, held_out(data, split)
        self.found = Candidates(data, self.questions, width)

    def figures(self, method: str, window: int | None, trade_off: float) -> tuple[Figures, Figures]:
        """Figures of each user, float64 [user] by metric; and those of all lists together."""
        lists = self.found.lists(method, window, trade_off)
        judged = evaluate_lists(lists, self.questions.users, self.data, self.questions.split, (K,))
        own = {
            f"ndcg@{K}": judged.per_user[f"ndcg@{K}"],
            f"recall@{K}": judged.per_user[f"recall@{K}"],
            f"diversity@{K}": intra_list_diversity(lists, self.found.genres),
            f"miscalibration@{K}": self.found.miscalibration(lists),
        }
        together = {
            f"coverage@{K}": np.array(coverage(lists, self.data.n_items)),
            "shown from the tail": np.array(exposures(judged, self.data, K)[0].shown[3]),
        }
        return own, together


def keep_differences(
    results: Results, name: str, note: str, protocol: str, own: Figures, plain: Figures
) -> None:
    """Records what each figure gains on ``plain``, user by user, with its interval."""
    for metric, values in own.items():
        gain = confidence_interval(values - plain[metric])
        for kind, value in (("", gain.mean), (" low", gain.low), (" high", gain.high)):
            results.add(name, f"{metric} gain{kind}", value, protocol=protocol, note=note)


def measure(results: Results, folder: Path, quick: bool) -> None:
    """Adds accuracy, diversity, calibration, coverage and exposure along the trade-off."""
    with tempfile.TemporaryDirectory() as work:
        data = load(folder, Path(work))
    width = 50 if quick else 200
    trade_offs = (0.0, 0.5) if quick else TRADE_OFFS
    methods = METHODS[: 1 if quick else None]
    validation = Films(data, "validation", width)
    kept: dict[tuple[str, int | None], float] = {}
    for method, window in methods:
        ndcg = {t: validation.figures(method, window, t)[0][f"ndcg@{K}"].mean() for t in trade_offs}
        kept[method, window] = max(t for t in trade_offs if ndcg[t] >= KEPT * ndcg[0.0])
    del validation
    test = Films(data.refit(), "test", width)  # validation events train, too
    plain, _ = test.figures("none", None, 0.0)
    for method, window in methods:
        for trade_off in trade_offs:
            own, together = test.figures(method, window, trade_off)
            note = f"trade-off {trade_off:.1f}" + (f", window {window}" if window else "")
            for metric, value in (own | together).items():
                results.add(method, metric, float(value.mean()), protocol=PROTOCOL, note=note)
            if trade_off > 0:
                protocol = f"{PROTOCOL}, against worth alone"
                keep_differences(results, method, note, protocol, own, plain)
            if trade_off == kept[method, window] and trade_off > 0:
                protocol = f"{PROTOCOL}, trade-off that keeps {KEPT:.0%} of validation's NDCG"
                keep_differences(results, method, note, protocol, own, plain)
        results.write()
