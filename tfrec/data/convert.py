"""Raw columns to canonical ones, whole columns at a time; what does not convert is marked."""

from __future__ import annotations

import datetime as dt
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import Rule
from tfrec.data.tables import DataError
from tfrec.schema import Feature

# Seconds of the year 3000: later times are milliseconds or worse read as seconds.
LATEST = 32_503_680_000
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_WHOLE = r"^([+-]?\d+)\.0+$"

Column: TypeAlias = "pa.ChunkedArray | pa.Array"


def _mask(array: Column, null: bool) -> np.ndarray:
    """A boolean Arrow column as bool [row]; nulls become ``null``."""
    return pc.fill_null(array, null).to_numpy(zero_copy_only=False).astype(bool)


def _flat(column: Column) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def as_text(column: Column) -> pa.Array:
    """A column as trimmed strings, whole numbers without a fraction; empty becomes null."""
    array = _flat(column)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if not pa.types.is_string(array.type):
        array = array.cast(pa.string())
    array = pc.utf8_trim_whitespace(array)
    return pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)


def to_id(column: Column) -> tuple[pa.Array, np.ndarray]:
    """Ids as strings (``17850.0`` is read as ``17850``), and where one is missing."""
    array = as_category(column)
    missing = _mask(pc.is_in(array, pa.array(["nan", "NaN", "null", "None"])), False)
    missing |= array.is_null().to_numpy(zero_copy_only=False)
    return array, missing


def as_category(column: Column) -> pa.Array:
    """Strings, whole numbers as their decimal text."""
    return pc.replace_substring_regex(as_text(column), _WHOLE, r"\1")


