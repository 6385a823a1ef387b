"""What each group of features adds to ids alone: on all, on cold items, on new users.

    python -m benchmarks.content                       # ml-1m, completejourney, synthetic; 3 seeds
    python -m benchmarks.content --only synthetic --quick

Model: the two-tower with the mean of the history and ``id_dropout`` .1 where it has features. Split
as the set's configuration says. Before training

- a tenth of the users lose all their events (``new users``: at test nothing is known of them but
  their attributes);
- a tenth of the items keep at most two training events, the others of these being dropped, and
  items that are rare by themselves are left as they are (``cold items``: < 5 training events).

Every group is compared with ids alone on the same users and held-out items: recall@10 on the whole
catalogue (seen items excluded) and AUC over all unobserved items (VBPR's protocol), each user's
value averaged over the seeds, the difference with its 95% bootstrap interval over users. A line of
``GROUPS`` is a group; ``ids`` is always the base. ``best possible`` ranks by the planted truth.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import HERE, Results, arguments, shared_data
from tfrec.config import Config, TrainConfig, load_config
from tfrec.data.encoded import RetrievalData
from tfrec.data.synthetic import generate
from tfrec.data.truth import index_of
from tfrec.evaluation.auc import evaluate_auc
from tfrec.evaluation.bootstrap import confidence_interval
from tfrec.evaluation.full_catalogue import evaluate, evaluate_lists
from tfrec.evaluation.protocol import held_out
from tfrec.evaluation.result import Evaluation
from tfrec.training.fit import fit_retrieval
from tfrec.training.workspace import Workspace, open_workspace

CONFIGS = {
    "ml-1m": "movielens_1m",
    "completejourney": "completejourney",
    "synthetic": "sample",
}
# set -> group -> features that it adds to the ids.
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "ml-1m": {
        "user attributes": ("gender", "age", "occupation"),
        "genres and year": ("genres", "year"),
        "title": ("title",),
        "all": ("gender", "age", "occupation", "genres", "year", "title"),
    },
    "completejourney": {
        "user attributes": ("age", "income", "household_size", "kids"),
        "category and brand": ("category", "department", "brand"),
        "title": ("title",),
        "all": (
            *("age", "income", "household_size", "kids"),
            *("category", "department", "brand", "title"),
        ),
    },
    "synthetic": {
        "user attributes": ("age", "gender", "region"),
        "categories and style": ("categories", "style", "price"),
        "title": ("title",),
        "all": ("age", "gender", "region", "categories", "style", "price", "title"),
    },
}
PARAMS: dict[str, Any] = {
    "dim": 64,
    "history_length": 50,
    "history_encoder": "mean",
    "dropout": 0.2,
    "temperature": 0.1,
}
ID_DROPOUT = 0.1
COLD = 5  # training events below which an item is cold
KEPT = 2  # training events that a thinned item keeps
SHARE = 0.1  # of users who lose their events, and of items that are thinned
TRAIN = TrainConfig(epochs=12, batch_size=32, learning_rate=0.003, patience=3)


@dataclass(frozen=True)
class Measured:
    """Each tested user's values, averaged over the seeds, by slice.

    Attributes:
        recall: slice -> float64 [user], recall@10.
        auc: slice -> float64 [user].
    """

    recall: dict[str, np.ndarray]
    auc: dict[str, np.ndarray]


def thinned(data: RetrievalData, seed: int = 0) -> tuple[RetrievalData, np.ndarray]:
    """The data with new users and cold items made, and who is new, bool [n_users + 1]."""
    rng = np.random.default_rng(seed)
    new = rng.random(data.n_users + 1) < SHARE
    thin = rng.random(data.n_items + 1) < SHARE
    train = data.train
    order = rng.permutation(len(train))
    # Place of each event among those of its item, in random order.
    by_item = order[np.argsort(train.item[order], kind="stable")]
    items = train.item[by_item]
    starts = np.searchsorted(items, items, side="left")
    place = np.empty(len(train), np.int64)
    place[by_item] = np.arange(len(items)) - starts
    kept = ~new[train.user] & ~(thin[train.item] & (place >= KEPT))
    validation = data.validation.select(~new[data.validation.user])
    return replace(data, train=train.select(kept), validation=validation), new


def slices(found: Evaluation, data: RetrievalData, new: np.ndarray) -> dict[str, np.ndarray]:
    """recall@10 of each tested user: of all held-out items, of the cold ones, of new users."""
    cold = data.train.item_counts() < COLD
    row = np.searchsorted(found.users, found.held_user)
    hit = (found.lists[row, :10] == found.held_item[:, None]).any(axis=1)
    mine = cold[found.held_item]
    asked = np.bincount(row[mine], minlength=len(found.users))
    hits = np.bincount(row[mine], weights=hit[mine], minlength=len(found.users))
    recall = found.per_user["recall@10"]
    return {
        "all": recall,
        "cold items": (hits / np.maximum(asked, 1))[asked > 0],
        "new users": recall[new[found.users]],
    }


def measure(
    space: Workspace, params: Mapping[str, Any], train: TrainConfig, seeds: Sequence[int]
) -> Measured:
    """Trains and measures one group."""
    data, new = thinned(space.data)
    cold = data.train.item_counts() < COLD
    recalls: list[dict[str, np.ndarray]] = []
    areas: list[dict[str, np.ndarray]] = []
    for seed in seeds:
        told = train.model_copy(update={"seed": seed})
        model = fit_retrieval("two_tower", dict(params), told, data, metric="recall@10").model
        recalls.append(slices(evaluate(model, data, "test", (10,), progress=False), data, new))
        everything = evaluate_auc(model, data, progress=False)
        rare = evaluate_auc(model, data, items=cold, progress=False)
        areas.append(
            {
                "all": everything.values,
                "cold items": rare.values,
                "new users": everything.values[new[everything.users]],
            }
        )
    return Measured(_mean(recalls), _mean(areas))


def _mean(runs: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}


def best_possible(space: Workspace, config: Config) -> dict[str, np.ndarray]:
    """recall@10 of the ranking by the planted truth, by slice."""
    data, new = thinned(space.data)
    truth = generate(config.data).truth
    questions = held_out(data, "test")
    users = questions.users
    when = np.zeros(data.n_users + 1, np.int64)
    when[data.test.user] = data.test.timestamp
    law = truth.probabilities(index_of(_ids(data.user_ids[users])), when[users])
    scores = law[:, index_of(_ids(data.item_ids[1:]))]
    rows, items = questions.seen(0, len(users))
    scores[rows, items - 1] = -1
    lists = np.argsort(-scores, axis=1, kind="stable")[:, :10] + 1
    return slices(evaluate_lists(lists, users, data, "test", (10,)), data, new)


def _ids(values: np.ndarray) -> Any:
    import pyarrow as pa

    return pa.array([str(v) for v in values], pa.string())


def keep(
    results: Results, protocol: str, name: str, found: Measured, base: Measured | None, seeds: int
) -> None:
    """Records a group's means and, beside the base, its differences with their intervals."""
    for metric, values in (("recall@10", found.recall), ("auc", found.auc)):
        for part, mine in values.items():
            where = f"{protocol}/{part.replace(' ', '-')}"
            note = f"{name}, {len(mine)} users, {seeds} seeds"
            results.add("two_tower", metric, float(mine.mean()), protocol=where, note=note)
            if base is None:
                continue
            other = (base.recall if metric == "recall@10" else base.auc)[part]
            gain = confidence_interval(mine - other)
            for kind, value in (("", gain.mean), (" low", gain.low), (" high", gain.high)):
                label = f"{metric} gain{kind}"
                results.add("two_tower", label, value, protocol=where, note=f"{name} over ids")


