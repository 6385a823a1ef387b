"""Retrieval on the whole catalogue: the two-tower beside popularity, item-kNN, ALS and EASE.

    python -m benchmarks.retrieval                 # MovieLens-1M and Online Retail, 3 seeds
    python -m benchmarks.retrieval --only online-retail

Protocols (leave-last-one-out, whole catalogue, seen items excluded, movies rated at least 5 times
as in gSASRec's files): the last event tests, the one before validates. Every model is fitted on the
training events alone; epochs and settings are chosen on validation; the test split is read once a
model and seed. `implicit` is an independent ALS at the settings of the reference figures, on the
same matrix. Ablations take one thing away from the two-tower, with its first seed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import HERE, Results, arguments, shared_data
from tfrec.config import Config, TrainConfig, load_config
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.beyond import coverage
from tfrec.evaluation.full_catalogue import evaluate, evaluate_lists
from tfrec.evaluation.protocol import held_out
from tfrec.evaluation.result import Evaluation
from tfrec.training.fit import fit_retrieval
from tfrec.training.workspace import Workspace, open_workspace

METRICS = ("recall@10", "recall@20", "recall@100", "ndcg@10")
SETS = {"ml-1m": "movielens_1m", "online-retail": "online_retail"}
# Models without epochs, each with the settings among which validation chooses.
CHEAP: dict[str, list[dict[str, Any]]] = {
    "popular": [{}],
    "item_knn": [{"neighbours": n, "shrinkage": s} for n in (50, 100, 200) for s in (10.0, 100.0)],
    "als": [
        {"dim": 64, "sweeps": 15, "unobserved_weight": w, "l2": l2}
        for w in (0.1, 0.3, 1.0)
        for l2 in (0.001, 0.003, 0.01)
    ],
    "ease": [{"l2": l2} for l2 in (50.0, 200.0, 500.0, 1000.0)],
}


def record(
    results: Results, name: str, found: Evaluation, protocol: str, seed: int | None, note: str = ""
) -> None:
    """Keeps one evaluation."""
    for metric in METRICS:
        results.add(name, metric, found[metric], protocol=protocol, seed=seed, note=note)
    share = coverage(found.lists[:, :10], found.n_items)
    results.add(name, "coverage@10", share, protocol=protocol, seed=seed, note=note)


def implicit_als(data: RetrievalData) -> Evaluation:
    """ALS of the package ``implicit``: 64 factors, regularisation .01, alpha 1, 15 sweeps."""
    from implicit.als import AlternatingLeastSquares

    matrix = data.train.matrix()
    model = AlternatingLeastSquares(
        factors=64, regularization=0.01, alpha=1.0, iterations=15, random_state=0
    )
    model.fit(matrix, show_progress=False)
    questions = held_out(data, "test")
    known = questions.known.matrix()[questions.users - 1]
    ids, _ = model.recommend(questions.users - 1, known, N=100, filter_already_liked_items=True)
    return evaluate_lists(ids.astype(np.int32) + 1, questions.users, data, name="implicit_als")


def two_tower(
    results: Results,
    space: Workspace,
    config: Config,
    protocol: str,
    seed: int,
    note: str = "",
    change: Mapping[str, Any] | None = None,
    epochs: int | None = None,
) -> None:
    """Trains and measures one two-tower."""
    train = config.retrieval.train.model_copy(update={"seed": seed})
    if epochs:
        train = TrainConfig(**{**train.model_dump(), "epochs": epochs})
    params = {**config.retrieval.params, **(change or {})}
    started = time.perf_counter()
    fitted = fit_retrieval("two_tower", params, train, space.data, metric="ndcg@10")
    seconds = time.perf_counter() - started
    found = evaluate(fitted.model, space.data, "test")
    record(results, "two_tower", found, protocol, seed, note)
    results.add("two_tower", "epochs", fitted.best_epoch, protocol=protocol, seed=seed, note=note)
    results.write()
    print(f"trained in {seconds:.0f} s", flush=True)


def without_groups(config: Config, folder: Path) -> dict[str, Workspace]:
    """The data with one feature group removed at a time."""
    table = config.feature_table
    out = {}
    groups = {
        "no user attributes": [f.name for f in table.of("user", ids=False)],
        "no item text": [f.name for f in table.of("item") if f.kind == "text"],
        "no item attributes": [f.name for f in table.of("item", ids=False) if f.kind != "text"],
    }
    for note, names in groups.items():
        if names:
            out[note] = open_workspace(config, folder, features=table.without(*names))
    return out


def run_set(
    results: Results, name: str, seeds: int, ablate: bool, quick: bool, folder: Path
) -> None:
    """All models on one set."""
    config = load_config(HERE.parent / "configs" / f"{SETS[name]}.yaml")
    # gSASRec's catalogue: what was rated fewer than five times is out.
    data = config.data.model_copy(update={"min_item_events": 5})
    config = config.model_copy(update={"data": data})
    space = open_workspace(config, folder / name)
    protocol = f"{name}/last-out/full"
    for model, grid in CHEAP.items():
        fitted = [
            (fit_retrieval(model, params, TrainConfig(), space.data, metric="ndcg@10"), params)
            for params in (grid[:1] if quick else grid)
        ]
        best, params = max(fitted, key=lambda pair: pair[0].best or 0.0)
        note = ", ".join(f"{k} {v:g}" for k, v in params.items())
        record(results, model, evaluate(best.model, space.data, "test"), protocol, None, note)
        results.write()
    record(results, "implicit_als", implicit_als(space.data), protocol, 0)
    epochs = 1 if quick else None
    for seed in range(seeds):
        two_tower(results, space, config, protocol, seed, epochs=epochs)
    if not ablate:
        return
    changes: dict[str, dict[str, Any]] = {
        "logq off": {"logq": False},
        "no history": {"history_encoder": "none"},
        "unordered history": {"history_encoder": "mean"},
        "no user id": {"use_user_id": not config.retrieval.params.get("use_user_id", True)},
    }
    if not config.retrieval.params.get("use_user_id", True):
        changes["with user id"] = changes.pop("no user id")
    for note, change in changes.items():
        two_tower(results, space, config, protocol, 0, note, change, epochs)
    for note, reduced in without_groups(config, folder / name).items():
        two_tower(results, reduced, config, protocol, 0, note, epochs=epochs)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", choices=sorted(SETS), action="append")
    parser.add_argument("--no-ablations", action="store_true")
    given = parser.parse_args()
    if shared_data() is None:
        print("skipped: the real data is not here; set TFREC_SHARED_DATA")
        return
    results = Results("retrieval", given.quick)
    seeds = 1 if given.quick else given.seeds
    with tempfile.TemporaryDirectory() as folder:
        for name in given.only or SETS:
            ablate = name == "ml-1m" and not given.no_ablations and not given.quick
            run_set(results, name, seeds, ablate, given.quick, Path(folder))
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
