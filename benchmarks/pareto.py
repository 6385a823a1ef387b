"""Revenue against accuracy along the Pareto front of the utility's weights, by EASE's scores.

    python -m benchmarks.pareto            # about 5 minutes on one core
    python -m benchmarks.pareto --quick    # the synthetic shop alone, fewer settings

Candidates are the 200 best unseen items of EASE; Platt's calibration makes chances of them, fitted
on validation. Weights of purchase and revenue and the trade-off of MMR are searched on validation:
either goal alone and a Sobol sequence. What nothing beats there is measured on test, beside sorting
by one number: chance, chance x price, price. ``revenue@10`` is the mean over users of the prices of
the held-out items among the 10 shown, a unit each. Prices are real: Online Retail's unit price,
Complete Journey's sales value over quantity (mean over training). ``synthetic/truth`` takes the
planted law in EASE's place: what the best possible model would reach. Items are alike by their
categories (Online Retail: the words of the titles), cut to 64 singular directions.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import tensorflow as tf
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from benchmarks.common import HERE, Results, arguments, shared_data
from tfrec.config import Config, TrainConfig, load_config
from tfrec.data.encoded import RetrievalData
from tfrec.data.synthetic import generate
from tfrec.evaluation.beyond import feature_vectors
from tfrec.evaluation.pareto import hypervolume, knee, non_dominated
from tfrec.evaluation.protocol import HeldOut, Split, held_out
from tfrec.evaluation.tradeoffs import Candidates, Tradeoffs, best_of, by_item, taken
from tfrec.evaluation.weight_search import Setting, search
from tfrec.rerank.calibration_fit import fit_platt
from tfrec.training.fit import fit_retrieval
from tfrec.training.workspace import Workspace, open_workspace

K, CANDIDATES, USERS = 10, 200, 1000
GOALS = ("purchase", "revenue")
OBJECTIVES = ("revenue@10", "ndcg@10", "diversity@10")
SETS = {"online-retail": "online_retail.yaml", "completejourney": "completejourney.yaml"}
DIM = 64  # of the vectors that say what is alike
ALONG = 5  # points of the front that are kept by name

Score = Callable[[HeldOut, Split], np.ndarray]


@dataclass(frozen=True)
class Shop:
    """A data set with prices.

    Attributes:
        name: of the protocol.
        data: encoded.
        price: float [n_items + 1], money a unit.
        score: [user, n_items] of the users asked.
    """

    name: str
    data: RetrievalData
    price: np.ndarray
    score: Score


def unit_prices(space: Workspace) -> np.ndarray:
    """Unit prices, float32 [n_items + 1]: the items', else training's mean, else the median."""
    train, items = space.splits["train"], space.tables.items
    ids = pa.array(space.data.item_ids, pa.string())
    out = np.full(len(ids), np.nan)
    if "price" in items.column_names:
        known = dict(zip(items["item_id"].to_pylist(), items["price"].to_pylist(), strict=True))
        out = np.array([known.get(i) or np.nan for i in space.data.item_ids.tolist()], float)
    elif "paid" in train.column_names:
        at = pa.compute.index_in(train["item_id"].combine_chunks(), ids).to_numpy(False)
        each = train["paid"].to_numpy() / train["weight"].to_numpy()
        there = ~np.isnan(at)
        place, each = at[there].astype(int), each[there]
        total = np.bincount(place, each, minlength=len(ids))
        many = np.bincount(place, minlength=len(ids))
        out = np.divide(total, many, out=out, where=many > 0)
    out = np.where(np.isfinite(out), out, np.nanmedian(out[1:]))
    out[0] = 0.0
    return out.astype(np.float32)


def ease(data: RetrievalData) -> Score:
    """EASE, fitted on the training events; on those of validation, too, before the test."""
    models = {}

    def score(questions: HeldOut, split: Split) -> np.ndarray:
        if split not in models:
            known = data if split == "validation" else data.refit()
            models[split] = fit_retrieval("ease", {"l2": 200.0}, TrainConfig(), known).model
        inputs = data.user_inputs(questions.users, questions.known, models[split].history_length)
        parts = []
        for start in range(0, len(questions.users), 256):
            here = {k: tf.constant(v[start : start + 256]) for k, v in inputs.items()}
            parts.append(models[split].score_catalogue(here).numpy())
        return np.concatenate(parts)

    return score


def truth(config: Config, data: RetrievalData) -> Score:
    """The planted law at the moment of each user's first held-out event."""
    law = generate(config.data).truth
    of_user = np.array([0, *(int(u[1:]) for u in data.user_ids[1:].tolist())])
    of_item = np.array([int(i[1:]) for i in data.item_ids[1:].tolist()])

    def score(questions: HeldOut, split: Split) -> np.ndarray:
        events = getattr(data, split)
        at = events.timestamp[events.indptr[questions.users]]
        return law.probabilities(of_user[questions.users], at)[:, of_item]

    return score


def narrow(data: RetrievalData) -> np.ndarray:
    """What makes items alike, float32 [n_items + 1, DIM]: features' largest singular directions."""
    wide = feature_vectors(data)
    assert wide is not None
    if wide.shape[1] <= DIM:
        return wide
    left, values, _ = svds(csr_matrix(wide), k=DIM, random_state=0)
    return (left * values).astype(np.float32)


