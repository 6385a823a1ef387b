"""NFKC in stock operations against Python's unicodedata."""

from __future__ import annotations

import unicodedata

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.features.nfkc import nfkc

SURROGATES = range(0xD800, 0xE000)


def normal(texts: list[str]) -> list[str]:
    return [t.decode() for t in nfkc(tf.constant([t.encode() for t in texts], tf.string)).numpy()]


def expected(texts: list[str]) -> list[str]:
    return [unicodedata.normalize("NFKC", text) for text in texts]


def test_every_code_point_alone() -> None:
    texts = [chr(code) for code in range(0x110000) if code not in SURROGATES]
    assert normal(texts) == expected(texts)


def test_every_decomposition_is_composed_again() -> None:
    """Canonical decompositions of all characters, Hangul syllables among them."""
    texts = [
        unicodedata.normalize("NFD", chr(code))
        for code in range(0x30000)
        if code not in SURROGATES and unicodedata.decomposition(chr(code))
    ]
    texts += [unicodedata.normalize("NFD", chr(code)) for code in range(0xAC00, 0xD7A4, 7)]
    assert normal(texts) == expected(texts)


# Marks of several classes, bases that compose, Hangul, Indic vowels, ligatures, full width, emoji.
ALPHABET = (
    "aeouAESs \u0301\u0300\u0323\u0302\u0308\u0327\u0345\u05b0\u05bc\u3099\u309a\u0338"
    "\u1100\u1161\u11a8\uac00か\u0cc6\u0cc2\u0cd5\u09c7\u09be\ufb01\uff21\u212b\u2126①½"
    "ｶﾞ\U0001f600\ufe0f\u200d\U000110a5\U000110ba\U0002f800"
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.text(st.sampled_from(ALPHABET), max_size=14), min_size=1, max_size=8))
def test_any_sequence(texts: list[str]) -> None:
    assert normal(texts) == expected(texts)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_any_text(texts: list[str]) -> None:
    assert normal(texts) == expected(texts)


def test_texts_do_not_run_into_each_other() -> None:
    assert normal(["e", "\u0301", "", "\u1100", "\u1161"]) == [
        "e",
        "\u0301",
        "",
        "\u1100",
        "\u1161",
    ]


@pytest.mark.parametrize("text", [b"caf\xe9", b"\xff\xfe", b"\xc3", b"ok \x80"])
def test_bytes_that_are_no_text_are_replaced(text: bytes) -> None:
    assert nfkc(tf.constant([text])).numpy()[0].decode() == text.decode(errors="replace")


def test_nothing_and_very_much() -> None:
    assert nfkc(tf.constant([], tf.string)).shape == (0,)
    long = "e\u0301" * 50_000
    assert normal([long]) == ["é" * 50_000]
