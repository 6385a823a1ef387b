"""The two-tower model: learns order, sees no future, trains alike on one and two replicas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.tables import small_data
from tfrec.config import TrainConfig
from tfrec.data.sequences import TARGET_WEIGHT, cut_windows, sequence_dataset
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.models.registry import build
from tfrec.schema import ITEM_ID
from tfrec.training.fit import fit_retrieval
from tfrec.training.strategy import make_strategy

TRAIN = TrainConfig(epochs=1, batch_size=8, learning_rate=0.01, patience=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    return small_data(tmp_path_factory.mktemp("statistics"))[0]


def inputs(data, users: np.ndarray, length: int = 8) -> dict[str, tf.Tensor]:  # type: ignore[no-untyped-def]
    out = {k: tf.constant(v) for k, v in data.user_inputs(users, data.train, length).items()}
    out["device"] = tf.ones([len(users)], tf.int64)
    return out


@pytest.mark.parametrize("encoder", ["attention", "gru", "mean", "none"])
def test_state_does_not_see_the_future(data, encoder: str) -> None:  # type: ignore[no-untyped-def]
    model = build("two_tower", data, {"dim": 8, "history_length": 8, "history_encoder": encoder})
    history = tf.constant([[1, 2, 3, 4, 5, 6, 7, 8]], tf.int64)
    other = tf.constant([[1, 2, 3, 9, 9, 9, 9, 9]], tf.int64)
    states, _ = model._history_states(history, training=False)
    changed, _ = model._history_states(other, training=False)
    np.testing.assert_allclose(states[:, :4], changed[:, :4], atol=1e-6)
    if encoder != "none":
        assert float(tf.reduce_max(tf.abs(states[:, 4:] - changed[:, 4:]))) > 1e-4


def test_learns_the_next_item_of_a_walk(data) -> None:  # type: ignore[no-untyped-def]
    """Each user walks by a fixed step; a reader of ordered history can know the next item."""
    train = TrainConfig(epochs=40, batch_size=8, learning_rate=0.01, patience=0)
    params = {"dim": 16, "history_length": 8, "dropout": 0.0, "temperature": 0.1}
    result = fit_retrieval("two_tower", params, train, data.refit())
    found = evaluate(result.model, data, "test", (1, 3))
    assert found["recall@1"] > 0.8
    blind = fit_retrieval("two_tower", {**params, "history_encoder": "none"}, train, data.refit())
    assert evaluate(blind.model, data, "test", (1, 3))["recall@1"] < found["recall@1"] - 0.3


def test_two_replicas_equal_one(data) -> None:  # type: ignore[no-untyped-def]
    """Same global batch, same loss, same weights after a step, whatever the number of replicas."""
    after, losses = [], []
    for replicas in (1, 2):
        strategy = make_strategy(replicas)
        assert strategy.num_replicas_in_sync == replicas
        tf.keras.utils.set_random_seed(7)
        with strategy.scope():
            params = {"dim": 8, "history_length": 8, "dropout": 0.0, "uniform_negatives": 5}
            model = build("two_tower", data, params)
            model.compile_for(TRAIN)
        batches = sequence_dataset(data, 8, 30, seed=3)
        history = model.fit(batches, epochs=2, verbose=0)
        losses.append(history.history["loss"])
        after.append([v.numpy() for v in model.trainable_variables])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for one, two in zip(*after, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_windows_make_each_event_a_target_once(data) -> None:  # type: ignore[no-untyped-def]
    events = data.train
    for positions in (2, 3, 4, 5, 9, 50):
        windows = cut_windows(events, positions)
        targets = np.zeros(len(events), int)
        for start, fresh, end in zip(windows.start, windows.fresh, windows.end, strict=True):
            assert 0 <= end - start <= positions
            assert start <= fresh < end
            assert len(set(events.user[start:end])) == 1
            targets[fresh:end] += 1
        assert (targets == 1).all()


def test_an_epoch_holds_each_training_event_once_and_equal_batches(data) -> None:  # type: ignore[no-untyped-def]
    batches = list(sequence_dataset(data, 8, 16, seed=3))
    assert {len(b["target"]) for b in batches} == {16}
    targets = np.concatenate([b["target"].numpy()[b[TARGET_WEIGHT].numpy() > 0] for b in batches])
    np.testing.assert_array_equal(np.sort(targets), np.sort(data.train.item))


def test_recommendations_follow_history_only_up_to_its_length(data) -> None:  # type: ignore[no-untyped-def]
    model = build("two_tower", data, {"dim": 8, "history_length": 4})
    model.refresh()
    users = inputs(data, np.array([1, 2]), 8)
    longer = dict(users)
    longer["history"] = tf.concat([users["history"][:, -4:] * 0 + 1, users["history"]], axis=1)
    np.testing.assert_allclose(
        model.score_catalogue(users), model.score_catalogue(longer), atol=1e-5
    )


def test_fold_in_equals_an_unknown_user_with_that_history(data) -> None:  # type: ignore[no-untyped-def]
    model = build("two_tower", data, {"dim": 8, "history_length": 8})
    users = {k: v * 0 for k, v in inputs(data, np.array([1])).items()}
    users["history"] = tf.constant([[3, 1, 2, 0, 0, 0, 0, 0]], tf.int64)
    np.testing.assert_allclose(
        model.fold_in(users["history"]), model.user_embedding(users), atol=1e-6
    )


def test_bad_parameters_say_what_to_mend(data) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="temperature is above 0"):
        build("two_tower", data, {"temperature": 0.0})
    with pytest.raises(ValueError, match="min_id_events is from 1"):
        build("two_tower", data, {"min_id_events": 0})
    with pytest.raises(ValueError, match="history_encoder is attention, gru, mean or none"):
        build("two_tower", data, {"history_encoder": "lstm"})
    with pytest.raises(TypeError, match=r"dimm.*mend 'params'"):
        build("two_tower", data, {"dimm": 8})


def test_an_id_counts_from_so_many_training_events_on(data) -> None:  # type: ignore[no-untyped-def]
    """Below, an item's vector is that of its features, whatever stands in its row of the table."""
    counts = data.train.item_counts()
    least = int(np.median(counts[counts > 0])) + 1
    params = {"dim": 8, "history_length": 8, "min_id_events": least}
    tower = build("two_tower", data, params).item_tower
    few = np.flatnonzero((counts < least) & (np.arange(len(counts)) > 0))
    many = np.flatnonzero(counts >= least)
    assert len(few)
    assert len(many)
    table = next(v for v in tower.embed.vocabulary_tables()[ITEM_ID] if v.shape.rank == 2)
    before = [tower(tf.constant(rows, tf.int64)).numpy() for rows in (few, many)]
    assert np.abs(table.numpy()[few]).max() == 0  # a warm start that knows them begins at nothing
    table.assign_add(tf.ones_like(table))
    after = [tower(tf.constant(rows, tf.int64)).numpy() for rows in (few, many)]
    np.testing.assert_array_equal(before[0], after[0])
    assert np.abs(before[1] - after[1]).max(axis=1).min() > 1e-3


