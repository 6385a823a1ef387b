"""VBPR against BPR-MF: AUC on all and on cold items, on the paper's protocol.

    python -m benchmarks.vbpr                 # 3 seeds; about 20 minutes a seed on one core
    python -m benchmarks.vbpr --quick         # 600 users, few epochs: does it run?

Sets and protocols (AUC as in the paper: every held-out item against all items the user never had):

- ``ml-1m/leave-one-out``: of each user one random event tests, one validates, as in the paper. Cold
  items (< 5 training events) are next to absent from such a test: their number is recorded.
- ``ml-1m/made-cold``: a random fifth of the movies keeps 4 training events each; every user who had
  others of those movies is asked about one of them. All its questions are cold.
- ``synthetic/made-cold``: the same on the synthetic shop, whose images show category and style,
  which decide half of what is bought.

Both models have 20 factors: BPR-MF 20, VBPR 10 and 10 visual, as in the paper; same negatives, same
learning rate and regularisation; epochs chosen on the validation events (ndcg@10) for each.
There is no pretrained network: features are ``descriptors`` and ``genre-cnn``, see
``vbpr_parts/looks.py``, and ``cnn`` (a small network trained with VBPR, synthetic shop).
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Results, arguments, shared_data

SHAPE = (48, 32)  # of a poster, pixels
BLIND = {"dim": 20, "l2": 0.01}
SEEING = {"dim": 10, "visual_dim": 10, "l2": 0.01}


def areas(name: str, params: dict[str, Any], data: Any, epochs: int, seed: int) -> dict[str, Any]:
    """AUC by group of a trained model: ``all`` and ``cold``."""
    from tfrec.config import TrainConfig
    from tfrec.evaluation.auc import evaluate_auc
    from tfrec.training.fit import fit_retrieval

    train = TrainConfig(epochs=epochs, batch_size=512, learning_rate=0.05, patience=5, seed=seed)
    every = max(1, epochs // 10)
    model = fit_retrieval(name, params, train, data, evaluate_every=every).model
    cold = data.train.item_counts() < 5
    found = {"all": evaluate_auc(model, data, progress=False)}
    if cold[data.test.item].any():
        found["cold"] = evaluate_auc(model, data, items=cold, progress=False)
    return found


def compare(
    results: Results, protocol: str, versions: dict[str, Any], epochs: int, seed: int
) -> None:
    """BPR-MF once, VBPR with each kind of features; paired differences over users."""
    from tfrec.evaluation.bootstrap import confidence_interval

    blind = areas("mf_bpr", BLIND, next(iter(versions.values())), epochs, seed)
    shared: dict[str, Any] = {"protocol": protocol, "seed": seed}
    for group, area in blind.items():
        results.add("mf_bpr", "auc", area.mean, note=group, **shared)
        results.add("questions", "users", len(area.users), note=group, **shared)
    for looks, data in versions.items():
        seeing = areas("vbpr", SEEING, data, epochs, seed)
        for group, area in seeing.items():
            gain = confidence_interval(area.values - blind[group].values)
            note = f"{group}, {looks}"
            results.add("vbpr", "auc", area.mean, note=note, **shared)
            for part in ("mean", "low", "high"):
                results.add(
                    "vbpr - mf_bpr", f"auc_{part}", getattr(gain, part), note=note, **shared
                )


def movielens(results: Results, quick: bool, seeds: int) -> None:
    """Both protocols on MovieLens-1M with posters."""
    from benchmarks.vbpr_parts.data import leave_one_out, made_cold, plain, posters, with_vectors
    from benchmarks.vbpr_parts.looks import describe, genre_network
    from tfrec.data.adapters.movielens import read_movielens_1m
    from tfrec.data.quarantine import Quarantine

    folder = shared_data()
    if folder is None or not (folder / "ml-1m" / "posters").is_dir():
        print("no ml-1m posters here; set TFREC_SHARED_DATA; the synthetic shop alone is measured")
        return
    with (
        tempfile.TemporaryDirectory() as work,
        Quarantine(Path(work) / "q.jsonl", 0.01) as quarantine,
    ):
        tables = read_movielens_1m(folder / "ml-1m", quarantine)
    log = tables.interactions
    if quick:
        few = np.unique(log.column("user_id").to_numpy(zero_copy_only=False))[:600]
        log = log.filter(np.isin(log.column("user_id").to_numpy(zero_copy_only=False), few))
    user_ids, user = np.unique(
        log.column("user_id").to_numpy(zero_copy_only=False), return_inverse=True
    )
    item_ids, item = np.unique(
        log.column("item_id").to_numpy(zero_copy_only=False), return_inverse=True
    )
    pixels, there = posters(folder / "ml-1m" / "posters", item_ids, *SHAPE)
    described = np.where(there[:, None], describe(pixels), 0.0)
    by_id = dict(
        zip(*(tables.items.column(c).to_pylist() for c in ("item_id", "genres")), strict=True)
    )
    names = sorted({g for genres in by_id.values() for g in genres or ()})
    genres = np.array([[g in (by_id.get(i) or ()) for g in names] for i in item_ids], np.float32)
    for seed in range(seeds):
        splits = {
            "ml-1m/leave-one-out": leave_one_out(user, seed),
            "ml-1m/made-cold": made_cold(user, item, seed),
        }
        for protocol, parts in splits.items():
            data = plain(user, item, parts, user_ids, item_ids)
            warm = there & (data.train.item_counts()[1:] >= 5)
            taught = genre_network(pixels, genres, warm, 2 if quick else 15, seed)
            versions = {
                "descriptors": with_vectors(data, described),
                "genre-cnn": with_vectors(data, np.where(there[:, None], taught, 0.0)),
            }
            compare(
                results,
                protocol + ("/600-users" if quick else ""),
                versions,
                3 if quick else 40,
                seed,
            )
            results.write()


def synthetic(results: Results, quick: bool, seeds: int) -> None:
    """The shop whose images carry truth; descriptors, and a network trained with the model."""
    from benchmarks.vbpr_parts.data import made_cold, plain, with_vectors
    from benchmarks.vbpr_parts.looks import describe
    from tfrec.config import parse_config
    from tfrec.training.workspace import open_workspace

    image = {"name": "image", "role": "item", "kind": "image", "dim": 16, "height": 16, "width": 16}
    for seed in range(seeds):
        size: dict[str, Any] = {"rows": 8_000, "users_count": 400, "items_count": 400}
        if not quick:
            size = {"rows": 120_000, "users_count": 4_000, "items_count": 1_500}
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
        parts = made_cold(user, item, seed)
        data = plain(user, item, parts, space.user_ids[1:], space.item_ids[1:])
        rows = space.items["image"][1 : space.n_items + 1]
        pictured = {n: space.items[n] for n in ("image", "image_present")}
        versions = {
            "descriptors": with_vectors(data, describe(rows)),
            "cnn": replace(data, features=space.features, items={**data.items, **pictured}),
        }
        compare(results, "synthetic/made-cold", versions, 6 if quick else 30, seed)
        results.write()


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", choices=["movielens", "synthetic"], help="one of the sets")
    options = parser.parse_args()
    results = Results("vbpr", options.quick)
    seeds = 1 if options.quick else options.seeds
    for name, run in (("synthetic", synthetic), ("movielens", movielens)):
        if options.only in (None, name):
            run(results, options.quick, seeds)
    print(results.write())


if __name__ == "__main__":
    main()
