"""Encoding: every kind, every layout, missing values; Arrow's vocabularies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tables import FEATURES, small_data, small_tables
from tfrec.features.encode import dense_numbers, dense_strings, recent
from tfrec.features.encoder import parse_examples, raw_specs
from tfrec.features.fit import encode_table, fit_encoder
from tfrec.features.fitted import number_statistics, order_vocabulary
from tfrec.schema import Feature, FeatureTable


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    return small_data(tmp_path_factory.mktemp("statistics"))[1]


def test_layouts_agree() -> None:
    ragged = tf.ragged.constant([["a", "b"], [], ["c"]])
    expected = [["a", "b", ""], ["", "", ""], ["c", "", ""]]
    for values in (ragged, ragged.to_sparse(), ragged.to_tensor("")):
        assert dense_strings(values, 3).numpy().astype(str).tolist() == expected
        assert dense_strings(values, None).numpy().astype(str).tolist() == ["a", "", "c"]
    assert dense_strings(tf.constant([1, 2]), None).numpy().tolist() == [b"1", b"2"]


def test_absent_numbers_are_nan() -> None:
    sparse = tf.SparseTensor([[0, 0], [2, 0]], [1.5, 0.0], [3, 1])
    np.testing.assert_array_equal(dense_numbers(sparse), [1.5, np.nan, 0.0])
    np.testing.assert_array_equal(dense_numbers(tf.ragged.constant([[2], []])), [2.0, np.nan])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1), st.integers(1, 9))
def test_recent_keeps_the_last_present_ones(rows: list[list[int]], width: int) -> None:
    found = recent(tf.constant(rows, tf.int64), width).numpy()
    for row, kept in zip(rows, found, strict=True):
        expected = [v for v in row if v][-width:]
        assert kept.tolist() == expected + [0] * (width - len(expected))


def test_every_kind(encoder) -> None:  # type: ignore[no-untyped-def]
    out = encoder(
        {
            "user_id": tf.constant(["u0", "nobody", ""]),
            "age": tf.constant(["a0", "a99", ""]),
            "title": tf.constant(["Thing 3, of KIND", "zzz", ""]),
            "genres": tf.ragged.constant([["g0", "new"], [], ["g1", "g0", "g2", "g2"]]),
            "price": tf.constant([50.0, np.nan, 1e9]),
            "style": tf.constant([[1.0, 2.0, np.nan]] * 3),
            "history": tf.constant([["", "i1", "i2"], ["unknown", "", ""], ["", "", ""]]),
        }
    )
    size = encoder.sizes
    assert 1 <= out["user_id"][0] < size["user_id"] - 1
    assert out["user_id"][1] == size["user_id"] - 1  # the hashed tail
    assert out["user_id"][2] == 0
    assert out["age"].numpy()[1:].tolist() == [size["age"] - 1, 0]
    vocabulary = encoder.vocabulary("title")
    assert vocabulary[out["title"].numpy()[0]].tolist() == ["thing", "3", "of", "kind"]
    assert out["genres"].shape == (3, 3)
    assert out["genres"].numpy()[1].tolist() == [0, 0, 0]
    assert out["price"].numpy()[1] == 0.0
    assert out["price_bucket"].numpy().tolist()[1:] == [0, FEATURES["price"].buckets]
    assert out["style"].numpy()[0].tolist() == [1.0, 2.0, 0.0]
    items = encoder.vocabulary("item_id")
    assert items[out["history"].numpy()[0, :2]].tolist() == ["i1", "i2"]
    assert out["history"].numpy()[1, 0] == size["item_id"] - 1


def test_numbers_are_standardised_as_numpy_would(encoder) -> None:  # type: ignore[no-untyped-def]
    items = small_tables()[2]
    price = np.array([p if p is not None else np.nan for p in items.column("price").to_pylist()])
    logs = np.log1p(price)
    expected = (logs - np.nanmean(logs)) / np.nanstd(logs)
    found = encoder({"price": tf.constant(price, tf.float32)})["price"]
    np.testing.assert_allclose(found, np.nan_to_num(expected), atol=1e-4)


def test_encoded_table_is_laid_out_by_index(tmp_path: Path) -> None:
    data, encoder = small_data(tmp_path)
    items = small_tables()[2].to_pylist()
    prices = {row["item_id"]: row["price"] for row in items}
    for index in (1, 7, 20):
        price = prices[data.item_ids[index]]
        one = encoder({"price": tf.constant([np.nan if price is None else price], tf.float32)})
        assert data.items["price"][index] == pytest.approx(float(one["price"][0]), abs=1e-6)
    assert data.items["item_id"].tolist() == list(range(22))
    assert data.items["genres"][0].tolist() == [0, 0, 0]


def test_serialized_examples_give_the_same_columns() -> None:
    example = tf.train.Example()
    example.features.feature["age"].bytes_list.value.append(b"a1")
    example.features.feature["genres"].bytes_list.value.extend([b"x", b"y"])
    example.features.feature["history"].bytes_list.value.extend([b"i1"])
    parsed = parse_examples(tf.constant([example.SerializeToString()]), FEATURES, history=True)
    assert set(parsed) == set(raw_specs(FEATURES, history=True))
    assert parsed["age"].numpy().tolist() == [b"a1"]
    assert parsed["genres"].numpy().tolist() == [[b"x", b"y"]]
    assert parsed["user_id"].numpy().tolist() == [b""]
    assert np.isnan(parsed["price"].numpy()[0])
    assert np.isnan(parsed["style"].numpy()).all()


def test_vocabulary_order_limits_and_line_breaks() -> None:
    feature = Feature(name="f", role="item", kind="categorical", max_vocabulary=3, min_count=2)
    counts = {"a": 5, "b": 2, "c": 2, "d": 9, "e": 1, "bad\nvalue": 100}
    assert order_vocabulary(counts, feature) == ["d", "a", "c"]


def test_columns_without_a_number_encode_to_zero() -> None:
    assert number_statistics(np.array([np.nan]), 4) == {"mean": 0.0, "std": 1.0, "boundaries": []}


def test_a_feature_that_is_no_column_is_named(tmp_path: Path) -> None:
    splits, users, items = small_tables()
    table = FeatureTable(features=[{"name": "colour", "role": "item", "kind": "categorical"}])
    with pytest.raises(ValueError, match=r"'colour' .* is no column of the item table"):
        fit_encoder(splits["train"], users, items, table, tmp_path, 5)


def test_empty_attribute_values_are_missing(tmp_path: Path) -> None:
    splits, users, items = small_tables()
    users = users.set_column(1, "age", pa.array([None] * users.num_rows, pa.string()))
    encoder = fit_encoder(splits["train"], users, items, FEATURES, tmp_path, 5)
    assert encoder.sizes["age"] == 2
    assert encoder({"age": tf.constant(["", "x"])})["age"].numpy().tolist() == [0, 1]


def test_a_separator_cuts_strings_and_leaves_lists_whole(tmp_path: Path) -> None:
    """Tables of the data room hold lists, a notebook's or a request's strings: one encoding."""
    kept = {"name": "tags", "role": "item", "kind": "multi", "max_length": 3, "min_count": 2}
    lists = [["a", "b"], [], ["b"], ["c", "a", "b", "d"], None, ["d", "rare"]]
    texts = ["a|b", "", " b|", "c|a||b | d", None, "d|rare"]
    splits, users, _ = small_tables(items=6)
    found = {}
    for name, values, separator in (
        ("lists", lists, None),
        ("cut lists", lists, "|"),
        ("texts", texts, "|"),
    ):
        features = FeatureTable.model_validate({"features": [{**kept, "separator": separator}]})
        items = pa.table({"item_id": [f"i{i}" for i in range(6)], "tags": values})
        encoder = fit_encoder(splits["train"], users, items, features, tmp_path / name, 4)
        found[name] = encode_table(items, features.of("item"), encoder)["tags"]
        assert sorted(encoder.vocabulary("tags")[1:]) == ["a", "b", "d"]
        np.testing.assert_array_equal(found[name], found["lists"])
        if name == "texts":
            for layout in (
                tf.constant([["a|b", ""], ["", ""], ["b", ""], ["c|a", "b|d"]]),
                tf.ragged.constant([["a|b"], [], ["b"], ["c|a|b|d"]]),
                tf.ragged.constant([["a|b"], [], ["b"], ["c|a", "b|d"]]).to_sparse(),
            ):
                got = encoder({"tags": layout})["tags"]
                np.testing.assert_array_equal(got, found["lists"][:4])
    assert (found["lists"] > 0).sum(axis=1).tolist() == [2, 0, 1, 3, 0, 2]