def judges(shop: Shop, users: int) -> dict[Split, Tradeoffs]:
    """What measures settings on each split; calibrated on validation."""
    out: dict[Split, Tradeoffs] = {}
    calibration = None
    splits: tuple[Split, ...] = ("validation", "test")
    for split in splits:
        questions = held_out(shop.data, split)
        if len(questions.users) > users:
            some = np.sort(np.random.default_rng(0).choice(questions.users, users, replace=False))
            questions = held_out(shop.data, split, users=some)
        items, scores = best_of(shop.score(questions, split), questions, CANDIDATES)
        there = items > 0
        if calibration is None:
            calibration = fit_platt(scores[there], taken(items, questions)[there].astype(float))
        chance = np.where(there, calibration(tf.constant(scores)).numpy(), 0.0)
        price = by_item(shop.price, items)
        parts = {"relevance": price, "p_purchase": chance, "price": price}
        vectors = narrow(shop.data)
        shown = Candidates(items, parts)
        out[split] = Tradeoffs(shown, questions, K, shop.price, vectors, "mmr")
    return out


def measure(results: Results, shop: Shop, settings: int, users: int) -> None:
    """One set: the front, the sorts, and what either covers."""
    found = judges(shop, users)
    chance = found["validation"].candidates.parts
    mean = [
        float(np.mean(chance["p_purchase"])),
        float(np.mean(chance["p_purchase"] * chance["price"])),
    ]
    front = search(
        found["validation"].measure,
        GOALS,
        OBJECTIVES,
        n=settings,
        trade_offs=(0.0, 0.5),
        scales=dict(zip(GOALS, (1 / float(m) for m in mean), strict=True)),
        also=[{"purchase": 1.0, "revenue": 0.0}, {"purchase": 0.0, "revenue": 1.0}],
    )
    best = np.flatnonzero(front.best)
    test = [found["test"].measure(front.settings[at]) for at in best]
    # ``relevance`` holds the price itself here: sorting by price alone is one of the sorts.
    sorts: dict[str, Setting] = {
        "by chance": {"purchase": 1.0},
        "by chance x price": {"revenue": 1.0},
        "by price": {"relevance": 1.0},
    }
    sorted_by = {name: found["test"].measure(setting) for name, setting in sorts.items()}
    protocol = f"{shop.name}/test/{len(found['test'].questions.users)} users"

    def keep(name: str, figures: dict[str, float], note: str = "") -> None:
        for metric in (*OBJECTIVES, "recall@10", "coverage@10"):
            results.add(name, metric, figures[metric], protocol=protocol, seed=0, note=note)

    for name, figures in sorted_by.items():
        keep(name, figures)
    points = np.array([[f[m] for m in OBJECTIVES] for f in test])
    alone = np.array([[f[m] for m in OBJECTIVES] for f in sorted_by.values()])
    two = np.flatnonzero(non_dominated(points[:, :2]))
    two = two[np.argsort(points[two, 1])]
    for place, at in enumerate(two[np.linspace(0, len(two) - 1, min(ALONG, len(two))).astype(int)]):
        keep(f"front {place + 1}", test[at], note=_weights(front.settings[best[at]]))
    at = knee(front.points()[best])
    keep("knee of validation", test[at], note=_weights(front.settings[best[at]]))
    for size, label in ((2, "revenue, ndcg"), (3, "revenue, ndcg, diversity")):
        zero = np.zeros(size)
        ours, theirs = (hypervolume(p[:, :size], zero) for p in (points, alone))
        results.add(
            "hypervolume",
            "ratio",
            ours / theirs,
            protocol=protocol,
            seed=0,
            note=f"front over sorts: {label}",
        )


def _weights(setting: Setting) -> str:
    total = setting["purchase"] + setting["revenue"]
    share = setting["revenue"] / total
    return f"revenue weight {share:.4f}, mmr {setting.get('trade_off', 0.0):.2f}"


def synthetic(folder: Path, quick: bool) -> list[Shop]:
    """The generated shop, by EASE and by its own law."""
    config = load_config(HERE.parent / "configs" / "sample.yaml")
    rows = {"rows": 20_000 if quick else 60_000, "users_count": 600 if quick else 1500}
    config = config.model_copy(update={"data": config.data.model_copy(update=rows)})
    space = open_workspace(config, folder / "synthetic")
    price = unit_prices(space)
    return [
        Shop("synthetic/ease", space.data, price, ease(space.data)),
        Shop("synthetic/truth", space.data, price, truth(config, space.data)),
    ]


def real(name: str, file: str, raw: Path, folder: Path) -> Shop:
    """One of the sets with real prices."""
    config = load_config(HERE.parent / "configs" / file)
    path = raw / Path(str(config.data.path)).name
    config = config.model_copy(update={"data": config.data.model_copy(update={"path": str(path)})})
    space = open_workspace(config, folder / name)
    # Online Retail's items have a title and a price alone: likeness is that of the words.
    shop = Shop(name, space.data, unit_prices(space), ease(space.data))
    return shop if feature_vectors(space.data) is not None else _by_words(shop)


def _by_words(shop: Shop) -> Shop:
    """Reads the title as a set of words, so that items can be alike."""
    from dataclasses import replace

    from tfrec.schema import FeatureTable

    rows = [
        {**f.model_dump(), "kind": "multi"} if f.name == "title" else f.model_dump()
        for f in shop.data.features
    ]
    table = FeatureTable.model_validate({"features": rows})
    return replace(shop, data=replace(shop.data, features=table))


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", help="one set: synthetic, online-retail or completejourney")
    given = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    results = Results("pareto", given.quick)
    settings, users = (16, 300) if given.quick else (32, USERS)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        if given.only in (None, "synthetic"):
            for shop in synthetic(folder, given.quick):
                measure(results, shop, settings, users)
        raw = shared_data()
        if raw is None:
            print("no real data: set TFREC_SHARED_DATA; the synthetic shop alone was measured")
        elif not given.quick:
            for name, file in SETS.items():
                if given.only in (None, name):
                    measure(results, real(name, file, raw, folder), settings, users)
                    results.write()
    print(results.write())


if __name__ == "__main__":
    main()
