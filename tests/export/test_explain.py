"""Explanations find the planted cause, and are exact where the model is linear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
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
    """Of a user and items without events nothing but the attributes can speak."""
    train = TrainConfig(epochs=25, batch_size=200, learning_rate=0.03, patience=0)
    params = {"factors": 4, "id_dropout": 0.5, "l2": 0.001, "history_length": 4}
    _, _, tables = exported("gmf", {**params, "fold_in_steps": 2}, train, tmp_path)
    explainer = Explainer(tmp_path / "model", tables)
    right, wrong = explainer.explain("fresh", "new even"), explainer.explain("fresh", "new odd")
    assert right.score > wrong.score
    (mine,) = [c for c in right.of("user") if c.name == "group"]
    (kind,) = right.of("item")
    assert (mine.shown, kind.name, kind.shown) == ("g0", "kind", "k0")
    assert mine.value > 0.5
    assert kind.value > 0.5
    assert next(c for c in wrong.of("user") if c.name == "group").value < -0.5
    assert wrong.of("item")[0].value < -0.5
