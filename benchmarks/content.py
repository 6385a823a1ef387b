"""What each group of features adds to ids alone: on all, on cold items, on new users.

    python -m benchmarks.content                       # ml-1m, completejourney, synthetic; 3 seeds
    python -m benchmarks.content --only synthetic --quick
    python -m benchmarks.content --kept /tmp/kept --limit 280     # in parts, see benchmarks/kept.py

Model: the two-tower with the mean of the history, the same settings for all groups (``PARAMS``; ids
alone have nothing to answer in an item's place, so there ``id_dropout`` and ``min_id_events`` do
nothing). They were chosen on validation events, see docs/cold-start.md. Split as the set's
configuration says; of MovieLens 1,000 random users with all their events, to keep the whole within
an hour of one core. Before training

- a tenth of the users lose all their events (``new users``: at test nothing is known of them but
  their attributes);
- a tenth of the items keep at most two training events, the others of these being dropped, and
  items that are rare by themselves are left as they are (``cold items``: < 5 training events).

Every group is compared with ids alone on the same users and held-out items: recall@10 on the whole
catalogue (seen items excluded) and AUC over all unobserved items (VBPR's protocol), each user's
value averaged over the seeds, the difference with its 95% bootstrap interval over users. A line of
``GROUPS`` is a group; ``ids`` is always the base. ``best ...`` rank by the planted truth.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.common import HERE, Results, arguments, shared_data
from benchmarks.kept import Arrays, Kept, OutOfTime, kept_arguments
from tfrec.config import Config, TrainConfig, load_config
from tfrec.data.encoded import RetrievalData
from tfrec.data.synthetic import generate
from tfrec.data.truth import index_of
from tfrec.evaluation.auc import evaluate_auc
from tfrec.evaluation.bootstrap import confidence_interval
from tfrec.evaluation.full_catalogue import evaluate, evaluate_lists
from tfrec.evaluation.protocol import held_out
from tfrec.evaluation.result import Evaluation
from tfrec.models.base import Users
from tfrec.schema import USER_ID
from tfrec.training.fit import fit_retrieval
from tfrec.training.workspace import open_workspace


@dataclass(frozen=True)
class Setting:
    """How a set is measured.

    Attributes:
        config: name of its configuration.
        epochs: of every group alike. Were each stopped by its own validation, ids alone would be
            compared at one epoch and features at another, and the AUC of cold items alone moves by
            up to .08 within two epochs.
        batch: windows of users in a step.
        users: so many random users alone are trained on and tested; None: all.
        shop: what the synthetic shop has in place of its configuration.
        least: feature -> ``min_count`` in place of the configuration's.
    """

    config: str
    epochs: int
    batch: int = 32
    users: int | None = None
    shop: dict[str, Any] = field(default_factory=dict)
    least: dict[str, int] = field(default_factory=dict)


SETS = {
    "completejourney": Setting("completejourney", 6),
    "synthetic": Setting(
        "sample",
        8,
        shop={"rows": 40_000, "users_count": 2_000, "items_count": 1_000},
        least={"title": 2},  # a title's number stands in no other: an id in disguise
    ),
    "ml-1m": Setting("movielens_1m", 6, batch=16, users=1_000),
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
    "id_dropout": 0.3,
    "min_id_events": 5,
    "use_user_id": False,
}
COLD = 5  # training events below which an item is cold
KEPT = 2  # training events that a thinned item keeps
SHARE = 0.1  # of users who lose their events, and of items that are thinned
TRAIN = TrainConfig(learning_rate=0.003, patience=0)


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


def some_users(data: RetrievalData, count: int | None) -> RetrievalData:
    """The events of ``count`` random users alone; all where None or not so many."""
    if count is None or count >= data.n_users:
        return data
    mine = np.zeros(data.n_users + 1, bool)
    mine[1 + np.random.default_rng(0).permutation(data.n_users)[:count]] = True
    parts = {n: getattr(data, n) for n in ("train", "validation", "test")}
    return replace(data, **{n: events.select(mine[events.user]) for n, events in parts.items()})


def measure(
    data: RetrievalData, new: np.ndarray, params: Mapping[str, Any], train: TrainConfig
) -> dict[str, np.ndarray]:
    """Trains once; ``recall@10/<slice>`` and ``auc/<slice>`` of each tested user."""
    model = fit_retrieval("two_tower", dict(params), train, data, evaluate_every=train.epochs).model
    recall = slices(evaluate(model, data, "test", (10,), progress=False), data, new)
    return _by_slice(recall, model, data, new)


def _by_slice(
    recall: Mapping[str, np.ndarray], model: Any, data: RetrievalData, new: np.ndarray
) -> dict[str, np.ndarray]:
    """``recall@10/<slice>`` as given, and a model's ``auc/<slice>``, of each tested user."""
    everything = evaluate_auc(model, data, progress=False)
    rare = evaluate_auc(model, data, items=data.train.item_counts() < COLD, progress=False)
    areas = {
        "all": everything.values,
        "cold items": rare.values,
        "new users": everything.values[new[everything.users]],
    }
    found = {f"recall@10/{part}": values for part, values in recall.items()}
    return found | {f"auc/{part}": values for part, values in areas.items()}


