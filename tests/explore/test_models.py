"""Real exported models behind the page: in this process and on a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from serving.options import Options
from serving.server import Server
from tests.export import recommender_parts
from tests.tables import small_tables
from tfrec import cli
from tfrec.cli.explore import ServedSource
from tfrec.data.tables import Tables, write_tables
from tfrec.explore.explorer import Explorer
from tfrec.explore.shop import Shop
from tfrec.explore.source import SavedModelSource

WEIGHTS = {"relevance": 2.0, "revenue": 0.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables, a retrieval model, a recommender made of it, both with a version folder."""
    folder = tmp_path_factory.mktemp("models")
    splits, users, items = small_tables()
    events = pa.concat_tables(splits.values())
    events = events.append_column("event", pa.array(["buy"] * events.num_rows))
    write_tables(Tables(events, users, items), folder / "tables")
    recommender_parts.write_models(folder)
    settings = recommender_parts.config(
        utility={"weights": WEIGHTS, "price": "price"},
        rerank={"method": "mmr", "trade_off": 0.0},
    )
    (folder / "recommender").mkdir()
    recommender_parts.write_recommender(folder, settings, folder / "recommender" / "7")
    return folder


@pytest.fixture(scope="module")
def shop(made: Path) -> Shop:
    return Shop(made / "tables")


@pytest.fixture(scope="module")
def recommender(made: Path) -> SavedModelSource:
    return SavedModelSource(made / "recommender")


def test_the_recommenders_offer_is_read_from_its_signature(
    recommender: SavedModelSource, shop: Shop
) -> None:
    explorer = Explorer([recommender], shop)
    offer = explorer.offers[0]
    knobs = {knob.name: knob for knob in offer.knobs}
    # The signature says NaN; asking tells the configured weights.
    assert knobs["weight_relevance"].default == pytest.approx(2.0)
    assert knobs["weight_revenue"].default == 0.0
    assert knobs["trade_off"].default is None
    assert offer.parts == ("part_relevance", "part_revenue")
    assert offer.details == ("relevance",)
    genres = next(c for c in offer.choices if c.name == "among_genres")
    assert {value for value, _ in genres.values} == {"g0", "g1", "g2"}
    assert {(f.name, f.of) for f in offer.fields} >= {("age", "user"), ("device", "context")}
    assert recommender.label == "recommender/7"


def test_revenue_is_told_although_its_weight_is_0(
    recommender: SavedModelSource, shop: Shop
) -> None:
    explorer = Explorer([recommender], shop)
    (model,) = explorer.recommend(explorer.parse([("user_id", "u2"), ("k", "5")]))["models"]
    assert len(model["rows"]) == 5
    # Without calibration the chance is the ranker's score; an item without a price adds nothing.
    expected = sum(row["details"]["relevance"] * row.get("price", 0.0) for row in model["rows"])
    assert model["measures"]["revenue"] == pytest.approx(expected, rel=1e-3)
    had = {event["item_id"] for event in shop.history("u2")}
    assert not had & {row["item_id"] for row in model["rows"]}
    # A weight turns the list towards what is dear, and the gain over the defaults is told.
    wish = explorer.parse([("user_id", "u2"), ("k", "5"), ("weight_revenue", "5")])
    (turned,) = explorer.recommend(wish)["models"]
    assert turned["measures"]["revenue"] > turned["defaults"]["revenue"]
    assert turned["defaults"]["revenue"] == pytest.approx(expected, rel=1e-3)
    scores = [sum(row["parts"].values()) for row in turned["rows"]]
    np.testing.assert_allclose(scores, [row["score"] for row in turned["rows"]], rtol=1e-4)


def test_narrowed_by_a_choice(recommender: SavedModelSource, shop: Shop) -> None:
    explorer = Explorer([recommender], shop)
    wish = explorer.parse([("among_genres", "g2"), ("k", "4")])
    (model,) = explorer.recommend(wish)["models"]
    assert len(model["rows"]) == 4
    for row in model["rows"]:
        assert "g2" in (shop.about(row["item_id"]) or {})["genres"]


def test_a_plain_model_beside_it_tells_what_is_similar(
    made: Path, recommender: SavedModelSource, shop: Shop
) -> None:
    plain = SavedModelSource(made / "retrieval", "plain")
    explorer = Explorer([recommender, plain], shop)
    wish = explorer.parse([("user_id", "u2"), ("weight_revenue", "1")])
    answer = explorer.recommend(wish)
    first, second = answer["models"]
    assert first["ignored"] == []
    assert second["ignored"] == ["weight_revenue"]
    assert answer["overlap"]["shared"] == len(
        {r["item_id"] for r in first["rows"]} & {r["item_id"] for r in second["rows"]}
    )
    similar = explorer.item("i4")["similar"]
    assert [entry["label"] for entry in similar] == ["plain"]
    assert "i4" not in [row["item_id"] for row in similar[0]["rows"]]
    with pytest.raises(ValueError, match="asked of a signature 'similar'"):
        Explorer([plain], shop, similar=recommender)


def test_served_models_answer_the_same(
    made: Path, recommender: SavedModelSource, shop: Shop
) -> None:
    options = Options(
        port=0, host="127.0.0.1", model_name="shop", model_base_path=str(made / "recommender")
    )
    with Server(options) as server:
        server.wait_until_available("shop", timeout=60)
        served = ServedSource(server.grpc_address, "shop@7", 20.0)
        assert served.label == "shop@7"
        pairs = [("user_id", "u2"), ("weight_revenue", "3")]
        lists = []
        for source in (served, recommender):
            explorer = Explorer([source], shop)
            rows = explorer.recommend(explorer.parse(pairs))["models"][0]["rows"]
            lists.append([(row["item_id"], round(row["score"], 3)) for row in rows])
        assert lists[0] == lists[1]
        with pytest.raises(ValueError, match="NOT_FOUND"):
            ServedSource(server.grpc_address, "nothing", 20.0)
    with pytest.raises(ConnectionError, match="shop@7"):
        served.ask("recommend", {"user_id": np.array(["u2"], object)})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "either --model FOLDER"),
        (["--model", "a", "--address", "localhost:1"], "either --model FOLDER"),
        (["--model", "nowhere"], "holds no SavedModel"),
        (["--address", "localhost:1", "--name", "a@b"], "NAME@VERSION"),
    ],
)
def test_the_command_tells_what_is_wrong(made: Path, words: list[str], told: str) -> None:
    result = CliRunner().invoke(cli.app, ["explore", "--data", str(made / "tables"), *words])
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())