def test_items_without_features_keep_their_ids(data) -> None:  # type: ignore[no-untyped-def]
    """A hidden id would leave no vector: neither ``id_dropout`` nor ``min_id_events`` hides it."""
    bare = dataclasses.replace(
        data, features=data.features.without(*(f.name for f in data.features.of("item", ids=False)))
    )
    params = {"dim": 8, "history_length": 8, "id_dropout": 0.9, "min_id_events": 1000}
    tower = build("two_tower", bare, params).item_tower
    items = tf.range(1, bare.n_items + 1, dtype=tf.int64)
    lengths = tf.norm(tower(items, training=True), axis=-1).numpy()
    trained = bare.train.item_counts()[1:] > 0
    np.testing.assert_allclose(lengths, trained.astype(np.float32), atol=1e-5)


def test_too_many_replicas_are_refused() -> None:
    with pytest.raises(ValueError, match="asks for 64 replicas"):
        make_strategy(64)


def test_is_a_tensorflow_recommenders_model(data) -> None:  # type: ignore[no-untyped-def]
    """The library's brute-force layer finds our lists; ``compute_loss`` is the mean loss."""
    import tensorflow_recommenders as tfrs

    model = build("two_tower", data, {"dim": 8, "history_length": 8})
    assert isinstance(model, tfrs.Model)
    model.refresh()
    users = inputs(data, np.arange(1, 11))
    layer = tfrs.layers.factorized_top_k.BruteForce(k=5)
    layer.index(model.item_embedding(), tf.range(1, data.n_items + 1))
    _, theirs = layer(model.user_embedding(users))
    ours, _ = model.recommend(users, 5)
    np.testing.assert_array_equal(theirs, ours)
    batch = next(iter(sequence_dataset(data, 8, 16, seed=0)))
    model.compile_for(TRAIN)
    assert float(model.compute_loss(batch)) == pytest.approx(
        float(model.batch_loss(batch, training=False)[1]), rel=1e-5
    )