class _Told:
    """Scores that are known beforehand, float32 [n_users + 1, n_items], as AUC asks for them."""

    history_length = 1

    def __init__(self, scores: np.ndarray) -> None:
        self._scores = tf.constant(scores, tf.float32)

    def score_catalogue(self, users: Users) -> tf.Tensor:
        return tf.gather(self._scores, users[USER_ID])


def best_possible(
    data: RetrievalData, new: np.ndarray, config: Config
) -> dict[str, dict[str, np.ndarray]]:
    """Rankings by the planted truth, as ``measure`` gives a model's.

    ``best possible`` knows all of it. ``best, cold items by attributes`` has for each cold item the
    mean of the others of its categories and style, ``best, users by attributes`` for each user the
    mean of the users of their age, gender and region who are not new: what attributes alone can
    tell, were all else known.
    """
    shop = generate(config.data)
    truth = shop.truth
    users, items = index_of(_ids(data.user_ids[1:])), index_of(_ids(data.item_ids[1:]))
    when = np.zeros(data.n_users + 1, np.int64)
    when[data.test.user] = data.test.timestamp
    mixture = truth.mixture(users, when[1:])
    phi = truth.phi[:, items]
    cold = data.train.item_counts()[1:] < COLD
    people = shop.users.to_pandas().iloc[users].groupby(["age", "gender", "region"]).ngroup()
    kinds = shop.items.to_pandas().iloc[items].groupby(["subcategory", "style"]).ngroup()
    by_kind = np.where(cold, _means(phi.T, kinds.to_numpy(), ~cold).T, phi)
    by_group = _means(mixture, people.to_numpy(), ~new[1:])
    return {
        "best possible": _ranked(mixture @ phi, data, new),
        "best, cold items by attributes": _ranked(mixture @ by_kind, data, new),
        "best, users by attributes": _ranked(by_group @ phi, data, new),
    }


