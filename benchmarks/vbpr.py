"""VBPR against BPR-MF: AUC on all and on cold items, on the paper's protocol.

    python -m benchmarks.vbpr                 # 3 seeds; about 10 minutes a seed on one core
    python -m benchmarks.vbpr --quick         # a small shop and 400 users: does it run?
    python -m benchmarks.vbpr --kept /tmp/kept --limit 280     # in parts, see benchmarks/kept.py

Sets and protocols (AUC as in the paper: every held-out item against all items the user never had):

- ``.../leave-one-out``: of each user one random event tests, one validates, as in the paper. Cold
  items are those with < 5 training events; how many questions are about them is recorded.
- ``.../made-cold``: a random fifth of the items keeps 4 training events each; every user who had
  others of those items is asked about one of them. All its questions are cold.
- ``synthetic``: a shop of 4,000 users, 4,000 items and 80,000 purchases, sparse as the paper's sets
  are, whose images show category and style, a part of what decides a purchase. ``ml-1m``: 1,000
  random users with all their events, and the posters.

Both models have 20 factors: BPR-MF 20, VBPR 10 and 10 visual, as in the paper; same negatives, same
learning rate and regularisation of their tables; the epoch is chosen by the validation events' AUC.
There is no pretrained network: features are ``descriptors`` and ``genre-cnn``, see
``vbpr_parts/looks.py``, and ``cnn`` (a small network trained with VBPR, synthetic shop).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Results, arguments, shared_data
from benchmarks.kept import Arrays, Kept, OutOfTime, kept_arguments
from benchmarks.vbpr_parts.data import leave_one_out, made_cold, plain, posters, with_vectors
from benchmarks.vbpr_parts.looks import describe, genre_network
from tfrec.config import TrainConfig, parse_config
from tfrec.data.adapters.movielens import read_movielens_1m
from tfrec.data.encoded import RetrievalData
from tfrec.data.quarantine import Quarantine
from tfrec.evaluation.auc import evaluate_auc
from tfrec.evaluation.bootstrap import confidence_interval
from tfrec.training.workspace import open_workspace

SHAPE = (48, 32)  # of a poster, pixels
BLIND = {"dim": 20, "l2": 0.01}
# ``own_from`` 0, as in the paper: few events mean that few want an item, not that it is new.
SEEING = {"dim": 10, "visual_dim": 10, "l2": 0.01, "l2_visual": 0.001, "own_from": 0}
EVERY = 2  # epochs between validations
ML_USERS = 1_000


def areas(name: str, params: dict[str, Any], data: RetrievalData, epochs: int, seed: int) -> Arrays:
    """AUC of each tested user: ``all`` and, where there are such questions, ``cold``."""
    from benchmarks.vbpr_parts.by_auc import fit_by_auc

    train = TrainConfig(epochs=epochs, batch_size=512, learning_rate=0.05, patience=2, seed=seed)
    model, watch = fit_by_auc(name, params, train, data, EVERY)
    print(f"{name}: validation auc {watch.best:.4f} at epoch {watch.best_epoch}", flush=True)
    cold = data.train.item_counts() < 5
    found = {"all": evaluate_auc(model, data, progress=False).values}
    if cold[data.test.item].any():
        found["cold"] = evaluate_auc(model, data, items=cold, progress=False).values
    return found


def compare(
    results: Results,
    kept: Kept,
    protocol: str,
    versions: Mapping[str, RetrievalData],
    epochs: int,
    seed: int,
) -> None:
    """BPR-MF once, VBPR with each kind of features; paired differences over users."""

    def once(name: str, params: dict[str, Any], data: RetrievalData, looks: str) -> Arrays:
        make = partial(areas, name, params, data, epochs, seed)
        return kept(f"vbpr/{protocol}/{looks}/{seed}", make)

    blind = once("mf_bpr", BLIND, next(iter(versions.values())), "blind")
    shared: dict[str, Any] = {"protocol": protocol, "seed": seed}
    for group, area in blind.items():
        results.add("mf_bpr", "auc", float(area.mean()), note=group, **shared)
        results.add("questions", "users", len(area), note=group, **shared)
    for looks, data in versions.items():
        for group, area in once("vbpr", SEEING, data, looks).items():
            gain = confidence_interval(area - blind[group])
            note = f"{group}, {looks}"
            results.add("vbpr", "auc", float(area.mean()), note=note, **shared)
            for part in ("mean", "low", "high"):
                value = getattr(gain, part)
                results.add("vbpr - mf_bpr", f"auc_{part}", value, note=note, **shared)


def splits(user: np.ndarray, item: np.ndarray, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Both protocols."""
    return {"leave-one-out": leave_one_out(user, seed), "made-cold": made_cold(user, item, seed)}


