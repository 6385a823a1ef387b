"""item2vec: its pairs and draws against loops, its loss, attributes that place cold items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.builders import interactions, random_data, retrieval_data
from tfrec.config import TrainConfig
from tfrec.data.skip_gram import (
    AFTER,
    BEFORE,
    CENTRE,
    CONTEXT,
    NEGATIVES,
    keep_probability,
    negative_cumulative,
    skip_gram_dataset,
)
from tfrec.models.dot_product import dot_product
from tfrec.models.nearest import nearest_items
from tfrec.models.registry import build
from tfrec.schema import HISTORY, USER_ID, Feature, FeatureTable
from tfrec.training.fit import fit_retrieval
from tfrec.training.strategy import make_strategy

TRAIN = TrainConfig(epochs=1, batch_size=16, learning_rate=0.05, patience=0)
DATA = random_data(n_users=12, n_items=15)
PLAIN: dict[str, Any] = {"window": 3, "exponent": 0.0, "threshold": 0.0, "shared": 20}


def epoch(data=DATA, batch_size: int = 16, **options: Any) -> dict[str, np.ndarray]:  # type: ignore[no-untyped-def]
    batches = skip_gram_dataset(data.train, batch_size, 5, **{**PLAIN, **options})
    rows = [{k: v.numpy() for k, v in b.items()} for b in batches]
    return {k: np.concatenate([r[k] for r in rows]) for k in rows[0]}


def pairs_of(rows: dict[str, np.ndarray], window: int = 3) -> list[tuple[int, list[int]]]:
    """Each centre with its contexts, as the data set's docstring lays them out."""
    found = []
    for stretch, centres in enumerate(rows[CENTRE]):
        for place, centre in enumerate(centres):
            before, after = rows[BEFORE][stretch, place], rows[AFTER][stretch, place]
            reach = [d for d in range(-before, after + 1) if d]
            near = [int(rows[CONTEXT][stretch, window + place + d]) for d in reach]
            if centre:
                found.append((int(centre), near))
            else:
                assert not near
    return found


@pytest.mark.parametrize("batch_size", [5, 16, 300])
def test_contexts_are_what_lies_within_reach_of_the_same_user(batch_size: int) -> None:
    """Distinct items a user, so that a centre and its contexts tell whose they are."""
    events = interactions([(u, 10 * u + t) for u in (1, 2, 3) for t in range(6)], 3, 40)
    data = replace(retrieval_data([(1, 1)], n_users=3, n_items=40), train=events)
    reaches = set()
    for seed in range(4):
        batches = skip_gram_dataset(data.train, batch_size, seed, **PLAIN)
        rows = [{k: v.numpy() for k, v in b.items()} for b in batches]
        found = pairs_of({k: np.concatenate([r[k] for r in rows]) for k in rows[0]})
        assert sorted(centre for centre, _ in found) == sorted(events.item)
        for centre, near in found:
            user, place = divmod(centre, 10)
            own = np.setdiff1d(np.arange(6), [place])
            all_within = [(10 * user + own[np.abs(own - place) <= b]).tolist() for b in (1, 2, 3)]
            assert near in all_within
            reaches.add(len(near))
    assert len(reaches) > 2


def test_epochs_differ_and_the_seed_repeats_them() -> None:
    batches = skip_gram_dataset(DATA.train, 500, 5, **PLAIN)
    one, two = (next(iter(batches))[CENTRE].numpy() for _ in range(2))
    again = next(iter(skip_gram_dataset(DATA.train, 500, 5, **PLAIN)))[CENTRE].numpy()
    assert (one != two).any()
    np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("exponent", [-0.5, 0.0, 0.75])
def test_negatives_follow_the_exponent(exponent: float) -> None:
    counts = np.array([80, 0, 10, 10])
    pairs = [(1, i + 1) for i, c in enumerate(counts) for _ in range(c)]
    data = retrieval_data(pairs, n_users=1, n_items=4)
    drawn = epoch(data, batch_size=100, shared=6000, exponent=exponent)[NEGATIVES]
    weights = np.array([80.0**exponent, 0, 10.0**exponent, 10.0**exponent])
    expected = weights / weights.sum()
    np.testing.assert_allclose(np.diff(negative_cumulative(counts, exponent), prepend=0), expected)
    share = np.bincount(drawn.ravel(), minlength=5)[1:] / drawn.size
    np.testing.assert_allclose(share, expected, atol=0.03)  # 6,000 draws: 4 standard errors
    assert share[1] == 0


@pytest.mark.parametrize("threshold", [0.0, 0.02])
def test_all_epochs_have_equally_many_batches(threshold: float) -> None:
    """Keras would take a shorter epoch for the end of the data and stop."""
    data = random_data(n_users=30, n_items=40)
    batches = skip_gram_dataset(data.train, 16, 0, **{**PLAIN, "threshold": threshold})
    centres = [[b[CENTRE].numpy() for b in batches] for _ in range(12)]
    assert {len(epoch) for epoch in centres} == {int(batches.cardinality())}
    found = [sum(int((c > 0).sum()) for c in epoch) for epoch in centres]
    if threshold:
        assert len(set(found)) > 1
        assert max(found) < len(data.train)
    else:
        assert set(found) == {len(data.train)}


def test_sub_sampling_thins_out_frequent_items() -> None:
    counts = np.array([0, 900, 100])
    np.testing.assert_allclose(keep_probability(counts, 0.09)[1:], [0.1**0.5, 0.9**0.5])
    assert (keep_probability(counts, 0.0) == 1).all()
    pairs = [(1, 1)] * 900 + [(1, 2)] * 100
    kept = epoch(retrieval_data(pairs), batch_size=1000, threshold=0.09)[CENTRE]
    assert abs((kept == 1).sum() - 900 * 0.1**0.5) < 60
    assert abs((kept == 2).sum() - 100 * 0.9**0.5) < 20


