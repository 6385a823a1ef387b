"""Attributes in the NCF family: added to the ids, standing alone for who and what is new."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.planted import COLD, parity_data, same_parity
from tfrec.config import TrainConfig
from tfrec.models.registry import build
from tfrec.schema import HISTORY, ITEM_ID, USER_ID
from tfrec.training.fit import fit_retrieval
from tfrec.training.strategy import make_strategy

DATA = parity_data()
TRAIN = TrainConfig(epochs=12, batch_size=200, learning_rate=0.03, patience=0)
SETTINGS = {
    "gmf": {"factors": 4, "id_dropout": 0.3, "l2": 0.001},
    "mlp": {"factors": 4, "layers": 2, "id_dropout": 0.3},
    "neumf": {"factors": 4, "layers": 2, "pretrain_epochs": 6, "id_dropout": 0.3},
}


def told(users: list[int], **columns: list[int]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(v, tf.int64) for name, v in {USER_ID: users, **columns}.items()}


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_who_and_what_is_new_is_placed_by_its_attribute(name: str) -> None:
    train = TRAIN.model_copy(update={"epochs": 25}) if name != "neumf" else TRAIN
    model = fit_retrieval(name, SETTINGS[name], train, DATA, evaluate_every=100).model
    cold_user = DATA.n_users  # in the vocabulary, without an event
    unknown = DATA.n_users + 1  # of the hashed tail
    for user, group in ((cold_user, DATA.users["group"][cold_user]), (unknown, 1), (unknown, 2)):
        scores = model.score_catalogue(told([user], group=[group]))[0].numpy()
        mine = same_parity(DATA, int(group) + 1)
        assert scores[mine].min() > scores[~mine].max()  # the last COLD items among them
    # An item given by its attribute alone scores as the cold ones of its kind do.
    users = told([2, 2], group=[1, 1])
    items = told([], kind=[1, 2]) | {ITEM_ID: tf.zeros([2], tf.int64)}
    found = model.score_described(users, items).numpy()
    catalogue = model.score_catalogue(told([2], group=[1]))[0].numpy()
    cold = np.arange(DATA.n_items - COLD + 1, DATA.n_items + 1)
    for at, kind in enumerate((1, 2)):
        same = cold[DATA.items["kind"][cold] == kind] - 1
        np.testing.assert_allclose(catalogue[same], found[at], rtol=1e-4, atol=1e-4)


def test_vectors_are_the_id_plus_the_features() -> None:
    model = build("gmf", DATA, {"factors": 3})
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    model.refresh()
    part = model.parts[0]

    def content(role: str, feature: str, index: int) -> np.ndarray:
        layer = part.embedding(role, DATA)
        return layer._tables[feature].numpy()[index] @ layer._projections[feature].kernel.numpy()

    vectors = model._vectors(told([3, DATA.n_users + 1], group=[2, 2])).numpy()
    mine = content("user", "group", 2)
    np.testing.assert_allclose(vectors[0], part.users.numpy()[3] + mine, atol=1e-5)
    trained = np.flatnonzero(DATA.train.user_counts())
    average = part.users.numpy()[trained].mean(axis=0)
    np.testing.assert_allclose(vectors[1], average + mine, atol=1e-5)
    items = model.item_embedding().numpy()
    kinds = [content("item", "kind", int(k)) for k in DATA.items["kind"]]
    np.testing.assert_allclose(items[4], part.items.numpy()[5] + kinds[5], atol=1e-5)
    np.testing.assert_allclose(items[-1], kinds[DATA.n_items], atol=1e-5)  # cold: no id


def test_a_solved_gmf_begins_without_the_features_it_has_not_seen() -> None:
    params = {"factors": 3, "mlp_factors": 2, "gmf_als": {"sweeps": 3}, "finetune": "none"}
    model = build("neumf", DATA, {**params, "alpha": 1.0, "pretrain_epochs": 1})
    model.compile_for(TRAIN)
    model.fit(model.training_data(DATA, TRAIN), verbose=0)
    model.refresh()
    part = model.parts[0]
    vectors = model.vectors.numpy()[:, : part.dim]
    np.testing.assert_allclose(vectors[1:], part.items.numpy()[1:], atol=1e-6)
    assert np.abs(part.items.numpy()).max() > 0.1


def test_history_moves_an_unknown_user_from_where_the_features_put_them() -> None:
    model = fit_retrieval("gmf", SETTINGS["gmf"], TRAIN, DATA, evaluate_every=100).model
    stranger = told([DATA.n_users + 1], group=[1])
    before = model.score_catalogue(stranger)[0].numpy()
    with_history = {**stranger, HISTORY: tf.constant([[1, 3, 5, 7]], tf.int64)}
    after = model.score_catalogue(with_history)[0].numpy()
    odd = np.arange(1, DATA.n_items + 1) % 2 == 1
    assert (after - before)[odd].mean() > (after - before)[~odd].mean() + 0.5


@pytest.mark.parametrize("name", ["gmf", "neumf"])
def test_attributes_off_is_plain_ncf(name: str) -> None:
    params = {"factors": 3, **({"layers": 2} if name == "neumf" else {})}
    plain = build(name, DATA, {**params, "attributes": False})
    with_features = build(name, DATA, params)
    assert not plain.content
    assert with_features.content
    assert len(plain.trainable_variables) < len(with_features.trainable_variables)
    assert set(plain.vocabulary_tables()) == {USER_ID, ITEM_ID}
    assert set(with_features.vocabulary_tables()) == {USER_ID, ITEM_ID, "group", "kind"}
    with pytest.raises(TypeError, match="knows items by their ids alone"):
        plain.embed_described({ITEM_ID: tf.zeros([1], tf.int64)})
    with pytest.raises(ValueError, match="id_dropout is a share"):
        build(name, DATA, {**params, "id_dropout": 1.0})


def test_two_replicas_equal_one() -> None:
    after = []
    for replicas in (1, 2):
        strategy = make_strategy(replicas)
        tf.keras.utils.set_random_seed(7)
        with strategy.scope():
            model = build("gmf", DATA, {"l2": 0.01, "factors": 3})
            model.compile_for(TRAIN)
        model.fit(model.training_data(DATA, TRAIN), epochs=2, verbose=0)
        model.refresh()
        after.append([v.numpy() for v in [*model.trainable_variables, model.vectors]])
    for one, two in zip(*after, strict=True):
        np.testing.assert_allclose(one, two, atol=5e-4)
