"""Rows, negatives and histories against loops; fitting with early stopping and on two replicas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss, roc_auc_score

from tfrec.config import RankingConfig, TrainConfig
from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.data.unobserved import Unobserved
from tfrec.evaluation.pointwise import auc, binary_metrics, rating_metrics
from tfrec.schema import Feature, FeatureTable
from tfrec.training.ranking import KeepBest, build_ranker, evaluate_ranking, fit_ranking
from tfrec.training.ranking_rows import RankingRows, history_bounds, plain_rows
from tfrec.training.strategy import make_strategy

N_USERS, N_ITEMS = 30, 20


def _data(n: int = 600, seed: int = 0) -> RetrievalData:
    """Men rate items of an even genre 5 and others 1 or 2, women the other way round."""
    rng = np.random.default_rng(seed)
    gender = np.concatenate([[0], 1 + np.arange(N_USERS) % 2, [0]])
    genres = np.concatenate([[0], 1 + np.arange(N_ITEMS) % 4, [0]])[:, None] * np.array([1, 0])
    user, item = rng.integers(1, N_USERS + 1, n), rng.integers(1, N_ITEMS + 1, n)
    likes = gender[user] % 2 == genres[item, 0] % 2
    events = Interactions.from_arrays(
        user,
        item,
        N_USERS,
        N_ITEMS,
        timestamp=rng.integers(0, n // 2, n),  # many ties
        weight=np.where(likes, 5, rng.integers(1, 3, n)),
        context={"device": rng.integers(0, 3, n)},
    )
    part = rng.random(n)
    features = FeatureTable(
        features=(
            Feature(name="user_id", role="user", kind="id", dim=8),
            Feature(name="item_id", role="item", kind="id", dim=8),
            Feature(name="gender", role="user", kind="categorical", dim=4),
            Feature(name="genres", role="item", kind="multi", dim=4),
            Feature(name="device", role="context", kind="categorical", dim=4),
        )
    )
    return RetrievalData(
        train=events.select(part < 0.7),
        validation=events.select((part >= 0.7) & (part < 0.85)),
        test=events.select(part >= 0.85),
        users={"user_id": np.arange(N_USERS + 2), "gender": gender},
        items={"item_id": np.arange(N_ITEMS + 2), "genres": genres},
        features=features,
        sizes={
            "user_id": N_USERS + 2,
            "item_id": N_ITEMS + 2,
            "gender": 4,
            "genres": 6,
            "device": 4,
        },
        user_ids=np.array(["", *(f"u{i}" for i in range(N_USERS))]),
        item_ids=np.array(["", *(f"i{i}" for i in range(N_ITEMS))]),
    )


def _ranking(**changes: object) -> RankingConfig:
    return RankingConfig(
        **{  # type: ignore[arg-type]
            "label": "rating",
            "history_length": 4,
            "params": {"hidden": [16], "l1": 0.1},
            "train": TrainConfig(epochs=6, batch_size=32, learning_rate=0.05),
            **changes,
        }
    )


def _all_rows(
    rows: RankingRows, batch: int, seed: int = 0
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    found = list(rows.dataset(batch, seed, shuffle=False))
    inputs = {k: np.concatenate([f[0][k].numpy() for f in found]) for k in found[0][0]}
    return inputs, np.concatenate([f[1].numpy() for f in found])


def _earlier(known: Interactions, user: int, time: int, length: int) -> list[int]:
    """The last items of a user strictly before a moment, padded behind, by a loop."""
    items = [
        int(i)
        for u, i, t in zip(known.user, known.item, known.timestamp, strict=True)
        if u == user and t < time
    ][-length:]
    return items + [0] * (length - len(items))


def test_history_bounds_equal_loops() -> None:
    known = _data().train
    rng = np.random.default_rng(1)
    users, times = rng.integers(1, N_USERS + 1, 200), rng.integers(-5, 310, 200)
    ends = history_bounds(known, users, times)
    for user, time, end in zip(users, times, ends, strict=True):
        before = ((known.user == user) & (known.timestamp < time)).sum()
        assert end == known.indptr[user] + before


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_rows_of_ratings(split: str) -> None:
    data = _data()
    events: Interactions = getattr(data, split)
    inputs, label = _all_rows(RankingRows(data, split, _ranking()), batch=50)  # type: ignore[arg-type]
    np.testing.assert_array_equal(inputs["user_id"], events.user)
    np.testing.assert_array_equal(inputs["item_id"], events.item)
    np.testing.assert_array_equal(label, events.weight >= 4)
    np.testing.assert_array_equal(inputs["gender"], data.users["gender"][events.user])
    np.testing.assert_array_equal(inputs["genres"], data.items["genres"][events.item])
    np.testing.assert_array_equal(inputs["device"], events.context["device"])
    known = {
        "train": data.train,
        "validation": data.train.join(data.validation),
        "test": data.train.join(data.validation).join(data.test),
    }[split]
    expected = [
        _earlier(known, u, t, 4) for u, t in zip(events.user, events.timestamp, strict=True)
    ]
    np.testing.assert_array_equal(inputs["history"], expected)


def test_rating_task_keeps_the_weight() -> None:
    data = _data()
    _, label = _all_rows(RankingRows(data, "train", _ranking(task="rating")), batch=64)
    np.testing.assert_array_equal(label, data.train.weight)


def test_rows_of_purchases() -> None:
    data = _data()
    rows = RankingRows(data, "validation", _ranking(label="purchase", negatives=3))
    inputs, label = _all_rows(rows, batch=40)
    n = len(data.validation)
    assert len(label) == len(rows) == 4 * n
    assert rows.mean_label == pytest.approx(0.25)
    np.testing.assert_array_equal(label.reshape(n, 4), np.tile([1, 0, 0, 0], (n, 1)))
    items, users = inputs["item_id"].reshape(n, 4), inputs["user_id"].reshape(n, 4)
    np.testing.assert_array_equal(items[:, 0], data.validation.item)
    np.testing.assert_array_equal(users, np.repeat(data.validation.user[:, None], 4, 1))
    np.testing.assert_array_equal(inputs["genres"], data.items["genres"][inputs["item_id"]])
    known = data.train.join(data.validation)
    seen = set(zip(known.user.tolist(), known.item.tolist(), strict=True))
    drawn = zip(users[:, 1:].ravel().tolist(), items[:, 1:].ravel().tolist(), strict=True)
    assert not seen & set(drawn)
    for name in ("history", "device", "gender"):  # a negative shares its event's moment
        values = inputs[name].reshape(n, 4, -1)
        np.testing.assert_array_equal(values, np.repeat(values[:, :1], 4, 1))
    again, _ = _all_rows(rows, batch=40)
    np.testing.assert_array_equal(again["item_id"], inputs["item_id"])


def test_unobserved_draws_every_untouched_item_alike() -> None:
    user = np.array([1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3])
    item = np.array([1, 2, 5, 5, 6, 1, 2, 3, 4, 5, 6])
    draw = Unobserved(Interactions.from_arrays(user, item, n_users=4, n_items=6))
    users = tf.constant([1, 2, 3, 4], tf.int64)
    assert draw.free(users).numpy().tolist() == [3, 5, 0, 6]
    drawn = draw.sample(users, 6000, tf.constant([1, 2])).numpy()
    for row, untouched in ((0, [3, 4, 6]), (1, [1, 2, 3, 4, 5]), (3, [1, 2, 3, 4, 5, 6])):
        values, counts = np.unique(drawn[row], return_counts=True)
        assert values.tolist() == untouched
        assert counts.min() > 0.85 * 6000 / len(untouched)


def test_who_touched_everything_has_no_negatives() -> None:
    data = _data()
    n = N_ITEMS
    everything = Interactions.from_arrays(
        np.concatenate([np.full(n, 1), [2]]),
        np.concatenate([np.arange(1, n + 1), [3]]),
        N_USERS,
        N_ITEMS,
        context={"device": np.ones(n + 1, np.int64)},
    )
    data = replace(data, train=everything)
    inputs, label = _all_rows(RankingRows(data, "train", _ranking(label="purchase")), batch=50)
    assert (label[inputs["user_id"] == 1] == 1).all()
    assert (inputs["user_id"] == 1).sum() == n
    assert (label[inputs["user_id"] == 2] == 0).sum() == 4


def test_each_epoch_is_a_new_order_with_new_negatives() -> None:
    data = _data()
    rows = RankingRows(data, "train", _ranking(label="purchase", negatives=2))
    steps = rows.steps(64)
    assert steps == -(-len(data.train) // 21)

    def epochs(seed: int) -> list[np.ndarray]:
        batches = list(rows.dataset(64, seed, shuffle=True).take(2 * steps))
        pairs = [
            np.stack([i["user_id"], i["item_id"], label], 1).astype(int) for i, label in batches
        ]
        return [np.concatenate(pairs[:steps]), np.concatenate(pairs[steps:])]

    first, second = epochs(seed=3)
    for epoch in (first, second):
        positives = sorted(map(tuple, epoch[epoch[:, 2] == 1, :2].tolist()))
        assert positives == sorted(zip(data.train.user, data.train.item, strict=True))
    assert not np.array_equal(first[:, 0], second[:, 0])
    negatives = [sorted(map(tuple, e[e[:, 2] == 0, :2].tolist())) for e in (first, second)]
    assert negatives[0] != negatives[1]
    for one, other in zip(epochs(seed=3), (first, second), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(epochs(seed=4)[0], first)


def test_plain_rows_cover_the_table() -> None:
    encoded, label = {"a": np.arange(10)}, np.arange(10) % 2
    in_order = list(plain_rows(encoded, label, 4, seed=None))
    assert [len(y) for _, y in in_order] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([x["a"] for x, _ in in_order]), np.arange(10))
    shuffled = list(plain_rows(encoded, label, 4, seed=1).take(6))
    passes = [np.concatenate([x["a"] for x, _ in shuffled[i : i + 3]]) for i in (0, 3)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(10))
    assert list(passes[0]) != list(passes[1])


def test_metrics_equal_sklearn() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 500)
    score = np.round(rng.random(500) * 0.8 + 0.1 + 0.05 * label, 2)  # many ties
    figures = binary_metrics(label, score)
    assert figures["auc"] == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert figures["log_loss"] == pytest.approx(log_loss(label, score), rel=1e-6)
    assert figures["accuracy"] == pytest.approx(((score > 0.5) == label).mean())
    assert np.isnan(auc(np.ones(3), np.arange(3)))
    assert rating_metrics(np.array([1, 2]), np.array([1, 4])) == pytest.approx(
        {"rmse": np.sqrt(2), "mae": 1.0}
    )


@pytest.mark.parametrize("model", ["wide", "deep", "wide_deep"])
def test_fit_learns_whom_what_pleases(model: str) -> None:
    data = _data(3000)
    ranking = _ranking(model=model, crosses=(("gender", "genres"),))
    result = fit_ranking(ranking, data)
    assert result.best is not None
    assert result.best > 0.99
    figures = evaluate_ranking(result.model, data, "test")
    assert figures["auc"] > 0.99
    assert figures["log_loss"] < 0.3


def test_fit_purchases_against_sampled_items() -> None:
    data = _data(3000)
    liked = [s.select(s.weight == 5) for s in (data.train, data.validation, data.test)]
    data = replace(data, train=liked[0], validation=liked[1], test=liked[2])
    ranking = _ranking(label="purchase", crosses=(("gender", "genres"),))
    result = fit_ranking(ranking, data)
    assert evaluate_ranking(result.model, data, "test")["auc"] > 0.85


def test_fit_ratings() -> None:
    data = _data(3000)
    result = fit_ranking(_ranking(task="rating", crosses=(("gender", "genres"),)), data)
    assert evaluate_ranking(result.model, data, "test")["rmse"] < 0.7  # .5 is the planted noise
    assert result.best == min(value for _, value in result.validated)


def test_the_best_epoch_is_kept() -> None:
    data = _data(400)  # so few that the deep part soon learns them by heart
    train = TrainConfig(epochs=40, batch_size=32, learning_rate=0.1, patience=2)
    noise = np.random.default_rng(0).integers(1, 6, len(data.train))
    data = replace(data, train=replace(data.train, weight=noise.astype(np.float32)))
    result = fit_ranking(_ranking(train=train), data)
    epochs = [epoch for epoch, _ in result.validated]
    assert epochs[-1] < 40
    assert epochs[-1] - result.best_epoch == 2
    assert result.best == max(value for _, value in result.validated)
    now = evaluate_ranking(result.model, data, "validation")["auc"]
    assert now == pytest.approx(result.best, abs=1e-6)
    assert len(result.history["val_auc"]) == len(epochs)


def test_fit_without_validation_trains_all_epochs() -> None:
    data = _data().refit()
    result = fit_ranking(_ranking(), data)
    assert (result.best, result.best_epoch, len(result.history["loss"])) == (None, 0, 6)


def test_fit_says_what_is_wrong() -> None:
    data = _data()
    nothing = np.zeros(len(data.train), bool)
    with pytest.raises(ValueError, match="train split holds no events"):
        fit_ranking(_ranking(), replace(data, train=data.train.select(nothing)))
    with pytest.raises(ValueError, match=r"needs ranking\.label 'rating'"):
        fit_ranking(_ranking(task="rating", label="purchase"), data)
    with pytest.raises(ValueError, match="'popular' is a retrieval model"):
        fit_ranking(_ranking(model="popular"), data)


def test_keep_best_knows_which_way_is_better() -> None:
    for metric, values, best in (("rmse", [3.0, 1.0, 2.0], 1.0), ("auc", [0.5, 0.7, 0.6], 0.7)):
        figures = iter([{metric: value} for value in values])
        keep = KeepBest(figures.__next__, metric, patience=0)
        model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
        model.build([None, 1])
        keep.set_model(model)
        for epoch in range(3):
            keep.on_epoch_end(epoch, {})
        assert (keep.best, keep.best_epoch) == (best, 2)


@pytest.mark.parametrize("label", ["rating", "purchase"])
def test_two_replicas_take_the_steps_of_one(label: str) -> None:
    assert len(tf.config.list_logical_devices("CPU")) >= 2, "see tests/conftest.py"
    data = _data(203)
    odd = np.arange(len(data.train)) < 143  # the last batch, too: replicas get unequal shares
    data = replace(data, train=data.train.select(odd))
    params = {"hidden": [16, 8], "l1": 0.5, "l2": 0.01, "embedding_l2": 0.01, "dots": True}
    ranking = _ranking(
        label=label,
        negatives=2,
        crosses=(("gender", "genres"), ("history", "item_id")),
        params=params,
        train=TrainConfig(epochs=2, batch_size=30, learning_rate=0.05),
    )
    start = build_ranker(ranking, data).get_weights()
    strategy = make_strategy(2)
    assert strategy.num_replicas_in_sync == 2
    results = {1: fit_ranking(ranking, data), 2: fit_ranking(ranking, data, strategy=strategy)}
    one, two = (results[n].model.get_weights() for n in (1, 2))
    assert max(np.abs(a - b).max() for a, b in zip(one, start, strict=True)) > 0.05
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(
        results[1].history["val_auc"], results[2].history["val_auc"], atol=1e-4
    )
    np.testing.assert_allclose(results[1].history["loss"], results[2].history["loss"], atol=1e-5)
