"""Texts to tokens in stock TensorFlow operations: words of any script, or their character n-grams.

``words``: the text in normal form NFKC and lower case, cut at everything that is neither letter,
digit nor mark. ``ngrams``: each word between the marks ``<`` and ``>``, all its runs of ``low`` to
``high`` characters, and the word itself where it is longer (fastText; Bojanowski et al. 2017,
arXiv:1607.04606). N-grams see through inflections and typing errors, need no blanks between words
(Chinese, Japanese, Thai) and leave nothing unknown whose parts are known.

There is no trained sub-word vocabulary (WordPiece, BPE): its merges need passes of their own over
the whole corpus before Transform's, and its longest-match reading is a loop that goes character by
character. Frequent n-grams with a hashed tail do the same work in one pass.
"""

from __future__ import annotations

import tensorflow as tf

from tfrec.features.nfkc import nfkc
from tfrec.schema import Feature

MOST_BYTES = 16_384  # of one text are read; the rest of a longer one is left out
OPEN, CLOSE = "<", ">"


def words(text: tf.Tensor) -> tf.RaggedTensor:
    """Lower-case words of a text.

    A word is a run of letters, digits or marks of any script; everything else separates, emoji
    too. Bytes that are no UTF-8 separate as well.

    Args:
        text: string [batch].

    Returns:
        string [batch, (words)].
    """
    text = tf.strings.substr(text, 0, MOST_BYTES)
    # ``lower`` reads up to the first NUL only.
    text = nfkc(tf.strings.regex_replace(text, r"\x00", " "))
    lower = tf.strings.lower(text, encoding="utf-8")
    spaced = tf.strings.regex_replace(lower, r"[^\pL\pN\pM]+", " ")
    # A mark belongs to what stands before it: one behind a separator (as that of an emoji) goes.
    spaced = tf.strings.regex_replace(spaced, r"(^| )\pM+", r"\1")
    return tf.strings.split(tf.strings.strip(spaced))


def ngrams(pieces: tf.RaggedTensor, low: int, high: int) -> tf.RaggedTensor:
    """Character n-grams of words.

    Args:
        pieces: string [batch, (words)].
        low, high: least and largest number of characters, the two marks counted.

    Returns:
        string [batch, (tokens)], word by word: the word itself between its marks where it has more
        than ``high`` characters, then its n-grams, short ones first.
    """
    flat = tf.strings.join([OPEN, pieces.flat_values, CLOSE])
    chars = tf.strings.unicode_split(flat, "UTF-8")
    grams = tf.strings.ngrams(chars, tuple(range(low, high + 1)), separator="")
    is_long = chars.row_lengths() > high
    whole = tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(flat, is_long), tf.cast(is_long, tf.int64), validate=False
    )
    return pieces.with_flat_values(tf.concat([whole, grams], axis=1)).merge_dims(1, 2)


def tokens(text: tf.Tensor, feature: Feature) -> tf.Tensor:
    """The first ``feature.max_length`` tokens of a text, '' behind the last.

    Args:
        text: string [batch].
        feature: of kind ``text``; ``tokens`` and ``ngram`` say how it is cut.

    Returns:
        string [batch, max_length].
    """
    pieces = words(text)
    if feature.tokens == "ngrams":
        # Each word makes a token at least: words behind would be cut off anyway.
        pieces = ngrams(pieces[:, : feature.max_length], *feature.ngram)
    dense = pieces.to_tensor(default_value="", shape=[None, feature.max_length])
    return tf.ensure_shape(dense, [None, feature.max_length])