def test_loss_of_a_step_against_a_loop() -> None:
    model = build("item2vec", DATA, {"dim": 4, "window": 3, "negatives": 7})
    model.compile_for(TRAIN)
    model.contexts.assign(tf.random.stateless_normal(model.contexts.shape, [1, 2]))
    batch = next(iter(skip_gram_dataset(DATA.train, 16, 5, **PLAIN)))
    inside = model._vectors(tf.range(16, dtype=tf.int64)).numpy()
    contexts = model.contexts.numpy()
    losses = []
    told = {k: v.numpy() for k, v in batch.items()}
    drawn = told[NEGATIVES].ravel()
    for centre, near in pairs_of(told):
        away = 7 * np.mean([np.log1p(np.exp(inside[centre] @ contexts[n])) for n in drawn])
        for item in near:
            losses.append(np.log1p(np.exp(-inside[centre] @ contexts[item])) + away)
    found = float(model.train_step(batch)["loss"])
    assert found == pytest.approx(float(np.mean(losses)), rel=1e-4)


def test_two_replicas_equal_one() -> None:
    after = []
    for replicas in (1, 2):
        strategy = make_strategy(replicas)
        tf.keras.utils.set_random_seed(7)
        with strategy.scope():
            model = build("item2vec", DATA, {"dim": 4})
            model.compile_for(TRAIN)
        model.fit(model.training_data(DATA, TRAIN), epochs=2, verbose=0)
        after.append([v.numpy() for v in model.trainable_variables])
    for one, two in zip(*after, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-4)


def test_attributes_place_an_item_that_was_never_bought() -> None:
    """Users buy within one of two kinds; item 9 and 10 are new, one of each kind."""
    random = np.random.default_rng(0)
    pairs = [(u, 2 * i - u % 2) for u in range(1, 31) for i in random.permutation([1, 2, 3, 4])]
    data = retrieval_data(pairs, n_users=30, n_items=10)
    kind = np.array([0, *(2 - i % 2 for i in range(1, 11)), 0])
    features = FeatureTable(features=(Feature(name="kind", role="item", kind="categorical"),))
    data = replace(
        data,
        items={**data.items, "kind": kind},
        features=features,
        sizes={**data.sizes, "kind": 4},
    )
    train = TRAIN.model_copy(update={"epochs": 12})
    params = {"dim": 8, "window": 3, "negatives": 4, "attributes": True}
    model = fit_retrieval("item2vec", params, train, data).model
    found, _ = nearest_items(model, tf.constant([9, 10]), 3)
    assert ((found.numpy() + np.array([[9], [10]])) % 2 == 0).mean() >= 5 / 6


def test_fold_in_is_the_average_of_the_most_recent_items() -> None:
    model = build("item2vec", DATA, {"dim": 4, "history_length": 2})
    model.refresh()
    vectors = model.item_embedding().numpy()
    found = model.fold_in(tf.constant([[3, 7, 9, 0], [99, 4, 0, 0], [0, 0, 0, 0]], tf.int64))
    expected = [vectors[[6, 8]].mean(axis=0), vectors[3], np.zeros(4)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("exponent", "subsample"), [(0.0, 0.0), (0.75, 0.1)])
def test_context_scores_come_to_the_share_of_what_follows(
    exponent: float, subsample: float
) -> None:
    """Beside item 1 lies item 2 in 3 of 4 cases, else item 3; item 4 was never bought."""
    pairs = [(u, i) for u in range(1, 201) for i in (1, 2 if u % 4 else 3)]
    data = retrieval_data(pairs, n_users=200, n_items=4)
    train = TRAIN.model_copy(update={"epochs": 12 if not subsample else 24, "batch_size": 50})
    params = {"dim": 4, "window": 1, "negatives": 5, "exponent": exponent}
    params["subsample"] = subsample
    model = fit_retrieval("item2vec", params, train, data).model
    scores = model.score_catalogue({HISTORY: tf.constant([[1]], tf.int64)}).numpy()[0]
    assert scores[1] - scores[2] == pytest.approx(np.log(3), abs=0.35)
    assert scores[3] < scores.min(where=[True, True, True, False], initial=0) - 50


def test_bad_parameters_say_what_to_mend() -> None:
    with pytest.raises(ValueError, match="match is 'similar' or 'context'; got 'cosine'"):
        build("item2vec", DATA, {"match": "cosine"})
    with pytest.raises(ValueError, match="dim, window, negatives and history_length are from 1"):
        build("item2vec", DATA, {"window": 0})


@pytest.mark.parametrize("exponent", [-0.5, 0.0, 0.75])
def test_without_a_history_the_frequent_come_first(exponent: float) -> None:
    """By the negatives' probability alone a negative exponent would put the rarest first."""
    pairs = [(u, i) for i, count in enumerate((2, 9, 0, 5), 1) for u in range(1, count + 1)]
    data = retrieval_data(pairs, n_items=4)
    model = build("item2vec", data, {"dim": 2, "exponent": exponent})
    model.refresh()
    told = {USER_ID: tf.constant([1], tf.int64), HISTORY: tf.zeros([1, 3], tf.int64)}
    assert model.recommend(told, 4)[0].numpy().tolist() == [[2, 4, 1, 3]]
    assert dot_product(model).items().shape == (4, 4)  # type: ignore[union-attr]
