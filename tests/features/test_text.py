"""Tokens against plain Python; the same in a notebook and in Transform's graph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.features.fit import fit_row_encoder
from tfrec.features.text import MOST_BYTES, tokens
from tfrec.schema import Feature, FeatureTable

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("transform_texts.py")
WAYS_OF_BOTH: dict[str, dict[str, Any]] = {
    "words": {},
    "grams": {"tokens": "ngrams", "ngram": [2, 3]},
}
NEW = ["Ｓtory of 日本", "never met", "", "E\u0301te\u0301 🙂"]
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


def text_feature(**changes: Any) -> Feature:
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
    return FeatureTable.model_validate(
        {"features": [{**title, **changes}, {**query, **changes, "shares": "title"}]}
    )


def table() -> pa.Table:
    return pa.table({"title": TEXTS, "query": ["story", "本", "love", "unheard of"] + [""] * 11})


@pytest.mark.parametrize("way", WAYS_OF_BOTH.values(), ids=WAYS_OF_BOTH)
def test_a_shared_vocabulary_gives_equal_words_equal_indices(
    way: dict[str, Any], tmp_path: Path
) -> None:
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


def test_transform_encodes_as_the_notebook_does(tmp_path: Path) -> None:
    """Both ways at once, in a process of its own: see the driver."""
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = json.loads((tmp_path / "found.json").read_text())
    for name, way in WAYS_OF_BOTH.items():
        ours = fit_row_encoder(table(), features(**way), tmp_path / name)
        for number, texts in enumerate((TEXTS, NEW)):
            given_ = tf.constant([t.encode() for t in texts])
            found = ours({"title": given_, "query": given_})
            for column in ("title", "query"):
                np.testing.assert_array_equal(found[column], theirs[name][number][column])


def test_what_does_not_fit_says_so() -> None:
    with pytest.raises(ValueError, match="'tokens', 'encoder' and 'shares' are for kind 'text'"):
        Feature(name="x", role="item", kind="categorical", tokens="ngrams")
    with pytest.raises(ValueError, match=r"1 <= low <= high <= 20; got \[5, 3\]"):
        text_feature(ngram=(5, 3))
    with pytest.raises(ValueError, match=r"'query' shares a text feature .* got 'titel'"):
        FeatureTable.model_validate({"features": [{**QUERY, "shares": "titel"}]})
    with pytest.raises(ValueError, match="has the same 'dim'; got 4 and 16"):
        FeatureTable.model_validate(
            {"features": [text_feature(), {**QUERY, "shares": "title", "dim": 4}]}
        )


def test_without_its_owner_a_feature_stands_alone() -> None:
    left = features().without("title")
    assert left["query"].shares is None
