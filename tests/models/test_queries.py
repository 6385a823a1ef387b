"""Search: what is asked and who asks decide together; asked nothing, it is plain recommendation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.builders_search import COLOURS, NOUNS, Shop, colour_of, search_shop
from tfrec.config import RankingConfig, TrainConfig
from tfrec.evaluation.full_catalogue import evaluate
from tfrec.evaluation.protocol import held_out
from tfrec.export.measure import evaluate_saved
from tfrec.export.ranking import export_ranking
from tfrec.export.retrieval import export_retrieval
from tfrec.models.registry import build
from tfrec.schema import HISTORY, USER_ID
from tfrec.training.fit import fit_retrieval
from tfrec.training.ranking import evaluate_ranking, fit_ranking

TRAIN = TrainConfig(epochs=40, batch_size=20, learning_rate=0.02, patience=0)
BOTH = {"dim": 16, "history_length": 8, "history_encoder": "mean", "dropout": 0.0}
BOTH |= {"use_user_id": False, "temperature": 0.1, "context_dropout": 0.3}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return search_shop(tmp_path_factory.mktemp("statistics"))


@pytest.fixture(scope="module")
def both(shop: Shop) -> Any:
    """A model that reads history and query."""
    return fit_retrieval("two_tower", BOTH, TRAIN, shop.data, evaluate_every=1000).model


def asked(shop: Shop, users: np.ndarray, query: str | None) -> dict[str, tf.Tensor]:
    """What a model is told of users who all ask the same, or nothing (None: not even that)."""
    told = shop.data.user_inputs(users, shop.data.train, 8)
    out = {name: tf.constant(values) for name, values in told.items()}
    if query is not None:
        out |= shop.encoder({"query": tf.constant([query] * len(users))})
    return out


def test_personalised_search_beats_search_and_recommendation(shop: Shop, both: Any) -> None:
    found = evaluate(both, shop.data, "test", (1,), progress=False)["recall@1"]
    alone = {**BOTH, "history_encoder": "none", "context_dropout": 0.0}
    query_only = fit_retrieval("two_tower", alone, TRAIN, shop.data, evaluate_every=1000).model
    impersonal = evaluate(query_only, shop.data, "test", (1,), progress=False)["recall@1"]
    questions = held_out(shop.data, "test")
    nothing = {k: np.zeros_like(v) for k, v in questions.context.items()}
    plain = evaluate(
        both, shop.data, questions=replace(questions, context=nothing), ks=(1,), progress=False
    )["recall@1"]
    assert found > 0.95
    assert impersonal < 0.5  # one chance in four, a little more where items were had before
    assert plain < 0.7  # three unseen items of the colour
    assert found > max(impersonal, plain) + 0.25


def test_no_query_is_an_empty_query_and_gives_the_users_colour(shop: Shop, both: Any) -> None:
    users = np.arange(1, shop.data.n_users + 1)
    lists = [both.recommend(asked(shop, users, query), 4)[0].numpy() for query in (None, "", " ")]
    np.testing.assert_array_equal(lists[0], lists[1])
    np.testing.assert_array_equal(lists[0], lists[2])
    own = np.array([colour_of(int(str(shop.data.user_ids[u])[1:])) for u in users])
    assert (shop.title_words(lists[0])[..., 0] == own[:, None]).mean() > 0.9


def test_an_unknown_user_with_a_query_gets_what_is_asked(shop: Shop, both: Any) -> None:
    for noun in NOUNS:
        told = {
            USER_ID: tf.constant([shop.data.n_users + 1], tf.int64),
            HISTORY: tf.zeros([1, 8], tf.int64),
            **shop.encoder({"query": tf.constant([noun])}),
        }
        found, _ = both.recommend(told, len(COLOURS))
        assert set(shop.title_words(found.numpy()[0])[:, 1]) == {noun}


def test_both_towers_hold_one_vector_a_word(shop: Shop) -> None:
    model = build("two_tower", shop.data, BOTH)
    tables = [v for v in model.trainable_variables if v.shape[0] == shop.data.sizes["title"]]
    assert len(tables) == 1
    with pytest.raises(ValueError, match="context_dropout is a share below 1"):
        build("two_tower", shop.data, {**BOTH, "context_dropout": 1.0})


def test_the_export_takes_the_query_and_is_measured_with_it(
    shop: Shop, both: Any, tmp_path: Path
) -> None:
    export_retrieval(both, shop.data, shop.encoder, tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    users = np.arange(1, 21)
    told = asked(shop, users, "ＬＡＭＰ!")
    expected, scores = both.recommend(told, 5)
    history = np.where(told[HISTORY] > 0, shop.data.item_ids[told[HISTORY].numpy()], "")
    given = {
        "user_id": tf.constant([str(u) for u in shop.data.user_ids[users]]),
        "history": tf.constant(history.astype(str)),
        "exclude": tf.constant([[""]] * len(users)),
        "k": tf.constant(5),
    }
    recommend = loaded.signatures["recommend"]
    out = recommend(**given, query=tf.constant(["ＬＡＭＰ!"] * len(users)))
    ids = shop.data.item_ids[expected.numpy()]
    np.testing.assert_array_equal(out["item_id"].numpy().astype(str), ids.astype(str))
    np.testing.assert_allclose(out["score"], scores, atol=1e-4)
    saved = evaluate_saved(tmp_path / "model", shop.tables, shop.splits, (1,))
    keras = evaluate(both, shop.data, "test", (1,), progress=False)
    assert saved["recall@1"] == pytest.approx(keras["recall@1"], abs=0.02)
    # Measured without the query, it would come to what plain recommendation does.
    blind = {**shop.splits, "test": shop.splits["test"].drop(["query"])}
    assert evaluate_saved(tmp_path / "model", shop.tables, blind, (1,))["recall@1"] < 0.8


def test_the_ranker_sees_how_well_query_and_title_fit(shop: Shop, tmp_path: Path) -> None:
    ranking = RankingConfig(
        model="deep",
        negatives=8,
        history_length=8,
        params={"hidden": [32], "deep_learning_rate": 0.05, "dots": True},
        train=TrainConfig(epochs=12, batch_size=256, patience=0),
    )
    model = fit_ranking(ranking, shop.data).model
    assert evaluate_ranking(model, shop.data, "test")["auc"] > 0.95
    deep = model.deep
    assert deep.texts["query"] is deep.texts["title"]
    export_ranking(model, shop.data, shop.encoder, tmp_path / "ranker")
    loaded = tf.saved_model.load(str(tmp_path / "ranker"))
    items = [f"{colour}-{noun}" for noun in NOUNS for colour in COLOURS]
    for noun in NOUNS:
        scores = loaded.signatures["rank"](
            user_id=tf.constant(["nobody"] * len(items)),
            item_id=tf.constant(items),
            history=tf.constant([[""]] * len(items)),
            query=tf.constant([noun] * len(items)),
        )["score"].numpy()
        best = np.argsort(-scores)[: len(COLOURS)]
        assert {items[i].split("-")[1] for i in best} == {noun}