def run_set(results: Results, name: str, seeds: int, quick: bool, folder: Path) -> None:
    """All groups on one set."""
    config = load_config(HERE.parent / "configs" / f"{CONFIGS[name]}.yaml")
    table = config.feature_table
    everything = [f.name for f in table if f.kind != "id"]
    train = TRAIN.model_copy(update={"epochs": 2}) if quick else TRAIN
    groups = GROUPS[name]
    if quick:
        groups = {"all": groups["all"]}
    base: Measured | None = None
    for group, features in {"ids": (), **groups}.items():
        out = [f for f in everything if f not in features]
        space = open_workspace(config, folder / name, features=table.without(*out))
        params = {**PARAMS, "id_dropout": ID_DROPOUT if features else 0.0}
        found = measure(space, params, train, range(seeds))
        keep(results, name, group, found, base, seeds)
        if base is None:
            base = found
            if name == "synthetic":
                for part, values in best_possible(space, config).items():
                    where = f"{name}/{part.replace(' ', '-')}"
                    results.add("best possible", "recall@10", float(values.mean()), protocol=where)
        results.write()


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", choices=sorted(CONFIGS), action="append")
    given = parser.parse_args()
    results = Results("content", given.quick)
    wanted = given.only or (["synthetic"] if given.quick else list(CONFIGS))
    if shared_data() is None:
        wanted = [name for name in wanted if name == "synthetic"]
        print("the real data is not here (set TFREC_SHARED_DATA): the synthetic shop alone")
    seeds = 1 if given.quick else given.seeds
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            run_set(results, name, seeds, given.quick, Path(folder))
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
