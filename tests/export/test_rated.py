"""Errors of a SavedModel's predicted ratings against those of the live model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.tables import FEATURES, rated_tables, small_tables
from tfrec.config import TrainConfig
from tfrec.data.tables import Tables
from tfrec.evaluation.rated import evaluate_ratings, has_ratings, held_out_ratings
from tfrec.evaluation.report import print_table
from tfrec.export import inputs
from tfrec.export.batch import BatchRecommender
from tfrec.export.context import event_context
from tfrec.export.log import Log
from tfrec.export.measure import data_of_ids, evaluate_saved
from tfrec.export.rated import saved_errors
from tfrec.export.rating import export_rating, observe_known
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.training.rating import fit_rating

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "users": ("biased_mf", {"dim": 2, "l2": 1.0}),
    "items": ("autorec", {"by": "item", "hidden": [4], "l2": 1e-4}),
}


@pytest.fixture(scope="module", params=MODELS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("rated")
    splits, users, items = rated_tables()
    encoder = fit_encoder(splits["train"], users, items, FEATURES, folder / "statistics", 8)
    data = retrieval_data(splits, users, items, encoder)
    name, params = MODELS[request.param]
    model = fit_rating(name, params, TrainConfig(epochs=2), data).model
    observe_known(model, data)
    export_rating(model, data, encoder, folder / "model")
    tables = Tables(pa.concat_tables(splits.values()), users, items)
    return model, data, folder / "model", splits, tables


def test_errors_are_those_of_the_live_model(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, folder, splits, _ = made
    live = evaluate_ratings(model, data, "test")
    _, known = held_out_ratings(data, "test")
    recommender = BatchRecommender(folder, Log.from_encoded(data, known))
    context = event_context(splits["test"], data, "test")
    assert context.column_names == ["device"]
    found = saved_errors(recommender, data, "test", context)
    assert found == pytest.approx(live, abs=1e-5)
    assert found["n"] == 80
    # In calls of two pairs, by histories of 14 events.
    monkeypatch.setattr(inputs, "CELLS", 30)
    assert saved_errors(recommender, data, "test") == pytest.approx(live, abs=1e-5)


def test_evaluation_by_raw_ids_shows_them(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model, data, folder, splits, tables = made
    found = evaluate_saved(folder, tables, splits, (5,))
    live = evaluate_ratings(model, data, "test")
    assert found["rmse"] == pytest.approx(live["rmse"], abs=1e-5)
    assert found["mae"] == pytest.approx(live["mae"], abs=1e-5)
    print_table({"one": found})
    assert "rmse" in capsys.readouterr().out


def test_ratings_are_told_as_they_were_before(made: Any) -> None:
    """The history's ratings move the answer; the held-out ones are no input."""
    _, data, folder, *_ = made
    _, known = held_out_ratings(data, "test")
    log = Log.from_encoded(data, known)
    users, items = data.user_ids[data.test.user], data.item_ids[data.test.item]
    strangers = np.array(["nobody"] * len(users), object)
    told = BatchRecommender(folder, log).ratings(users, items)
    alone = BatchRecommender(folder, log).ratings(strangers, items)
    assert told.shape == (80,)
    assert np.abs(told - alone).max() > 0.5


def test_a_log_of_purchases_has_none() -> None:
    splits, users, items = small_tables()
    tables = Tables(pa.concat_tables(splits.values()), users, items)
    data = data_of_ids(tables, splits)
    assert not has_ratings(data, "test")
    with pytest.raises(ValueError, match=r"holds no ratings: the 30 events there .* weight 1"):
        held_out_ratings(data, "test")


def test_context_of_events_that_repeat() -> None:
    """A pair bought twice: each event has its own context, whatever the table's order."""
    splits, users, items = small_tables()
    twice = splits["test"].slice(0, 1)
    (row,) = twice.to_pylist()
    again = pa.Table.from_pylist([{**row, "timestamp": 99, "device": "tv"}], twice.schema)
    table = pa.concat_tables([again, twice])
    splits = {**splits, "test": table}
    data = data_of_ids(Tables(pa.concat_tables(splits.values()), users, items), splits)
    found = event_context(table, data, "test")
    assert found.column("device").to_pylist() == [row["device"], "tv"]
    with pytest.raises(ValueError, match="some are missing in its 1 rows"):
        event_context(twice, data, "test")
