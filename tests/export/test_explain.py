"""Explanations find the planted cause, and are exact where the model is linear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from tfrec.cli import app
from tfrec.config import TrainConfig
from tfrec.data.tables import Tables, write_tables
from tfrec.export.explain import Explainer
from tfrec.export.retrieval import export_retrieval
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.schema import FeatureTable
from tfrec.training.fit import fit_retrieval

FEATURES = FeatureTable(
    features=[
        {"name": "group", "role": "user", "kind": "categorical", "dim": 4},
        {"name": "kind", "role": "item", "kind": "categorical", "dim": 4},
    ]
)


def planted(users: int = 40, items: int = 24) -> Tables:
    """Users of a group have items of its kind alone; half the users have tea and then milk.

    The user ``fresh`` and the items ``new even`` and ``new odd`` have attributes and no event.
    """
    rng = np.random.default_rng(0)
    rows = []
    for user in range(users):
        liked = [f"i{i}" for i in range(items) if (user + i) % 2 == 0]
        mine = rng.choice(liked, 6, replace=False).tolist()
        mine += ["tea", "milk"] if user < users // 2 else []
        rows += [(f"u{user}", item, t) for t, item in enumerate(mine)]
    user_ids, item_ids, times = (list(column) for column in zip(*rows, strict=True))
    names = [*(f"i{i}" for i in range(items)), "tea", "milk", "new even", "new odd"]
    return Tables(
        pa.table(
            {
                "user_id": user_ids,
                "item_id": item_ids,
                "event": ["purchase"] * len(rows),
                "weight": pa.array(np.ones(len(rows), np.float32)),
                "timestamp": pa.array(times, pa.int64()),
            }
        ),
        pa.table(
            {
                "user_id": [*(f"u{u}" for u in range(users)), "fresh"],
                "group": [*(f"g{u % 2}" for u in range(users)), "g0"],
            }
        ),
        pa.table(
            {
                "item_id": names,
                "title": [f"The {n}" for n in names],
                "kind": [*(f"k{i % 2}" for i in range(items)), None, None, "k0", "k1"],
            }
        ),
    )


def exported(name: str, params: dict, train: TrainConfig, folder: Path):  # type: ignore[no-untyped-def, type-arg]
    tables = planted()
    empty = tables.interactions.slice(0, 0)
    splits = {"train": tables.interactions, "eval": empty, "test": empty}
    encoder = fit_encoder(
        splits["train"], tables.users, tables.items, FEATURES, folder / "statistics", 10
    )
    data = retrieval_data(splits, tables.users, tables.items, encoder)
    model = fit_retrieval(name, params, train, data).model
    export_retrieval(model, data, encoder, folder / "model" / "1")
    write_tables(tables, folder / "tables")
    return model, data, tables


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("ease")
    return *exported("ease", {"l2": 2.0}, TrainConfig(), folder), folder


def test_a_linear_model_is_explained_exactly(linear) -> None:  # type: ignore[no-untyped-def]
    model, data, tables, folder = linear
    history = ["i0", "tea", "i4", "tea"]
    found = Explainer(folder / "model", tables).explain("u0", "milk", history)
    index = {item: i - 1 for i, item in enumerate(data.item_ids)}
    weights = model.item_item.numpy()[:, index["milk"]]
    parts = {c.name: c for c in found.of("history")}
    assert set(parts) == {"i0", "tea", "i4"}
    for item, part in parts.items():
        assert part.value == pytest.approx(weights[index[item]], abs=1e-5)
    assert found.additive
    assert found.score == pytest.approx(sum(c.value for c in parts.values()), abs=1e-5)
    assert found.contributions[0].name == "tea"
    assert (found.contributions[0].shown, found.title) == ("The tea", "The milk")
    assert found.empty == pytest.approx(0.0, abs=1e-6)
    # What the model does not read does nothing.
    assert {c.name: c.value for c in found.of("user")} == pytest.approx(
        {"user_id": 0.0, "group": 0.0}
    )
    assert found.of("item") == []


def test_history_comes_from_the_tables_without_the_item_itself(linear) -> None:  # type: ignore[no-untyped-def]
    _, _, tables, folder = linear
    found = Explainer(folder / "model", tables).explain("u3", "milk")
    log = tables.interactions.filter(pa.compute.equal(tables.interactions.column("user_id"), "u3"))
    mine = set(log.column("item_id").to_pylist())
    assert {c.name for c in found.of("history")} == mine - {"milk"}
    assert found.events == len(mine) - 1
    with pytest.raises(ValueError, match="does not know item 'beer'; add it with 'tfrec index add"):
        Explainer(folder / "model", tables).explain("u3", "beer")
    nobody = Explainer(folder / "model", tables).explain("nobody", "milk")
    assert (nobody.events, nobody.additive) == (0, False)


def test_the_command_prints_the_cause(linear) -> None:  # type: ignore[no-untyped-def]
    folder = linear[3]
    arguments = ["--model", str(folder / "model"), "--data", str(folder / "tables"), "-n", "2"]
    ran = CliRunner().invoke(app, ["explain", "u1", "milk", *arguments])
    assert ran.exit_code == 0, ran.output
    assert "The tea" in ran.output
    assert "each is the item's exact share" in ran.output
    assert "smaller ones" in ran.output
    ran = CliRunner().invoke(app, ["explain", "u1", "beer", *arguments])
    assert ran.exit_code == 2


def test_attributes_that_decide_are_named(tmp_path: Path) -> None:
    """Of a user and items without events nothing but the attributes can speak.

    A pair whose kinds differ is never observed, so its logit falls without bound; of those that
    agree about 6 are observed for some 10 drawn as negatives (a user has 6 of 12, and 4 negatives
    are drawn for each of 8 events from the 20 other items), so their logit stays near
    log(6 / 10), not far from the bias alone. So the group speaks loudly against the odd item, and
    it need not speak loudly for the even one.
    """
    train = TrainConfig(epochs=25, batch_size=200, learning_rate=0.03, patience=0)
    params = {"factors": 4, "id_dropout": 0.5, "l2": 0.001, "history_length": 4}
    model, data, tables = exported("gmf", {**params, "fold_in_steps": 2}, train, tmp_path)
    explainer = Explainer(tmp_path / "model", tables)
    right, wrong = explainer.explain("fresh", "new even"), explainer.explain("fresh", "new odd")

    def of_model(item: str, group: bool, kind: bool) -> float:
        """The Keras model's score, with the attributes there or missing."""
        user = list(data.user_ids).index("fresh")
        at = list(data.item_ids).index(item)
        told = {
            "user_id": tf.constant([user], tf.int64),
            "group": tf.constant([data.users["group"][user] * group], tf.int64),
        }
        described = {
            "item_id": tf.constant([at], tf.int64),
            "kind": tf.constant([data.items["kind"][at] * kind], tf.int64),
        }
        return float(model.score_described(told, described)[0])

    for found in (right, wrong):
        everything = of_model(found.item, True, True)
        (mine,) = [c for c in found.of("user") if c.name == "group"]
        (kind,) = found.of("item")
        assert (mine.shown, kind.name, kind.shown) == (
            "g0",
            "kind",
            "k0" if found is right else "k1",
        )
        assert found.score == pytest.approx(everything, abs=1e-4)
        without = of_model(found.item, False, True)
        assert mine.value == pytest.approx(everything - without, abs=1e-4)
        assert kind.value == pytest.approx(everything - of_model(found.item, True, False), abs=1e-4)
    against = next(c for c in wrong.of("user") if c.name == "group").value
    speaks = next(c for c in right.of("user") if c.name == "group").value
    assert against < -1.0
    assert wrong.of("item")[0].value < -1.0
    assert speaks > against + 1.0
    assert wrong.contributions[0].name in ("group", "kind")
