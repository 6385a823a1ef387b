"""Unicode's normal form NFKC in stock TensorFlow operations, so that every export can carry it.

One word can be written in several ways: ``é`` as one character or as ``e`` and an accent, ``Ａ`` in
full width, ``ﬁ`` as a ligature. NFKC (Unicode Standard Annex 15) makes them equal:

1. each character is replaced by its compatibility decomposition,
2. runs of combining marks are put into the order of their combining classes,
3. a base and what follows it are composed where Unicode has one character for both.

TensorFlow has no such operation, and ``tensorflow_text`` would have to be installed wherever the
model is served. The tables come from Python's ``unicodedata`` when the graph is traced, and are
constants of it (some 100 KiB); ASCII text takes a short way that reads none of them.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
import tensorflow as tf

TOP = 0x110000  # code points are 0..TOP - 1
PAGE = 256  # code points of one page of a table

# Hangul is decomposed and composed by arithmetic (Unicode Standard, section 3.12).
_S, _L, _V, _T = 0xAC00, 0x1100, 0x1161, 0x11A7
_L_COUNT, _V_COUNT, _T_COUNT = 19, 21, 28
_S_COUNT = _L_COUNT * _V_COUNT * _T_COUNT


@dataclass(frozen=True)
class _Pages:
    """A value for each code point in two steps: ``pages[number[code // PAGE], code % PAGE]``.

    Almost all pages are alike, so the table is small.
    """

    number: np.ndarray
    pages: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> _Pages:
        pages, number = np.unique(values.reshape(-1, PAGE), axis=0, return_inverse=True)
        return cls(number.reshape(-1).astype(np.int32), pages)

    def at(self, codes: tf.Tensor) -> tf.Tensor:
        """int32, shape of ``codes``."""
        page = tf.gather(tf.constant(self.number), codes // PAGE)
        flat = tf.constant(self.pages.ravel())
        return tf.cast(tf.gather(flat, page * PAGE + codes % PAGE), tf.int32)


@dataclass(frozen=True)
class _Tables:
    """What Unicode says of each code point.

    Attributes:
        entry: number of the decomposition; 0 is "itself".
        first, count: int32 [entry], where each decomposition lies in ``parts``.
        parts: int32, all decompositions one behind the other.
        combining: the canonical combining class; 0 is a base.
        pairs: int64, ``base * TOP + follower`` of all primary composites, ascending.
        composed: int32, the composite of each pair.
    """

    entry: _Pages
    first: np.ndarray
    count: np.ndarray
    parts: np.ndarray
    combining: _Pages
    pairs: np.ndarray
    composed: np.ndarray


@cache
def _tables() -> _Tables:
    entry = np.zeros(TOP, np.int16)
    combining = np.zeros(TOP, np.uint8)
    decompositions: list[list[int]] = [[]]
    pairs: dict[int, int] = {}
    for code in range(TOP):
        if 0xD800 <= code < 0xE000 or _S <= code < _S + _S_COUNT:
            continue  # surrogates; Hangul syllables stay composed
        char = chr(code)
        combining[code] = unicodedata.combining(char)
        rule = unicodedata.decomposition(char)
        if not rule:
            continue
        # Hangul inside a compatibility character stays composed too.
        full = unicodedata.normalize("NFKD", char)
        if any(_L <= ord(c) < 0x1200 for c in full):
            full = unicodedata.normalize("NFKC", char)
        entry[code] = len(decompositions)
        decompositions.append([ord(c) for c in full])
        if rule[0] != "<" and unicodedata.normalize("NFC", char) == char:
            base, follower = (int(part, 16) for part in rule.split())
            pairs[base * TOP + follower] = code
    count = np.array([len(d) for d in decompositions], np.int32)
    keys = np.array(sorted(pairs), np.int64)
    return _Tables(
        entry=_Pages.of(entry),
        first=np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int32),
        count=count,
        parts=np.array([code for d in decompositions for code in d], np.int32),
        combining=_Pages.of(combining),
        pairs=keys,
        composed=np.array([pairs[key] for key in keys.tolist()], np.int32),
    )


def nfkc(text: tf.Tensor) -> tf.Tensor:
    """Texts in the normal form NFKC, with bytes that are no UTF-8 replaced by U+FFFD.

    Args:
        text: string [batch].

    Returns:
        string [batch], as ``unicodedata.normalize("NFKC", text)``.
    """
    ascii_only = tf.reduce_all(tf.strings.regex_full_match(text, r"[\x00-\x7F]*"))
    return tf.cond(ascii_only, lambda: text, lambda: _normalise(text))


def _normalise(text: tf.Tensor) -> tf.Tensor:
    codes = tf.strings.unicode_decode(text, "UTF-8", errors="replace")
    flat, row = _decompose(codes.flat_values, codes.value_rowids())
    combining = _tables().combining.at(flat)
    flat = _reorder(flat, row, combining)
    flat, row = _compose(flat, row)
    rows = tf.shape(text, tf.int64)[0]
    return tf.strings.unicode_encode(
        tf.RaggedTensor.from_value_rowids(flat, row, nrows=rows, validate=False), "UTF-8"
    )


def _decompose(codes: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Each code point replaced by its decomposition; rows int64 go along."""
    tables = _tables()
    entry = tables.entry.at(codes)
    count = tf.where(entry > 0, tf.gather(tf.constant(tables.count), entry), 1)
    source = tf.repeat(tf.range(tf.size(codes)), count)
    behind = tf.range(tf.size(source)) - tf.gather(tf.cumsum(count, exclusive=True), source)
    own = tf.gather(entry, source)
    # The place is 0 where a code point stands for itself; the table has one entry at least.
    place = tf.where(own > 0, tf.gather(tf.constant(tables.first), own) + behind, 0)
    parts = tf.gather(tf.constant(tables.parts), place)
    return tf.where(own > 0, parts, tf.gather(codes, source)), tf.gather(row, source)


def _starts(row: tf.Tensor) -> tf.Tensor:
    """Bool [n]: where a text begins."""
    return tf.concat([tf.ones_like(row[:1], tf.bool), row[1:] != row[:-1]], axis=0)


def _reorder(flat: tf.Tensor, row: tf.Tensor, combining: tf.Tensor) -> tf.Tensor:
    """Sorts each run of combining marks by class, equal classes in their order."""
    run = tf.cumsum(tf.cast((combining == 0) | _starts(row), tf.int64))
    key = run * 256 + tf.cast(combining, tf.int64)
    # Nearly all texts are in order already.
    sorted_ = tf.reduce_all(key[1:] >= key[:-1])
    return tf.cond(
        sorted_, lambda: flat, lambda: tf.gather(flat, tf.argsort(key, axis=0, stable=True))
    )


def _compose(flat: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Joins each base with what it composes with, one follower of each base a pass."""
    flat, row, _ = tf.while_loop(
        lambda flat, row, more: more,
        lambda flat, row, more: _compose_once(flat, row),
        (flat, row, tf.size(flat) > 1),
        shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None]), tf.TensorShape([])),
    )
    return flat, row


def _compose_once(flat: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """One pass, and whether it joined anything."""
    n = tf.size(flat)
    place = tf.range(n)
    combining = _tables().combining.at(flat)
    opens = (combining == 0) | _starts(row)
    run = tf.cumsum(tf.cast(opens, tf.int32)) - 1
    bases = tf.cast(tf.where(opens)[:, 0], tf.int32)
    # A mark looks at its run's base, a base at the base before it, which it must touch.
    base = tf.gather(bases, tf.maximum(tf.where(opens, run - 1, run), 0))
    touching = base == place - 1
    before = tf.concat([combining[:1], combining[:-1]], axis=0)
    free = touching | (~opens & (before < combining))
    joined = _pair(tf.gather(flat, base), flat)
    fits = free & (base < place) & (tf.gather(row, base) == row) & (joined > 0)
    fits &= tf.gather(combining, base) == 0
    fits &= ~tf.gather(fits, base)  # who is about to be joined himself waits a pass
    # The first follower of each base; n where it has none.
    first = tf.math.unsorted_segment_min(tf.where(fits, place, n), base, n)
    first = tf.minimum(first, n)
    takes = first < n
    flat = tf.where(takes, tf.gather(joined, tf.minimum(first, n - 1)), flat)
    kept = ~(fits & (tf.gather(first, base) == place))
    return tf.boolean_mask(flat, kept), tf.boolean_mask(row, kept), tf.reduce_any(takes)


def _pair(base: tf.Tensor, follower: tf.Tensor) -> tf.Tensor:
    """The character that both compose to, int32 [n]; 0 where there is none."""
    tables = _tables()
    keys = tf.constant(tables.pairs)
    key = tf.cast(base, tf.int64) * TOP + tf.cast(follower, tf.int64)
    at = tf.minimum(tf.searchsorted(keys, key, out_type=tf.int32), len(tables.pairs) - 1)
    listed = tf.where(tf.gather(keys, at) == key, tf.gather(tf.constant(tables.composed), at), 0)
    lead, vowel, tail, syllable = base - _L, follower - _V, follower - _T, base - _S
    is_lv = (lead >= 0) & (lead < _L_COUNT) & (vowel >= 0) & (vowel < _V_COUNT)
    is_lvt = (syllable >= 0) & (syllable < _S_COUNT) & (tf.math.floormod(syllable, _T_COUNT) == 0)
    is_lvt &= (tail > 0) & (tail < _T_COUNT)
    hangul = tf.where(is_lvt, base + tail, 0)
    hangul = tf.where(is_lv, _S + (lead * _V_COUNT + vowel) * _T_COUNT, hangul)
    return tf.where(hangul > 0, hangul, listed)
