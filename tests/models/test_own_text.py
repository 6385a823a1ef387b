"""Items asked by their own text: words that no logged query holds find their items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.builders_search import COLOURS, NOUNS, Shop, search_shop
from tfrec.config import TrainConfig
from tfrec.data.sequences import TARGET_WEIGHT
from tfrec.models.own_text import asked_texts, own_queries
from tfrec.models.registry import build
from tfrec.schema import HISTORY, USER_ID, FeatureTable
from tfrec.training.fit import fit_retrieval
from tfrec.training.strategy import make_strategy

SEARCH = {"dim": 4, "history_length": 1, "history_encoder": "none", "temperature": 0.1}
SEARCH |= {"use_user_id": False, "use_item_id": False, "logq": False}
NEW = NOUNS[5:]  # what nobody of the training asked for or bought


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return search_shop(tmp_path_factory.mktemp("statistics"))


@pytest.fixture(scope="module")
def sparse(shop: Shop) -> Any:
    """The shop's data with no training event of the new nouns."""
    titles = shop.title_words(np.arange(1, shop.data.n_items + 1))
    known = np.append(False, ~np.isin(titles[:, 1], NEW))
    return replace(shop.data, train=shop.data.train.select(known[shop.data.train.item]))


def share_found(shop: Shop, model: Any) -> float:
    """Share of the answers to the new nouns that are of that noun."""
    right = []
    for noun in NEW:
        told = {
            USER_ID: tf.constant([shop.data.n_users + 1], tf.int64),
            HISTORY: tf.zeros([1, 1], tf.int64),
            **shop.encoder({"query": tf.constant([noun])}),
        }
        found, _ = model.recommend(told, len(COLOURS))
        right.append((shop.title_words(found.numpy()[0])[:, 1] == noun).mean())
    return float(np.mean(right))


def test_words_that_nobody_asked_for_find_their_items(shop: Shop, sparse: Any) -> None:
    """In four dimensions twelve words cannot stay apart by chance: they must be taught to."""
    train = TrainConfig(epochs=30, batch_size=40, learning_rate=0.02, patience=0)
    found = {}
    for own in (0, 16):
        params = {**SEARCH, "own_queries": own}
        runs = [
            fit_retrieval(
                "two_tower",
                params,
                train.model_copy(update={"seed": seed}),
                sparse,
                evaluate_every=1000,
            ).model
            for seed in (0, 1)
        ]
        found[own] = np.mean([share_found(shop, model) for model in runs])
    assert found[16] > 0.65
    assert found[16] > found[0] + 0.15


def test_own_queries_are_parts_of_the_title(shop: Shop) -> None:
    model = build("two_tower", shop.data, SEARCH)
    asked = asked_texts(shop.data.features)
    assert [f.name for f in asked] == ["query"]
    items = tf.repeat(tf.range(0, shop.data.n_items + 1, dtype=tf.int64), 50)
    titles = shop.data.items["title"][items.numpy()]
    queries = own_queries(asked, model.item_tower.catalogue, items)["query"].numpy()
    assert not queries[titles.sum(axis=1) == 0].any()
    said = (queries[:, :, None] == titles[:, None, :]) & (queries[:, :, None] > 0)
    assert (said.any(axis=2) == (queries > 0)).all()
    assert (queries[titles.sum(axis=1) > 0, 0] > 0).all()
    assert {1, 2} == set((queries > 0).sum(axis=1)) - {0}


def test_the_loss_is_that_of_events_and_own_queries_together(shop: Shop) -> None:
    """Softmax over all items of both kinds of questions, counted by hand."""
    n = shop.data.n_items
    # So many draws that every item is a candidate: the loss's candidates are the catalogue.
    tf.keras.utils.set_random_seed(3)
    params = {**SEARCH, "own_queries": 40 * n, "own_weight": 2.0, "dropout": 0.0}
    model = build("two_tower", shop.data, params)
    model.compile_for(TrainConfig(batch_size=16))
    batch = next(iter(model.training_data(shop.data, TrainConfig(batch_size=16))))
    loss, _ = model.batch_loss(batch, training=False)
    items = model.item_tower(tf.range(1, n + 1, dtype=tf.int64)).numpy()

    def mean_loss(users: np.ndarray, own: np.ndarray) -> float:
        logits = users @ items.T / 0.1
        own_logit = logits[np.arange(len(own)), own - 1]
        return float((np.log(np.exp(logits).sum(axis=1)) - own_logit).mean())

    states, _ = model._history_states(batch[HISTORY], False)
    users = model._user_vectors(states, batch, False).numpy()
    asked = batch[TARGET_WEIGHT].numpy() > 0
    events = mean_loss(users[asked], batch["target"].numpy()[asked])
    own, askers, known = model._asked_by_text(tf.constant([0, 0], tf.int64), False)
    assert known.numpy().all()
    by_text = mean_loss(askers.numpy(), own.numpy())
    # The spans are drawn anew: equal in the mean of many.
    assert float(loss) == pytest.approx(events + 2.0 * by_text, rel=0.03)


def test_two_replicas_ask_twice_as_many(shop: Shop) -> None:
    """Each replica draws items of its own, and the shares of the loss add up to the same."""
    losses = []
    for replicas, own in ((1, 1024), (2, 512)):
        strategy = make_strategy(replicas)
        assert strategy.num_replicas_in_sync == replicas
        tf.keras.utils.set_random_seed(7)
        with strategy.scope():
            model = build("two_tower", shop.data, {**SEARCH, "own_queries": own, "logq": True})
            model.compile_for(TrainConfig(batch_size=16))
        batch = next(iter(model.training_data(shop.data, TrainConfig(batch_size=16))))
        tensors = {k: v.numpy() for k, v in batch.items()}
        drawn: list[np.ndarray] = []

        def cut(context: Any, tensors: Any = tensors, replicas: int = replicas) -> Any:
            rows = 16 // replicas
            at = context.replica_id_in_sync_group * rows
            return {k: tf.constant(v[at : at + rows]) for k, v in tensors.items()}

        per_replica = (
            strategy.experimental_distribute_values_from_function(
                lambda context, cut=cut: cut(context)
            )
            if replicas > 1
            else tensors
        )

        @tf.function
        def run(part: Any, model: Any = model) -> Any:
            seed = tf.constant([0, 0], tf.int64)
            return model.batch_loss(part, False)[0], model._asked_by_text(seed, False)[0]

        loss, own_items = strategy.run(run, args=(per_replica,))
        losses.append(float(strategy.reduce(tf.distribute.ReduceOp.SUM, loss, axis=None)))
        drawn += [np.asarray(v) for v in strategy.experimental_local_results(own_items)]
        assert len(drawn) == replicas
        if replicas == 2:
            assert not np.array_equal(drawn[0], drawn[1])
    assert losses[0] == pytest.approx(losses[1], rel=0.03)


def test_what_cannot_be_asked_is_refused(shop: Shop) -> None:
    alone = FeatureTable(
        features=tuple(f.model_copy(update={"shares": None}) for f in shop.data.features)
    )
    with pytest.raises(ValueError, match="own_queries ask an item by its text; give a context"):
        build("two_tower", replace(shop.data, features=alone), {**SEARCH, "own_queries": 4})
    with pytest.raises(ValueError, match="own_queries is from 0 and own_weight above 0; got -1"):
        build("two_tower", shop.data, {**SEARCH, "own_queries": -1})
    with pytest.raises(ValueError, match="token_dropout is a share below 1; got 1"):
        build("two_tower", shop.data, {**SEARCH, "token_dropout": 1.0})