def _means(values: np.ndarray, group: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Of each row [n, width] the mean of the counted rows of its group; of all where none is."""
    out = np.broadcast_to(values[counted].mean(axis=0), values.shape).copy()
    for one in np.unique(group[counted]):
        out[group == one] = values[counted & (group == one)].mean(axis=0)
    return out


def _ranked(law: np.ndarray, data: RetrievalData, new: np.ndarray) -> dict[str, np.ndarray]:
    """``recall@10/<slice>`` and ``auc/<slice>`` of chances [n_users, n_items]."""
    questions = held_out(data, "test")
    scores = law[questions.users - 1]
    rows, items = questions.seen(0, len(scores))
    scores[rows, items - 1] = -1
    lists = np.argsort(-scores, axis=1, kind="stable")[:, :10] + 1
    recall = slices(evaluate_lists(lists, questions.users, data, "test", (10,)), data, new)
    # By rank: chances are too small for float32 to tell them apart.
    order = np.argsort(np.argsort(law, axis=1, kind="stable"), axis=1)
    return _by_slice(recall, _Told(np.concatenate([order[:1], order])), data, new)


def _ids(values: np.ndarray) -> Any:
    import pyarrow as pa

    return pa.array([str(v) for v in values], pa.string())


def keep(results: Results, protocol: str, name: str, found: Arrays, base: Arrays | None) -> None:
    """Records a group's means and, beside the base, its differences with their intervals."""
    for key, mine in found.items():
        metric, part = key.split("/")
        shared: dict[str, Any] = {"protocol": f"{protocol}/{part.replace(' ', '-')}"}
        results.add("two_tower", metric, float(mine.mean()), note=name, **shared)
        if base is None:
            results.add("questions", "users", len(mine), **shared)
            continue
        gain = confidence_interval(mine - base[key])
        for kind, value in (("", gain.mean), (" low", gain.low), (" high", gain.high)):
            results.add("two_tower", f"{metric} gain{kind}", value, note=name, **shared)


def run_set(results: Results, name: str, seeds: int, quick: bool, folder: Path, kept: Kept) -> None:
    """All groups on one set."""
    setting = SETS[name]
    config = load_config(HERE.parent / "configs" / f"{setting.config}.yaml")
    if setting.shop and not quick:
        config = config.model_copy(update={"data": config.data.model_copy(update=setting.shop)})
    counted = [
        f.model_copy(update={"min_count": setting.least.get(f.name, f.min_count)})
        for f in config.features
    ]
    config = config.model_copy(update={"features": tuple(counted)})
    table = config.feature_table
    whole = open_workspace(config, folder / name).data
    data, new = thinned(some_users(whole, setting.users))
    train = TRAIN.model_copy(
        update={"epochs": 4 if quick else setting.epochs, "batch_size": setting.batch}
    )
    groups = {"ids": (), **GROUPS[name]}
    if quick:
        groups = {group: groups[group] for group in ("ids", "all")}
    protocol = f"{name}/{setting.users}-users" if setting.users else name
    runs: dict[str, list[Arrays]] = {group: [] for group in groups}
    for seed in range(seeds):  # outermost: a run that stops early has all groups of the first seed
        told = train.model_copy(update={"seed": seed})
        for group, features in groups.items():
            out = [f.name for f in table if f.kind != "id" and f.name not in features]
            mine = replace(data, features=table.without(*out))
            one = partial(measure, mine, new, PARAMS, told)
            runs[group].append(kept(f"{name}/{group}/{seed}", one))
    base: Arrays | None = None
    for group, each in runs.items():
        found = {key: np.mean([run[key] for run in each], axis=0) for key in each[0]}
        keep(results, protocol, f"{group}, {seeds} seeds", found, base)
        base = base or found
    if name == "synthetic":
        for best, found in best_possible(data, new, config).items():
            for key, values in found.items():
                metric, part = key.split("/")
                where = f"{protocol}/{part.replace(' ', '-')}"
                results.add(best, metric, float(values.mean()), protocol=where)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", choices=sorted(SETS), action="append")
    kept_arguments(parser)
    given = parser.parse_args()
    results = Results("content", given.quick)
    wanted = given.only or (["synthetic"] if given.quick else list(SETS))
    if shared_data() is None:
        wanted = [name for name in wanted if name == "synthetic"]
        print("the real data is not here (set TFREC_SHARED_DATA): the synthetic shop alone")
    seeds = 1 if given.quick else given.seeds
    kept = Kept(given.kept, given.limit)
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            try:
                run_set(results, name, seeds, given.quick, Path(folder), kept)
            except OutOfTime as stopped:
                print(
                    f"time is up before {stopped}; what is finished is written; call again to go on"
                )
                break
    print(f"wrote {results.write()}")


if __name__ == "__main__":
    main()
