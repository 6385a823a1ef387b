"""Warm start: rows follow their raw ids, new ids start from content, misfits are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.tables import small_data
from tfrec.config import ConfigError, TrainConfig, load_config
from tfrec.models.registry import build
from tfrec.schema import ITEM_ID, USER_ID
from tfrec.training.fit import fit_retrieval
from tfrec.training.warm_start import Base, named_weights, warm_start, write_manifest

MODELS: dict[str, dict[str, Any]] = {
    "two_tower": {"dim": 8, "history_length": 8, "user_hidden": [6]},
    "gmf": {"factors": 4},
    "mf_bpr": {"dim": 4},
    "item2vec": {"dim": 4, "attributes": True},
}


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Yesterday's and today's data with their encoders: other counts, so another order; new ids."""
    folder = tmp_path_factory.mktemp("days")
    yesterday = small_data(folder / "yesterday")
    today = small_data(folder / "today", users=34, items=23, seed=5)
    assert list(yesterday[0].item_ids) != list(today[0].item_ids)[: len(yesterday[0].item_ids)]
    return yesterday, today


def saved(name: str, day, folder: Path, params: dict[str, Any] | None = None) -> Any:  # type: ignore[no-untyped-def]
    """A model with random weights, saved as an export saves them (without its signatures)."""
    data, encoder = day
    model = build(name, data, params or MODELS[name])
    rng = np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    module = tf.Module()
    module.weights = list(model.weights)
    tf.saved_model.save(module, str(folder))
    write_manifest(folder, model, encoder.vocabulary)
    return model