def to_number(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """A column as float64 [row] (missing is NaN), and where it holds something that is no number.

    ``nan`` and ``inf`` are no numbers.
    """
    array = _flat(column)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        present = array.is_valid().to_numpy(zero_copy_only=False)
        return np.where(np.isinf(numbers), np.nan, numbers), present & ~np.isfinite(numbers)
    text = as_text(array)
    ok = pc.match_substring_regex(text, _NUMBER)
    # Cast takes no leading plus.
    plain = pc.if_else(ok, pc.utf8_ltrim(text, "+"), pa.scalar(None, pa.string()))
    numbers = plain.cast(pa.float64()).to_numpy(zero_copy_only=False)
    bad = ~_mask(ok, True) | np.isinf(numbers)
    return np.where(bad, np.nan, numbers), bad


def to_seconds(column: Column, pattern: str) -> tuple[np.ndarray, np.ndarray]:
    """Times as int64 seconds [row] (UTC), and where one is missing or impossible.

    Args:
        column: raw times; true date columns (Parquet) are taken as they are.
        pattern: ``seconds``, ``milliseconds``, ``iso`` or a ``strptime`` pattern.
    """
    array = _flat(column)
    if pa.types.is_temporal(array.type):
        stamps = array.cast(pa.timestamp("s"), safe=False)
    elif pattern in ("seconds", "milliseconds"):
        numbers, bad = to_number(array)
        numbers = np.floor(numbers / (1000 if pattern == "milliseconds" else 1))
        bad |= ~((numbers >= 0) & (numbers < LATEST))
        return np.where(bad, 0, numbers).astype(np.int64), bad
    else:
        stamps = _parse_times(as_text(array), pattern)
    bad = stamps.is_null().to_numpy(zero_copy_only=False)
    seconds = pc.fill_null(stamps.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    bad |= (seconds < 0) | (seconds >= LATEST)
    return np.where(bad, 0, seconds), bad


def _parse_times(text: pa.Array, pattern: str) -> pa.Array:
    """Parsed times as timestamp[s]; null where one does not parse."""
    if pattern != "iso" and not any(code in pattern for code in ("%f", "%z", "%Z")):
        return pc.strptime(text, format=pattern, unit="s", error_is_null=True)
    encoded = text.dictionary_encode()
    parsed = [_one_time(value, pattern) for value in encoded.dictionary.to_pylist()]
    return pa.array(parsed, pa.timestamp("s")).take(encoded.indices)


def _one_time(text: str, pattern: str) -> int | None:
    try:
        if pattern == "iso":
            moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
        else:
            moment = dt.datetime.strptime(text, pattern)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.timezone.utc)
    return int(moment.timestamp() // 1)


def to_attribute(column: Column, feature: Feature | None) -> tuple[pa.Array, np.ndarray]:
    """An attribute in the type its feature asks for, and where it is no such thing.

    ``numeric`` becomes float32; ``multi`` list of string, cut at its separator; ``embedding`` list
    of float32, cut at commas, semicolons or blanks; all others string. A column that is no feature
    keeps numbers, lists and bytes as they are. Missing values are null and not bad.
    """
    array = _flat(column)
    fine = np.zeros(len(array), bool)
    kind = feature.kind if feature else None
    if kind == "numeric":
        numbers, bad = to_number(array)
        return pa.array(numbers.astype(np.float32), mask=np.isnan(numbers)), bad
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        inner = pa.float32() if pa.types.is_floating(array.type.value_type) else pa.string()
        return array.cast(pa.list_(inner), safe=False), fine
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        return array.cast(pa.binary()), fine
    if kind == "multi":
        text = as_text(array)
        separator = feature.separator if feature else None
        if separator is None:
            lists = pc.split_pattern(text, "\x1f")
        else:
            lists = pc.split_pattern(text, separator)
        return _trim_lists(lists), fine
    if kind == "embedding":
        text = pc.utf8_trim(as_text(array), "[]() ")
        lists = pc.split_pattern_regex(text, r"[\s,;]+")
        numbers, bad = to_number(lists.flatten())
        row_of = pc.list_parent_indices(lists).to_numpy()
        wrong = fine.copy()
        wrong[row_of[bad | np.isnan(numbers)]] = True
        if feature is not None:
            lengths = pc.fill_null(pc.list_value_length(lists), feature.dim).to_numpy()
            wrong |= lengths != feature.dim
        values = pa.array(np.nan_to_num(numbers).astype(np.float32))
        return _like(lists, values), wrong
    if kind is None and (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        return array.cast(pa.float32(), safe=False), fine
    return (as_category(array) if kind == "categorical" else as_text(array)), fine


def _like(lists: pa.Array, values: pa.Array) -> pa.Array:
    """Lists of the same lengths and nulls around other values."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, values, mask=lists.is_null())


def _trim_lists(lists: pa.Array) -> pa.Array:
    """Trims every value of lists of strings and leaves empty ones out."""
    values = pc.utf8_trim_whitespace(lists.flatten())
    keep = pc.not_equal(values, "").to_numpy(zero_copy_only=False)
    row_of = pc.list_parent_indices(lists).to_numpy()
    lengths = np.bincount(row_of[keep], minlength=len(lists))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, values.filter(pa.array(keep)), mask=lists.is_null())


def fails_rule(column: Column, rule: Rule) -> np.ndarray:
    """Where a raw column breaks a rule; a missing value breaks all but ``reject_pattern``."""
    array = _flat(column)
    bad = np.zeros(len(array), bool)
    if rule.min is not None or rule.max is not None:
        numbers, _ = to_number(array)
        low = -np.inf if rule.min is None else rule.min
        high = np.inf if rule.max is None else rule.max
        bad |= ~((numbers >= low) & (numbers <= high))
    for pattern, wanted in ((rule.pattern, True), (rule.reject_pattern, False)):
        if pattern is None:
            continue
        try:
            match = pc.match_substring_regex(as_text(array), rf"^(?:{pattern})$")
        except pa.ArrowInvalid as error:
            raise DataError(
                f"rule {rule.reason!r}: a pattern is a regular expression in RE2's syntax; got "
                f"{pattern!r}: {error}"
            ) from None
        bad |= ~_mask(match, False) if wanted else _mask(match, False)
    return bad
