"""item2vec: do neighbours share the genre, and is the next purchase among them?

    python -m benchmarks.item2vec --seeds 5
    python -m benchmarks.item2vec --only genres --resume

``ml-1m/genre-knn``: share of movies whose first genre is that of most of their 8 nearest neighbours
(cosine), over all movies and over the rarest third, as in Barkan & Koenigstein 2016 (artists there:
82% against 80% for SVD; rare ones 68 against 58). Vectors of all events; nothing is held out.
``<set>/last-out/full``: hit rate of the last event among 10 items of the whole catalogue, against
PureSVD (rank by validation) and most popular. Exponent, window, match, how many recent items are
the user, and epochs are chosen on the last but one event (seed 0). Results are written after every
setting; ``--resume`` goes on with what the file holds.
"""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
import scipy.sparse.linalg
import tensorflow as tf

from benchmarks.common import HERE, Results, arguments, shared_data
from tfrec.config import Config, DataConfig, TrainConfig, load_config
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.full_catalogue import evaluate, evaluate_lists
from tfrec.evaluation.protocol import held_out
from tfrec.evaluation.ranker import Ranker
from tfrec.evaluation.result import Evaluation
from tfrec.schema import ITEM_ID, Feature
from tfrec.training.fit import fit_retrieval
from tfrec.training.workspace import Workspace, open_workspace

SETS = ("ml-1m", "online_retail", "completejourney")
NEIGHBOURS = 8
DIM = 64
SUBSAMPLE = 1e-4
# Of next purchases: shops have fewer events than MovieLens-1M and fewer that are very frequent.
NEXT = {
    "ml-1m": {"dim": 64, "subsample": 1e-4, "epochs": 10},
    "online_retail": {"dim": 128, "subsample": 1e-3, "epochs": 20},
    "completejourney": {"dim": 128, "subsample": 1e-3, "epochs": 20},
}
# Ways of answering: the match, and of how many recent items the average is the user.
WAYS = tuple(itertools.product(("context", "similar"), (1, 3, 10)))
RANKS = (16, 32, 64, 128, 256)
TRAIN = TrainConfig(epochs=10, batch_size=1024, learning_rate=5e-3, patience=0)
GENRE_EXPONENTS = (0.75, 0.0, -0.5)
GRID = [
    {"exponent": exponent, "window": window} for exponent in (0.75, 0.0, -0.5) for window in (3, 10)
]


class ByAnswers(tf.keras.callbacks.Callback):
    """Validates one training under all ways of answering, epoch by epoch.

    Attributes:
        best: of each match and history length, the highest NDCG@10 and its epoch.
    """

    def __init__(self, data: RetrievalData) -> None:
        super().__init__()
        self.best = dict.fromkeys(WAYS, (-1.0, 1))
        self._data = data
        self._questions = held_out(data, "validation")
        self._rankers: dict[tuple[str, int], Ranker] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.model.refresh()
        for way, best in self.best.items():
            self.model.match, self.model.history_length = way
            if way not in self._rankers:
                # One each: a ranker keeps the trace of its first answer, and with it the way.
                self._rankers[way] = Ranker(self.model, self._data, self._questions, 10)
            ranker = self._rankers[way]
            found = evaluate(
                self.model, self._data, "validation", (10,), ranker=ranker, progress=False
            )
            self.best[way] = max(best, (found["ndcg@10"], epoch + 1), key=lambda b: b[0])


def movies(folder: Path, work: Path) -> Workspace:
    """MovieLens-1M with genres, last event out."""
    genres = Feature(name="genres", role="item", kind="multi", dim=16, max_length=6)
    config = Config(
        name="ml-1m",
        data=DataConfig(format="movielens_1m", path=str(folder / "ml-1m"), min_item_events=5),
        features=(genres,),
    )
    return open_workspace(config, work / "ml-1m")


def first_genres(space: Workspace) -> np.ndarray:
    """The first genre of each item as a number, int [n_items + 1]; -1 where there is none."""
    items = space.tables.items
    lists = items.column("genres").to_pylist()
    first = [row[0] if row else "" for row in lists]
    by_id = dict(zip(items.column(ITEM_ID).to_pylist(), first, strict=True))
    names = [by_id.get(i) or "" for i in space.data.item_ids]
    codes = pa.array(names).dictionary_encode().indices.to_numpy()
    return np.where(np.array(names) == "", -1, codes)


