"""The rooms of the explorer one by one, against answers worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.explore.fake import FakeRecommender, FakeRetrieval
from tfrec.data.tables import DataError, Tables, write_tables
from tfrec.explore import measures
from tfrec.explore.answer import Answer, read_answer
from tfrec.explore.explorer import Explorer, told
from tfrec.explore.inputs import recommend_inputs, strings
from tfrec.explore.offer import offer_of
from tfrec.explore.probe import ratio
from tfrec.explore.server import bind, is_loopback
from tfrec.explore.shop import Shop, content_type
from tfrec.explore.source import ArraySpec, ModelSignature
from tfrec.explore.wish import Wish


def answer(**changes: object) -> Answer:
    plain = Answer(["a", "b"], None, np.array([3.0, 1.0]), {}, {}, None, False)
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_importing_starts_neither_tensorflow_nor_a_web_framework() -> None:
    code = (
        "import sys, tfrec.explore.explorer, tfrec.cli;"
        "print([m for m in ('tensorflow', 'starlette', 'uvicorn') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# -- offer -----------------------------------------------------------------------------------------


def test_the_offer_follows_the_signature(tables: Tables, shop: Shop) -> None:
    offer = offer_of(FakeRecommender(tables), shop, {"weight_revenue": 0.5})
    knobs = {k.name: (k.kind, k.default, k.high) for k in offer.knobs}
    assert knobs == {
        "weight_purchase": ("weight", None, 4.0),
        "weight_revenue": ("weight", 0.5, 2.0),
        "trade_off": ("trade_off", None, 1.0),
    }
    assert offer.parts == ("part_purchase", "part_revenue")
    assert offer.details == ("relevance",)
    assert {(f.name, f.of) for f in offer.fields} == {("region", "user"), ("query", "context")}
    values = dict(offer.choices[0].values)
    assert sum(values.values()) == 60
    plain = offer_of(FakeRetrieval(tables), shop)
    assert (plain.knobs, plain.choices, plain.fields, plain.parts) == ((), (), (), ())


def test_a_model_without_recommend_is_refused(tables: Tables, shop: Shop) -> None:
    ranker = FakeRetrieval(tables)
    ranker.signatures = {"rank": ranker.signatures["recommend"]}
    with pytest.raises(ValueError, match=r"'recommend'; this model has \['rank'\]"):
        Explorer([ranker], shop)
    with pytest.raises(ValueError, match="two different ones"):
        Explorer([FakeRetrieval(tables), FakeRetrieval(tables)], shop)


def test_the_models_own_weights_are_found_by_asking(tables: Tables, shop: Shop) -> None:
    explorer = Explorer([FakeRecommender(tables)], shop)
    defaults = {k.name: k.default for k in explorer.offer.knobs}
    assert defaults == {"weight_purchase": 20.0, "weight_revenue": 1.0, "trade_off": None}


def test_a_ratio_needs_items_that_agree() -> None:
    assert ratio({"a": 6.0, "b": 3.0}, {"a": 2.0, "b": 1.0, "c": 5.0}) == 3.0
    assert ratio({"a": 0.0}, {"a": 2.0}) == 0.0
    assert ratio({"a": 6.0, "b": 4.0}, {"a": 2.0, "b": 1.0}) is None
    assert ratio({"a": 6.0}, {"b": 2.0}) is None
    assert ratio({"a": 0.0}, {"a": 0.0}) is None


# -- inputs and answers ----------------------------------------------------------------------------


def test_inputs_are_all_there_and_typed_values_go_before_the_tables() -> None:
    specs = {
        "user_id": ArraySpec("string", (None,)),
        "history": ArraySpec("string", (None, 2)),
        "exclude": ArraySpec("string", (None, None)),
        "k": ArraySpec("int32", (None,)),
        "age": ArraySpec("string", (None,)),
        "income": ArraySpec("float32", (None,)),
        "taste": ArraySpec("float32", (None, 2)),
        "tags": ArraySpec("string", (None, None)),
        "now": ArraySpec("int64", (None,)),
        "weight_revenue": ArraySpec("float32", (None,)),
    }
    signature = ModelSignature(specs, {}, {"now": np.array([0], np.int64)})
    wish = Wish(user="u1", exclude=("z",), k=3, fields={"age": "old", "tags": ("x", "y")})
    facts = {"age": "young", "income": 2.5, "taste": [1.0, 2.0]}
    got = recommend_inputs(signature, wish, ["a", "b", "c"], facts)
    assert got["user_id"].tolist() == ["u1"]
    assert got["history"].tolist() == [["b", "c"]]
    assert got["exclude"].tolist() == [["z", "a", "b", "c"]]
    assert (got["k"].tolist(), got["k"].dtype) == ([3], np.int32)
    assert (got["age"].tolist(), got["tags"].tolist()) == (["old"], [["x", "y"]])
    assert (got["income"].tolist(), got["taste"].tolist()) == ([2.5], [[1.0, 2.0]])
    assert got["now"].tolist() == [0]
    assert np.isnan(got["weight_revenue"]).all()
    again = recommend_inputs(signature, replace(wish, seen=True), ["a"], {})
    assert again["exclude"].tolist() == [["z"]]
    assert np.isnan(again["taste"]).tolist() == [[True, True]]
    assert strings([], specs["exclude"]).tolist() == [[""]]
    with pytest.raises(ValueError, match="takes 2 numbers; the users table has 3"):
        recommend_inputs(signature, wish, [], {"taste": [1.0, 2.0, 3.0]})


def test_empty_places_are_left_out() -> None:
    outputs = {
        "item_id": np.array([[b"a", b"", b"\xc3\xa9"]], object),
        "score": np.array([[2.0, -np.inf, 1.0]], np.float32),
        "part_click": np.array([[2.0, 0.0, np.nan]], np.float32),
        "source": np.array([[b"popular", b"", b"similar"]], object),
        "fallback": np.array([True]),
    }
    found = read_answer(outputs, ["part_click"])
    assert (found.items, found.sources, found.fallback) == (["a", "é"], ["popular", "similar"], 1)
    assert found.parts["click"].tolist() == [2.0, 0.0]
    assert found.titles is None
    assert (found.relaxed, told(found)) == ({}, [])  # it says no more than that it is one


def test_what_gave_way_is_told_in_sentences() -> None:
    rules = ["max_per_group.style", "exclude_seen", "among_category", "among_seller", "own"]
    outputs = {
        "item_id": np.array([[b"a", b"b"]], object),
        "score": np.array([[2.0, 1.0]], np.float32),
        "source": np.array([[b"popular", b"similar"]], object),
        "fallback": np.array([True]),
        "rule": np.array([[rule.encode() for rule in rules]], object),
        "relaxed": np.array([[1, 2, 2, 0, 1]], np.int32),
    }
    found = read_answer(outputs, [])
    assert found.relaxed == {
        "max_per_group.style": 1,
        "exclude_seen": 2,
        "among_category": 2,
        "own": 1,
    }
    assert told(found) == [
        "The limit on style could not be kept: 1 item beyond it.",
        "Nothing else is left: 2 items that the user had.",
        "Nothing passes the choice of category: 2 items outside it.",
        "The rule own gave way for 1 item.",
    ]


# -- measures --------------------------------------------------------------------------------------


def test_revenue_by_what_there_is() -> None:
    price = np.array([10.0, np.nan])
    chance = {"p_purchase": np.array([0.2, 0.5])}
    assert measures.revenue(answer(details=chance), price, {}) == (
        pytest.approx(2.0),
        "sum of p_purchase x price",
    )
    shares = {"revenue": np.array([2.0, 0.5]), "click": np.array([1.0, 0.5])}
    found = measures.revenue(answer(parts=shares), price, {"revenue": 0.5})
    assert found == (5.0, "sum of the part revenue, over its weight")
    # Parts that do not add up to the score carry no weight.
    raw = {"revenue": np.array([7.0, 7.0])}
    assert measures.revenue(answer(parts=raw), price, {"revenue": 0.5}) == (
        14.0,
        "sum of the part revenue",
    )
    bought = {"purchase": np.array([3.0, 1.0])}
    found = measures.revenue(answer(parts=bought), price, {"purchase": 10.0})
    assert found is not None
    assert found[0] == pytest.approx(0.3 * 10)
    assert measures.revenue(answer(parts=bought), price, {"purchase": None}) is None
    assert measures.revenue(answer(), price, {}) is None


def test_diversity_against_all_pairs(shop: Shop) -> None:
    items = [f"i{n}" for n in (3, 8, 20, 31, 44)]
    for column in ("category", "categories", "style"):
        marks = measures.marks(shop, items, column)
        cosines = [
            a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in combinations(marks.astype(float), 2)
        ]
        assert measures.diversity(marks) == pytest.approx(1 - np.mean(cosines))
    assert measures.diversity(np.ones((1, 3))) is None
    assert measures.diversity(np.zeros((2, 3))) == 1.0
    assert measures.marks(shop, ["nothing", "i3"], "category")[0].sum() == 0


def test_columns_for_diversity_are_groups_not_names(shop: Shop) -> None:
    columns = measures.mixing_columns(
        pa.table(
            {
                "item_id": [f"i{n}" for n in range(2000)],
                "title": [f"thing {n}" for n in range(2000)],
                "same": ["x"] * 2000,
                "style": ["a", "b"] * 1000,
                "genres": [["g", "h"], ["g"]] * 1000,
                "vector": pa.array([[1.0, 2.0]] * 2000, pa.list_(pa.float32())),
            }
        )
    )
    assert columns == ["genres", "style", "vector"]


def test_overlap_of_two_lists() -> None:
    assert measures.overlap(["a", "b", "c"], ["c", "b", "x"]) == {
        "shared": 2,
        "jaccard": 0.5,
        "mean_move": 1.0,
    }
    assert measures.overlap(["a"], ["b"])["mean_move"] is None
    assert measures.overlap([], [])["jaccard"] == 0.0


# -- shop ------------------------------------------------------------------------------------------


def test_history_is_the_logs_in_time_order(shop: Shop, tables: Tables) -> None:
    rows = [r for r in tables.interactions.to_pylist() if r["user_id"] == "u5"]
    rows.sort(key=lambda r: r["timestamp"])
    assert [e["item_id"] for e in shop.history("u5")] == [r["item_id"] for r in rows]
    assert shop.history("nobody") == []
    assert shop.knows_user("u5")
    assert not shop.knows_user("nobody")


def test_searching_users(shop: Shop) -> None:
    assert all(u["user_id"].startswith("u1") for u in shop.find_users("U1", limit=5))
    assert shop.find_users("u1")[0]["user_id"] == "u1"
    assert all("9" in u["user_id"] for u in shop.find_users("9"))
    events = [u["events"] for u in shop.find_users("", limit=40)]
    assert events == sorted(events, reverse=True)
    assert len(events) == 40


def test_searching_items(shop: Shop) -> None:
    kite = next(t for t in shop.titles if "kite" in t)
    words = kite.upper().split()[:3][::-1]
    assert kite in [i["title"] for i in shop.find_items(" ".join(words), limit=60)]
    assert shop.find_items("no such thing") == []
    # Letters that mean something to a pattern are letters here.
    assert shop.find_items(".*") == []
    assert shop.find_items("i9")[0]["item_id"] == "i9"


def test_images_are_read_from_any_group(tables: Tables, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    write_tables(tables, tmp_path / "t")
    pq.write_table(tables.items, tmp_path / "t" / "items.parquet", row_group_size=7)
    shop = Shop(tmp_path / "t")
    for item in ("i0", "i6", "i7", "i59", "i3"):
        row = tables.items.column("item_id").to_pylist().index(item)
        assert shop.picture(item) == (tables.items.column("image")[row].as_py(), "image/png")
    assert shop.picture("nothing") is None


def test_only_pictures_are_shown_as_pictures() -> None:
    assert content_type(b"\xff\xd8\xff\xe0....") == "image/jpeg"
    assert content_type(b"GIF89a...") == "image/gif"
    assert content_type(b"RIFF\x00\x00\x00\x00WEBPVP8 ") == "image/webp"
    assert content_type(b"<svg onload=alert(1)>") is None
    assert content_type(b"RIFF\x00\x00\x00\x00WAVE") is None


def test_a_column_that_is_not_there(folder: Path) -> None:
    with pytest.raises(DataError, match=r"the price column .* got 'cost'"):
        Shop(folder, price="cost")
    with pytest.raises(DataError, match=r"the image column .* \['image'\]; got 'title'"):
        Shop(folder, image="title")


# -- server ----------------------------------------------------------------------------------------


def test_loopback_is_told_from_the_world() -> None:
    assert all(is_loopback(h) for h in ("localhost", "127.0.0.1", "127.9.9.9", "::1"))
    assert not any(is_loopback(h) for h in ("0.0.0.0", "::", "10.0.0.1", "shop.example"))


def test_a_taken_port_is_told() -> None:
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"127\.0\.0\.1:{port} cannot be had"):
            bind("127.0.0.1", port)
