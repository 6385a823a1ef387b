"""Tokens against plain Python; the same in a notebook and in Transform's graph."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.features.fit import fit_row_encoder
from tfrec.features.text import MOST_BYTES, tokens
from tfrec.schema import Feature, FeatureTable

QUERY = {"name": "query", "role": "context", "kind": "text"}
TEXTS = [
    "Toy Story (1995)",
    "ÉTÉ à l'île",
    "E\u0301te\u0301",
    "日本語の本 2",
    "Ｆｕｌｌ　Ｗｉｄｔｈ ﬁne",
    "नमस्ते दुनिया",
    "한국어 " + unicodedata.normalize("NFD", "한국어"),
    "❤️ love 👩‍💻 5🔥",
    "",
    "  ,;  ",
    "🙂",
    "a\x00b",
    "\u0301x",
    "ΟΔΟΣ ΑΣ",
    "don't-stop 3.5mm",
]


def python_words(text: str) -> list[str]:
    """Letter by letter."""
    text = text.encode()[:MOST_BYTES].decode(errors="replace").replace("\x00", " ")
    lower = unicodedata.normalize("NFKC", text).lower()
    spaced = "".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in lower)
    found = []
    for piece in spaced.split():
        letters = [c for c in piece if unicodedata.category(c)[0] != "M"]
        found += [piece[piece.index(letters[0]) :]] if letters else []
    return found


def python_tokens(text: str, feature: Feature) -> list[str]:
    found = python_words(text)
    if feature.tokens == "ngrams":
        low, high = feature.ngram
        grams = []
        for word in found:
            marked = f"<{word}>"
            grams += [marked] if len(marked) > high else []
            for n in range(low, high + 1):
                grams += [marked[i : i + n] for i in range(len(marked) - n + 1)]
        found = grams
    return (found + [""] * feature.max_length)[: feature.max_length]


def text_feature(**changes: object) -> Feature:
    return Feature(name="title", role="item", kind="text", **changes)


def cut(texts: list[str], feature: Feature) -> list[list[str]]:
    rows = tokens(tf.constant([t.encode() for t in texts], tf.string), feature).numpy()
    assert rows.shape == (len(texts), feature.max_length)
    return [[token.decode() for token in row] for row in rows]


WAYS = [
    text_feature(max_length=4),
    text_feature(tokens="ngrams", max_length=40),
    text_feature(tokens="ngrams", ngram=(2, 2), max_length=6),
    text_feature(tokens="ngrams", ngram=(1, 3), max_length=200),
]


@pytest.mark.parametrize("feature", WAYS, ids=["words", "3-5", "2", "1-3"])
def test_equals_plain_python(feature: Feature) -> None:
    assert cut(TEXTS, feature) == [python_tokens(text, feature) for text in TEXTS]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.text(
            st.characters(max_codepoint=0x2FFF, categories=["L", "N", "M", "P", "S", "Z"]),
            max_size=25,
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(WAYS),
)
def test_any_text_equals_plain_python(texts: list[str], feature: Feature) -> None:
    # Letters that came with Unicode 14 have no lower case in TensorFlow's tables yet.
    texts = [t.translate({0x2C2F: "x", 0x2C5F: "x"}) for t in texts]
    assert cut(texts, feature) == [python_tokens(text, feature) for text in texts]


def test_a_very_long_text_is_cut_not_refused() -> None:
    feature = text_feature(max_length=3)
    assert cut(["word " * 1_000_000, "é" * 100_000], feature)[0] == ["word"] * 3
    grams = text_feature(tokens="ngrams", max_length=3)
    assert cut(["x" * 1_000_000], grams) == [[f"<{'x' * MOST_BYTES}>", "<xx", "xxx"]]


def test_nothing_at_all() -> None:
    assert cut([], WAYS[1]) == []
    assert cut(["", "🙂"], WAYS[1]) == [[""] * 40] * 2


def features(**changes: object) -> FeatureTable:
    title = {"name": "title", "role": "item", "kind": "text", "max_length": 12, "oov_buckets": 7}
    query = {"name": "query", "role": "context", "kind": "text", "max_length": 6, "oov_buckets": 7}
    return FeatureTable(features=[{**title, **changes}, {**query, **changes, "shares": "title"}])


def table() -> pa.Table:
    return pa.table({"title": TEXTS, "query": ["story", "本", "love", "unheard of"] + [""] * 11})


@pytest.mark.parametrize("way", [{}, {"tokens": "ngrams", "ngram": [2, 3]}], ids=["words", "grams"])
def test_a_shared_vocabulary_gives_equal_words_equal_indices(way: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    encoder = fit_row_encoder(table(), features(**way), tmp_path)
    assert encoder.sizes["query"] == encoder.sizes["title"]
    np.testing.assert_array_equal(encoder.vocabulary("query"), encoder.vocabulary("title"))
    text = tf.constant(["Toy story, unheard of"])
    out = encoder({"title": text, "query": text})
    np.testing.assert_array_equal(out["title"][:, :6], out["query"])
    known = len(encoder.vocabulary("title")) - 1
    out = encoder({"title": tf.constant(["qqq xxx"])})
    assert (out["title"].numpy() > known).any()  # the hashed tail
    assert (out["title"].numpy() <= known + 7).all()


@pytest.mark.parametrize("way", [{}, {"tokens": "ngrams", "ngram": [2, 3]}], ids=["words", "grams"])
def test_transform_encodes_as_the_notebook_does(way: dict, tmp_path: Path) -> None:  # type: ignore[type-arg]
    import apache_beam as beam
    import tensorflow_transform as tft
    import tensorflow_transform.beam as tft_beam
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    from tfrec.features.encoder import TransformEncoder
    from tfrec.features.tft_analyzer import preprocessing_fn

    chosen = features(**way)
    spec = {name: tf.io.VarLenFeature(tf.string) for name in ("title", "query")}
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(spec))
    rows = [{k: [v.encode()] if v else [] for k, v in row.items()} for row in table().to_pylist()]
    with beam.Pipeline("DirectRunner") as pipeline, tft_beam.Context(str(tmp_path / "work")):
        raw = (pipeline | beam.Create(rows), metadata)
        graph = raw | tft_beam.AnalyzeDataset(preprocessing_fn(chosen, 0))
        _ = graph | tft_beam.WriteTransformFn(str(tmp_path / "graph"))
        _ = metadata | tft_beam.WriteMetadata(str(tmp_path / "graph" / "metadata"), pipeline)
    assert tft.TFTransformOutput(str(tmp_path / "graph")).vocabulary_by_name("title")
    theirs = TransformEncoder(str(tmp_path / "graph"), _lookups(chosen), 0)
    ours = fit_row_encoder(table(), chosen, tmp_path / "statistics")
    new = ["Ｓtory of 日本", "never met", "", "E\u0301te\u0301 🙂"]
    for texts in (TEXTS, new):
        given_ = {name: tf.constant([t.encode() for t in texts]) for name in ("title", "query")}
        found, expected = theirs(given_), ours(given_)
        for name in ("title", "query"):
            np.testing.assert_array_equal(found[name], expected[name])


def _lookups(chosen: FeatureTable) -> FeatureTable:
    """Rows without ids: their vocabularies are not in this graph."""

    class Texts(FeatureTable):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return (f for f in chosen if f.kind == "text")

    return Texts(features=chosen.features)


def test_what_does_not_fit_says_so() -> None:
    with pytest.raises(ValueError, match="'tokens', 'encoder' and 'shares' are for kind 'text'"):
        Feature(name="x", role="item", kind="categorical", tokens="ngrams")
    with pytest.raises(ValueError, match=r"1 <= low <= high <= 20; got \[5, 3\]"):
        text_feature(ngram=(5, 3))
    with pytest.raises(ValueError, match=r"'query' shares a text feature .* got 'titel'"):
        FeatureTable(features=[{**QUERY, "shares": "titel"}])
    with pytest.raises(ValueError, match="has the same 'dim'; got 4 and 16"):
        FeatureTable(features=[text_feature(), {**QUERY, "shares": "title", "dim": 4}])


def test_without_its_owner_a_feature_stands_alone() -> None:
    left = features().without("title")
    assert left["query"].shares is None
