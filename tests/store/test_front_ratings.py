"""A rating model behind the store: it is told how the user rated the items of the history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from serving.client import Client
from serving.filling import Spec
from serving.options import Options
from serving.server import Server
from tests.tables import FEATURES, small_tables
from tfrec.config import TrainConfig
from tfrec.config.store import StoreConfig
from tfrec.export.rating import export_rating
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.store import HISTORIES, HISTORY_SCHEMA, open_store
from tfrec.store.front import StoreFiller
from tfrec.training.rating import fit_rating

HISTORY, RATINGS = ["i1", "i3", "i6"], [5.0, 1.0, 4.0]
TEXT, NUMBER = np.dtype(object), np.dtype(np.float32)
WIDE = (None, None)


@pytest.fixture
def config(tmp_path: Path) -> StoreConfig:
    """Two ratings of u1 come from a load, one is new."""
    config = StoreConfig(path=str(tmp_path / "s.lmdb"), map_size_gib=0.1)
    store = open_store(config)
    with store.begin("v1", {HISTORIES: HISTORY_SCHEMA}) as load:
        lists = {"item": [HISTORY[:2]], "time": [[1, 2]], "weight": [RATINGS[:2]]}
        load.put_many(HISTORIES, ["stranger"], lists)
        load.commit()
    store.append_history(["stranger"], HISTORY[2:], [3], RATINGS[2:])
    store.close()
    return config


@pytest.fixture
def filler(config: StoreConfig) -> Iterator[StoreFiller]:
    filler = StoreFiller(open_store(config))
    yield filler
    filler.close()


def model(folder: Path) -> None:
    """A small factorization: it folds a stranger in by the ratings of the history."""
    splits, users, items = small_tables()
    random = np.random.default_rng(3)
    for name, table in splits.items():
        weights = pa.array(random.integers(1, 6, table.num_rows).astype(np.float32))
        splits[name] = table.set_column(table.column_names.index("weight"), "weight", weights)
    encoder = fit_encoder(splits["train"], users, items, FEATURES, folder / "statistics", 8)
    data = retrieval_data(splits, users, items, encoder)
    train = TrainConfig(epochs=2, batch_size=8, learning_rate=0.05, patience=0)
    params = {"dim": 2, "l2": 1.0}
    fitted = fit_rating("biased_mf", params, train, data, evaluate_every=2).model
    export_rating(fitted, data, encoder, folder / "mf" / "1")


def test_a_rating_model_is_told_the_ratings(tmp_path: Path, config: StoreConfig) -> None:
    model(tmp_path)
    loaded: Any = tf.saved_model.load(str(tmp_path / "mf" / "1"))
    asked = [f"i{i}" for i in range(20)]

    def direct(ratings: list[float]) -> np.ndarray:
        rows = len(asked)
        found = loaded.signatures["predict"](
            user_id=tf.constant(["stranger"] * rows),
            age=tf.constant([""] * rows),
            device=tf.constant([""] * rows),
            history=tf.constant([HISTORY] * rows),
            history_weight=tf.constant([ratings] * rows),
            item_id=tf.constant(asked),
        )
        return np.asarray(found["rating"])

    options = Options(
        port=0,
        model_name="mf",
        model_base_path=str(tmp_path / "mf"),
        input_filler="tfrec.store.front:open_filler",
        input_filler_options={"store": config.model_dump()},
    )
    with Server(options) as server:
        server.wait_until_available("mf", timeout=60)
        with Client(server.grpc_address, "mf", timeout=60) as client:
            inputs = {
                "user_id": np.array(["stranger"] * len(asked), object),
                "item_id": np.array(asked, object),
            }
            got = client.predict(inputs, "predict")["rating"]
    np.testing.assert_allclose(got, direct(RATINGS), rtol=1e-5)
    # They matter: other ratings of the same items give other answers.
    assert np.abs(got - direct([1.0, 5.0, 1.0])).max() > 1e-2


def test_ratings_lie_beside_their_items(filler: StoreFiller) -> None:
    missing = {"history": Spec(TEXT, WIDE), "history_weight": Spec(NUMBER, WIDE)}
    given = {"user_id": np.array([b"nobody", b"stranger", b""], object)}
    values, outcome, _ = filler.fill(given, missing, 3)
    assert outcome == "unknown"
    assert values["history"][1].tolist() == [b"i1", b"i3", b"i6", b""]
    np.testing.assert_array_equal(values["history_weight"][1], [*RATINGS, np.nan])
    assert np.isnan(values["history_weight"][[0, 2]]).all()
    assert values["history_weight"].dtype == np.float32


def test_stored_ratings_never_meet_a_history_of_the_request(filler: StoreFiller) -> None:
    user = {"user_id": np.array([b"stranger"], object)}
    own = {**user, "history": np.array([[b"i9"]], object)}
    values, _, _ = filler.fill(own, {"history_weight": Spec(NUMBER, WIDE)}, 1)
    assert values == {}
    rated = {**user, "history_weight": np.array([[3.0]], np.float32)}
    values, _, _ = filler.fill(rated, {"history": Spec(TEXT, WIDE)}, 1)
    assert values == {}