def movielens(results: Results, kept: Kept, quick: bool, seed: int) -> None:
    """MovieLens-1M with posters."""
    folder = shared_data()
    if folder is None or not (folder / "ml-1m" / "posters").is_dir():
        print("no ml-1m posters here; set TFREC_SHARED_DATA; the synthetic shop alone is measured")
        return
    with (
        tempfile.TemporaryDirectory() as work,
        Quarantine(Path(work) / "q.jsonl", 0.01) as quarantine,
    ):
        tables = read_movielens_1m(folder / "ml-1m", quarantine)
    users = tables.interactions.column("user_id").to_numpy(zero_copy_only=False)
    count = 400 if quick else ML_USERS
    few = np.random.default_rng(0).permutation(np.unique(users))[:count]
    mine = np.isin(users, few)
    user_ids, user = np.unique(users[mine], return_inverse=True)
    items = tables.interactions.column("item_id").to_numpy(zero_copy_only=False)[mine]
    item_ids, item = np.unique(items, return_inverse=True)
    pixels, there = posters(folder / "ml-1m" / "posters", item_ids, *SHAPE)
    described = np.where(there[:, None], describe(pixels), 0.0)
    by_id = dict(
        zip(*(tables.items.column(c).to_pylist() for c in ("item_id", "genres")), strict=True)
    )
    names = sorted({g for genres in by_id.values() for g in genres or ()})
    genres = np.array([[g in (by_id.get(i) or ()) for g in names] for i in item_ids], np.float32)
    for protocol, parts in splits(user, item, seed).items():
        data = plain(user, item, parts, user_ids, item_ids)
        warm = there & (data.train.item_counts()[1:] >= 5)
        name = f"ml-1m/{count}-users/{protocol}"
        teach = partial(_taught, pixels, genres, warm, 2 if quick else 10, seed)
        taught = kept(f"vbpr/{name}/genres/{seed}", teach)["taught"]
        versions = {
            "descriptors": with_vectors(data, described),
            "genre-cnn": with_vectors(data, np.where(there[:, None], taught, 0.0)),
        }
        compare(results, kept, name, versions, 2 if quick else 12, seed)


def _taught(*arguments: Any) -> Arrays:
    return {"taught": genre_network(*arguments)}


def synthetic(results: Results, kept: Kept, quick: bool, seed: int) -> None:
    """The shop whose images carry truth; descriptors, and a network trained with the model."""
    image = {"name": "image", "role": "item", "kind": "image", "dim": 16, "height": 16, "width": 16}
    size: dict[str, Any] = {"rows": 80_000, "users_count": 4_000, "items_count": 4_000}
    if quick:
        size = {"rows": 8_000, "users_count": 400, "items_count": 400}
    config = parse_config(
        {
            "name": "pictures",
            "data": size | {"format": "synthetic", "images": True, "seed": seed},
            "features": [image],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        space = open_workspace(config, folder).data
    events = [space.train, space.validation, space.test]
    user = np.concatenate([e.user for e in events]) - 1
    item = np.concatenate([e.item for e in events]) - 1
    described = describe(space.items["image"][1 : space.n_items + 1])
    pictured = {n: space.items[n] for n in ("image", "image_present")}
    for protocol, parts in splits(user, item, seed).items():
        data = plain(user, item, parts, space.user_ids[1:], space.item_ids[1:])
        versions = {
            "descriptors": with_vectors(data, described),
            "cnn": replace(data, features=space.features, items={**data.items, **pictured}),
        }
        compare(results, kept, f"synthetic/{protocol}", versions, 6 if quick else 20, seed)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", choices=["movielens", "synthetic"], help="one of the sets")
    kept_arguments(parser)
    options = parser.parse_args()
    results = Results("vbpr", options.quick)
    kept = Kept(options.kept, options.limit)
    try:
        for seed in range(1 if options.quick else options.seeds):
            for name, run in (("synthetic", synthetic), ("movielens", movielens)):
                if options.only in (None, name):
                    run(results, kept, options.quick, seed)
    except OutOfTime as stopped:
        print(f"time is up before {stopped}; what is finished is written; call again to go on")
    print(results.write())


if __name__ == "__main__":
    main()
