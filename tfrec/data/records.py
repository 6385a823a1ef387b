"""Cuts a block of delimited text into records, and the good from the bad, by arithmetic on bytes.

Lines whose number of separators is right need no Python of their own; only suspicious ones (odd
quotes, wrong number of fields) are looked at singly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NEWLINE, _RETURN, _QUOTE = ord("\n"), ord("\r"), ord('"')
MAX_RECORD_LINES = 1000  # descriptions copied from web pages do have hundreds

WRONG_ARITY = "wrong_arity"
UNBALANCED_QUOTE = "unbalanced_quote"


@dataclass(frozen=True)
class Records:
    """The records of one block of bytes.

    Attributes:
        starts, ends: int64 [record], byte spans of the good records, without the line end.
        lines: int64 [record], index of each good record's first line in the block.
        bad: index of the line, start, end and reason of each bad record.
        consumed: bytes that were cut into records; the rest is an open record to carry over.
        consumed_lines: lines therein.
    """

    starts: np.ndarray
    ends: np.ndarray
    lines: np.ndarray
    bad: list[tuple[int, int, int, str]]
    consumed: int
    consumed_lines: int


def count_fields(text: bytes, separator: int) -> int | None:
    """Fields of one record by the rules of CSV; None where a quote stays open.

    A quote opens a quoted field only at the field's start; elsewhere it stands for itself.
    """
    fields, at, n = 1, 0, len(text)
    while True:
        if at < n and text[at] == _QUOTE:
            at += 1
            while True:
                at = text.find(b'"', at)
                if at < 0:
                    return None
                at += 1
                if at >= n or text[at] != _QUOTE:
                    break
                at += 1
        at = text.find(separator, at)
        if at < 0:
            return fields
        fields, at = fields + 1, at + 1


def split_records(
    data: bytes, separator: int, n_fields: int, quoting: bool, final: bool
) -> Records:
    """Cuts a block into records.

    Args:
        data: whole lines of UTF-8 text, each with its line end.
        separator: one byte.
        n_fields: fields of a good record.
        quoting: fields may be quoted; a quoted field may hold separators and line ends.
        final: no bytes follow the block.
    """
    array = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(array == _NEWLINE)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    after_return = (ends > starts) & (array[np.maximum(ends - 1, 0)] == _RETURN)
    stops = ends - after_return
    blank = stops == starts

    at = np.flatnonzero(array == separator)
    line_of = np.searchsorted(ends, at)
    odd = np.zeros(len(ends), bool)
    quotes = np.flatnonzero(array == _QUOTE) if quoting else np.empty(0, np.int64)
    if len(quotes):
        before_line = np.searchsorted(quotes, starts)
        odd = ((np.searchsorted(quotes, ends) - before_line) & 1).astype(bool)
        inside = ((np.searchsorted(quotes, at) - before_line[line_of]) & 1).astype(bool)
        line_of = line_of[~inside]
    fields = np.bincount(line_of, minlength=len(ends)) + 1
    good = ~blank & ~odd & (fields == n_fields)

    bad: list[tuple[int, int, int, str]] = []
    consumed, consumed_lines = len(data), len(ends)
    next_free = 0
    for line in np.flatnonzero(~good & ~blank).tolist():
        if line < next_free:
            continue
        last, reason = _single(data, starts, stops, line, separator, n_fields, quoting)
        if last is None:
            if not final and len(ends) - line < MAX_RECORD_LINES:
                consumed, consumed_lines = int(starts[line]), line
                good[line:] = False
                break
            reason = UNBALANCED_QUOTE
        if reason is not None:
            bad.append((line, int(starts[line]), int(stops[line]), reason))
            continue
        assert last is not None
        good[line] = True
        good[line + 1 : last + 1] = False
        stops[line] = stops[last]
        next_free = last + 1
    kept = np.flatnonzero(good)
    return Records(starts[kept], stops[kept], kept, bad, consumed, consumed_lines)


def _single(
    data: bytes,
    starts: np.ndarray,
    stops: np.ndarray,
    line: int,
    separator: int,
    n_fields: int,
    quoting: bool,
) -> tuple[int | None, str | None]:
    """Last line of the record that begins at ``line`` (None: never closes), and what is wrong."""
    if not quoting:
        return line, WRONG_ARITY
    for last in range(line, min(line + MAX_RECORD_LINES, len(starts))):
        # An open quote closes on a line that has a quote.
        if last > line and data.find(b'"', starts[last], stops[last]) < 0:
            continue
        fields = count_fields(data[starts[line] : stops[last]], separator)
        if fields is not None:
            return last, None if fields == n_fields else WRONG_ARITY
    return None, None