@pytest.mark.parametrize("name", sorted(MODELS))
def test_rows_follow_their_raw_values(name: str, days, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    yesterday, (data, encoder) = days
    old = saved(name, yesterday, tmp_path)
    model = build(name, data, MODELS[name])
    found = warm_start(model, data, Base(tmp_path, encoder.vocabulary))
    assert found.kept[ITEM_ID] == 20
    assert found.new[ITEM_ID] == 3
    assert (found.fresh, found.dropped) == ((), ())
    before, after = named_weights(old), named_weights(model)
    assert set(before) == set(after)
    checked = set()
    for weight, (_, variable, rows) in after.items():
        was, now = before[weight][1].numpy(), variable.numpy()
        if rows is None:
            np.testing.assert_array_equal(was, now)
            continue
        then = list(yesterday[1].vocabulary(rows))
        for index, value in enumerate(encoder.vocabulary(rows)):
            if value in then:
                np.testing.assert_array_equal(now[index], was[then.index(value)])
                checked.add((rows, value))
    assert (ITEM_ID, "i7") in checked
    if name == "gmf":
        assert {("age", "a2"), ("genres", "g1"), (USER_ID, "u3")} < checked


def test_new_ids_start_from_what_shares_their_values(days, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Against loops: the mean over an item's values of the mean of known items with the value."""
    yesterday, (data, encoder) = days
    old = saved("gmf", yesterday, tmp_path)
    model = build("gmf", data, MODELS["gmf"])
    warm_start(model, data, Base(tmp_path, encoder.vocabulary))
    rows = {v: old.parts[0].items.numpy()[i] for i, v in enumerate(yesterday[0].item_ids) if i}
    values = {}
    for index, item in enumerate(data.item_ids):
        mine = {("genres", v) for v in data.items["genres"][index]}
        mine |= {("title", v) for v in data.items["title"][index]}
        values[item] = {(f, v) for f, v in mine if v > 0}
    new = [i for i in data.item_ids[1:] if i not in rows]
    assert len(new) == 3
    for item in new:
        means = []
        for value in values[item]:
            sharing = [rows[i] for i in rows if value in values[i]]
            if sharing:
                means.append(np.mean(sharing, axis=0))
        index = list(data.item_ids).index(item)
        np.testing.assert_allclose(
            model.parts[0].items.numpy()[index], np.mean(means, axis=0), atol=1e-5
        )


def test_where_features_stand_alone_new_ids_start_at_nothing(days, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    yesterday, (data, encoder) = days
    params = {**MODELS["gmf"], "id_dropout": 0.2}
    saved("gmf", yesterday, tmp_path, params)
    model = build("gmf", data, params)
    warm_start(model, data, Base(tmp_path, encoder.vocabulary))
    new = [i for i, v in enumerate(data.item_ids) if i and v not in yesterday[0].item_ids]
    assert np.abs(model.parts[0].items.numpy()[new]).max() == 0


def test_training_goes_on_from_there(days, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (data, encoder), _ = days
    old = saved("mf_bpr", days[0], tmp_path)
    still = TrainConfig(epochs=1, batch_size=64, learning_rate=1e-9, patience=0)
    base = Base(tmp_path, encoder.vocabulary)
    result = fit_retrieval("mf_bpr", MODELS["mf_bpr"], still, data, base=base)
    assert result.warm is not None
    assert result.warm.lines()[0] == f"warm start from {tmp_path}"
    assert "item_id: 20 rows kept, 0 new" in result.warm.lines()[1]
    users = {USER_ID: tf.range(1, 5, dtype=tf.int64)}
    np.testing.assert_allclose(
        result.model.score_catalogue(users), old.score_catalogue(users), atol=1e-4
    )
    assert fit_retrieval("mf_bpr", MODELS["mf_bpr"], still, data).warm is None


def test_neumf_is_not_pre_trained_again(days, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    day = days[0]
    params = {"factors": 2, "layers": 2, "pretrain_epochs": 1}
    saved("neumf", day, tmp_path, params)
    model = build("neumf", day[0], params)
    assert len(model._stages()) == 2
    warm_start(model, day[0], Base(tmp_path, day[1].vocabulary))
    assert model._stages() == []


def test_neumf_without_training_on_is_not_warm_started(days, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """All that a warm start trains is the joint model: without that, new rows stay random."""
    day = days[0]
    params = {"factors": 2, "layers": 2, "pretrain_epochs": 1, "finetune": "none"}
    saved("neumf", day, tmp_path, params)
    with pytest.raises(ValueError, match="set finetune: sgd or adam"):
        warm_start(build("neumf", day[0], params), day[0], Base(tmp_path, day[1].vocabulary))


def test_a_new_feature_starts_at_random_and_the_rest_is_kept(days, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data, encoder = days[0]
    saved("gmf", days[0], tmp_path, {**MODELS["gmf"], "attributes": False})
    model = build("gmf", data, MODELS["gmf"])
    found = warm_start(model, data, Base(tmp_path, encoder.vocabulary))
    assert any("genres_table" in name for name in found.fresh)
    assert not any("item_table" in name for name in found.fresh)


def test_what_does_not_fit_is_refused(days, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data, encoder = days[0]
    base = Base(tmp_path / "model", encoder.vocabulary)
    saved("mf_bpr", days[0], base.folder)
    wider = build("mf_bpr", data, {"dim": 5})
    with pytest.raises(
        ValueError, match=r"the widths .* differ .*users was \[31, 4\], is \[31, 5\]"
    ):
        warm_start(wider, data, base)
    with pytest.raises(ValueError, match="is a BPR, today's model a GMF"):
        warm_start(build("gmf", data, MODELS["gmf"]), data, base)
    with pytest.raises(ValueError, match="EASE has no rows to keep"):
        warm_start(build("ease", data, {"l2": 1.0}), data, base)
    with pytest.raises(ValueError, match="cannot be started from"):
        warm_start(wider, data, Base(tmp_path, encoder.vocabulary))


def test_configured_paths_are_taken_from_the_files_folder(tmp_path: Path) -> None:
    text = "name: t\ndata: {format: synthetic}\nretrieval: {warm_start: %s}\n"
    (tmp_path / "c.yaml").write_text(text % "models/7")
    assert load_config(tmp_path / "c.yaml").retrieval.warm_start == str(tmp_path / "models" / "7")
    (tmp_path / "c.yaml").write_text(text % "latest")
    assert load_config(tmp_path / "c.yaml").retrieval.warm_start == "latest"
    (tmp_path / "c.yaml").write_text(text % "[1]")
    with pytest.raises(ConfigError, match=r"retrieval\.warm_start"):
        load_config(tmp_path / "c.yaml")