def consistency(vectors: np.ndarray, genre: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Share of items whose genre wins the vote of their nearest neighbours: all, rarest third.

    Args:
        vectors: float32 [n_items, dim].
        genre: int [n_items], -1 is left out.
        counts: int [n_items], events of each.
    """
    kept = np.flatnonzero((genre >= 0) & (counts > 0))
    unit = vectors[kept] / (np.linalg.norm(vectors[kept], axis=1, keepdims=True) + 1e-12)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2.0)
    near = np.argpartition(-cosine, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    votes = np.zeros((len(kept), genre.max() + 1))
    np.add.at(votes, (np.arange(len(kept))[:, None], genre[kept][near]), 1.0)
    # A tie goes to the genre of the nearest neighbour among the tied ones.
    order = np.argsort(-np.take_along_axis(cosine, near, 1), axis=1)
    ranked = np.take_along_axis(genre[kept][near], order, 1)
    for place in range(NEIGHBOURS):
        votes[np.arange(len(kept)), ranked[:, place]] += 0.01 * 0.5**place
    right = votes.argmax(axis=1) == genre[kept]
    rare = counts[kept] <= np.quantile(counts[kept], 1 / 3)
    return float(right.mean()), float(right[rare].mean())


def svd_items(data: RetrievalData, rank: int, seed: int) -> np.ndarray:
    """Item vectors of the SVD of square-root normalised co-occurrences, as item2vec's baseline."""
    matrix = data.train.matrix()
    together = (matrix.T @ matrix).astype(np.float64)
    together.setdiag(0)
    norm = sp.diags(1 / np.sqrt(np.maximum(np.asarray(together.sum(axis=1)).ravel(), 1)))
    start = np.random.default_rng(seed).random(data.n_items)
    u, s, _ = scipy.sparse.linalg.svds(norm @ together @ norm, k=rank, v0=start)
    return (u * np.sqrt(s)).astype(np.float32)


def pure_svd(data: RetrievalData, split: str, rank: int) -> Evaluation:
    """PureSVD (Cremonesi et al. 2010): a history projected on the items' right singular vectors."""
    start = np.random.default_rng(0).random(min(data.n_users, data.n_items))
    _, _, vt = scipy.sparse.linalg.svds(data.train.matrix().astype(np.float64), k=rank, v0=start)
    questions = held_out(data, split)  # type: ignore[arg-type]
    known = questions.known.matrix()[questions.users - 1]
    lists = np.zeros((len(questions.users), 10), np.int32)
    for at in range(0, len(lists), 1024):
        part = known[at : at + 1024]
        scores = (part @ vt.T) @ vt
        scores[part.nonzero()] = -np.inf
        lists[at : at + 1024] = np.argsort(-scores, axis=1)[:, :10] + 1
    return evaluate_lists(lists, questions.users, data, split, (10,))  # type: ignore[arg-type]


def genres(results: Results, space: Workspace, seeds: int, epochs: int) -> None:
    """Genre consistency of SVD and item2vec, ids alone: attributes would hold the answer."""
    protocol = "ml-1m/genre-knn"
    data = space.data.refit()
    data = replace(data, train=data.train.join(data.test))
    genre, counts = first_genres(space)[1:], data.train.item_counts()[1:]

    def keep(name: str, vectors: np.ndarray, seed: int, note: str) -> None:
        for metric, value in zip(
            ("consistency", "consistency_rare"), consistency(vectors, genre, counts), strict=True
        ):
            results.add(name, metric, value, protocol=protocol, seed=seed, note=note)
        results.write()

    def lacks(name: str, seed: int, note: str) -> bool:
        found = results.value(name, "consistency_rare", protocol=protocol, seed=seed, note=note)
        return found is None

    for seed in range(seeds):
        if lacks("svd", seed, f"rank {DIM}"):
            keep("svd", svd_items(data, DIM, seed), seed, f"rank {DIM}")
        for exponent in GENRE_EXPONENTS:
            note = f"exponent {exponent}"
            if not lacks("item2vec", seed, note):
                continue
            own = TRAIN.model_copy(update={"seed": seed, "epochs": epochs})
            params = {"dim": DIM, "window": 10, "exponent": exponent, "subsample": SUBSAMPLE}
            model = fit_retrieval("item2vec", {**params, "match": "similar"}, own, data).model
            keep("item2vec", model.item_embedding().numpy(), seed, note)


def told(setting: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in setting.items())


def tuned(
    results: Results,
    protocol: str,
    data: RetrievalData,
    train: TrainConfig,
    params: dict[str, Any],
    quick: bool,
) -> tuple[dict[str, Any], int]:
    """The best setting of the grid on validation, and its epochs."""
    found: list[tuple[float, dict[str, Any], int]] = []
    for setting in GRID[:1] if quick else GRID:
        ways: dict[tuple[str, int], dict[str, Any]] = {
            way: {**setting, "match": way[0], "history_length": way[1]} for way in WAYS
        }

        def kept(metric: str, one: dict[str, Any]) -> float | None:
            return results.value("item2vec", metric, protocol=protocol, seed=0, note=told(one))

        if any(kept("validation_ndcg@10", one) is None for one in ways.values()):
            answers = ByAnswers(data)
            without = replace(data, validation=data.validation.select(data.validation.user < 0))
            fit_retrieval("item2vec", {**params, **setting}, train, without, callbacks=[answers])
            for way, one in ways.items():
                for metric, number in zip(
                    ("validation_ndcg@10", "best_epoch"), answers.best[way], strict=True
                ):
                    results.add(
                        "item2vec", metric, number, protocol=protocol, seed=0, note=told(one)
                    )
            results.write()
        for one in ways.values():
            found.append(
                (kept("validation_ndcg@10", one) or 0.0, one, int(kept("best_epoch", one) or 1))
            )
    _, setting, epochs = max(found, key=lambda f: f[0])
    return setting, epochs


def purchases(results: Results, name: str, data: RetrievalData, seeds: int, quick: bool) -> None:
    """Hit rate of the next purchase."""
    protocol = f"{name}/last-out/full"

    def keep(model: str, found: Evaluation, seed: int | None, note: str) -> None:
        for metric in ("hr@10", "ndcg@10"):
            results.add(model, metric, found[metric], protocol=protocol, seed=seed, note=note)
        results.write()

    if results.value("popular", "ndcg@10", protocol=protocol) is None:
        popular = fit_retrieval("popular", {}, TRAIN, data.refit()).model
        keep("popular", evaluate(popular, data, "test", (10,)), None, "")
        ranks = (64,) if quick else RANKS
        rank = max(ranks, key=lambda r: pure_svd(data, "validation", r)["ndcg@10"])
        keep("pure_svd", pure_svd(data.refit(), "test", rank), None, f"rank {rank}")
    params = dict(NEXT[name])
    epochs = params.pop("epochs")
    train = TRAIN.model_copy(update={"epochs": 2 if quick else epochs})
    setting, epochs = tuned(results, protocol, data, train, params, quick)
    note = f"tuned: {told(setting)}"
    for seed in range(seeds):
        if results.value("item2vec", "ndcg@10", protocol=protocol, seed=seed, note=note) is None:
            final = train.model_copy(update={"epochs": epochs, "seed": seed})
            model = fit_retrieval("item2vec", {**params, **setting}, final, data.refit()).model
            keep("item2vec", evaluate(model, data, "test", (10,)), seed, note)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", nargs="+", choices=["genres", *SETS], default=["genres", *SETS])
    parser.add_argument("--resume", action="store_true", help="keep what the file holds")
    given = parser.parse_args()
    folder = shared_data()
    if folder is None:
        print("skipped: the real data is not here; set TFREC_SHARED_DATA")
        return
    results = Results("item2vec", given.quick, given.resume)
    seeds = 1 if given.quick else given.seeds
    with tempfile.TemporaryDirectory() as work:
        space = movies(folder, Path(work)) if {"genres", "ml-1m"} & set(given.only) else None
        if "genres" in given.only and space is not None:
            genres(results, space, seeds, epochs=1 if given.quick else TRAIN.epochs)
        for name in SETS:
            if name not in given.only or (given.quick and name == "ml-1m"):
                continue
            if name == "ml-1m" and space is not None:
                data = space.data
            else:
                config = load_config(HERE.parent / "configs" / f"{name}.yaml")
                split = config.split.model_copy(update={"method": "last_out"})
                config = config.model_copy(update={"features": (), "split": split})
                config = config.model_copy(
                    update={
                        "ranking": config.ranking.model_copy(update={"crosses": ()}),
                        "gate": config.gate.model_copy(update={"slices": ()}),
                    }
                )
                data = open_workspace(config, Path(work) / name).data
            purchases(results, name, data, seeds, given.quick)
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
