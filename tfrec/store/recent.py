"""Histories in two parts: what the last load brought, and what happened since.

The loaded part is a row like any other and is replaced with its version. The online part belongs to
no version, so no event is lost in a switch; an event that both parts hold counts once. It is a
string of entries, oldest arrival first, trimmed when written: ``u32 length, i64 seconds, item id``,
or, where the event has a weight (a rating), with the highest bit of the length set and the weight
as f32 before the item id.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from tfrec.store.layout import RowSchema
from tfrec.store.ragged import offsets, positions

ITEM, TIME, WEIGHT = "item", "time", "weight"
HISTORY_SCHEMA = RowSchema.of({ITEM: "strings", TIME: "ints", WEIGHT: "floats"})
_HEAD = struct.Struct("<Iq")
_WEIGHT = struct.Struct("<f")
_RATED = 1 << 31


def entry(item: bytes, time: int, weight: float = math.nan) -> bytes:
    """One event; a weight of NaN is none."""
    if math.isnan(weight):
        return _HEAD.pack(len(item), time) + item
    return _HEAD.pack(len(item) | _RATED, time) + _WEIGHT.pack(weight) + item


def entries(value: bytes) -> Iterator[bytes]:
    """The entries of an online part."""
    at = 0
    while at < len(value):
        size = _HEAD.unpack_from(value, at)[0]
        rated = _WEIGHT.size if size & _RATED else 0
        end = at + _HEAD.size + rated + (size & ~_RATED)
        yield value[at:end]
        at = end


def parsed(one: bytes) -> tuple[bytes, int, float]:
    """Item, seconds and weight of an entry."""
    size, time = _HEAD.unpack_from(one)
    if not size & _RATED:
        return one[_HEAD.size :], time, math.nan
    return one[_HEAD.size + _WEIGHT.size :], time, _WEIGHT.unpack_from(one, _HEAD.size)[0]


def appended(value: bytes | None, new: Iterable[bytes], limit: int) -> bytes:
    """An online part with further entries; one that is there already is not added again."""
    kept = dict.fromkeys(entries(value or b""))
    kept.update(dict.fromkeys(new))
    return b"".join(list(kept)[-limit:])


# The same, done by Redis itself so that two writers cannot undo each other.
APPEND_LUA = """
local value = redis.call('GET', KEYS[1]) or ''
local kept, seen, at = {}, {}, 1
local function add(one)
  if not seen[one] then seen[one] = true; kept[#kept + 1] = one end
end
while at <= #value do
  local size = struct.unpack('<I4', value, at) + 12
  if size >= 2147483648 then size = size - 2147483648 + 4 end
  add(string.sub(value, at, at + size - 1))
  at = at + size
end
for i = 3, #ARGV do add(ARGV[i]) end
local first = math.max(1, #kept - tonumber(ARGV[1]) + 1)
value = table.concat(kept, '', first, #kept)
if ARGV[2] == '0' then redis.call('SET', KEYS[1], value)
else redis.call('SET', KEYS[1], value, 'EXAT', ARGV[2]) end
return #kept - first + 1
"""


def merged(
    items: pa.ListArray,
    times: pa.ListArray,
    weights: pa.ListArray,
    recent: Sequence[bytes | None],
    limit: int,
) -> tuple[pa.ListArray, pa.ListArray, pa.ListArray]:
    """Both parts of many histories in the order of time.

    Args:
        items, times, weights: list<string>, list<int64> and list<float> [user], the loaded parts,
            oldest first; null where there is none. Weights that are null, or not as many as items,
            are unknown.
        recent: [user], the online parts.
        limit: newest events kept a user.

    Returns:
        The same three; null where neither part holds anything. There are as many weights as items,
        NaN where unknown.
    """
    n = len(items)
    counts = _lengths(items)
    weight = _weights(weights, counts)
    if not any(recent) and counts.max(initial=0) <= limit:
        rows = pa.array(offsets(counts).astype(np.int32))
        return items, times, _lists(rows, pa.array(weight), weights.type, items.is_null())
    fresh_user, fresh_time, fresh_item, fresh_weight = _flat(recent)
    user = np.concatenate([np.repeat(np.arange(n), counts), fresh_user])
    time = np.concatenate([times.flatten().to_numpy(zero_copy_only=False), fresh_time])
    weight = np.concatenate([weight, fresh_weight])
    item = pa.concat_arrays([items.flatten(), fresh_item])
    order = np.arange(len(user))
    if len(fresh_user):
        loaded = len(user) - len(fresh_user)
        code = item.dictionary_encode().indices.to_numpy()
        triple = np.stack([user, time, code], axis=1)
        _, first = np.unique(triple, axis=0, return_index=True)
        keep = np.zeros(len(user), bool)
        keep[first] = True
        keep[:loaded] = True
        order = np.lexsort((order, time, user))
        order = order[keep[order]]
    sizes = np.bincount(user[order], minlength=n).astype(np.int64)
    cut = np.minimum(sizes, limit)
    order = order[positions(offsets(sizes)[1:] - cut, cut)]
    rows = pa.array(offsets(cut).astype(np.int32))
    absent = items.is_null().to_numpy(zero_copy_only=False) & (sizes == 0)
    mask = pa.array(absent)
    return (
        _lists(rows, item.take(pa.array(order)), items.type, mask),
        _lists(rows, pa.array(time[order].astype(np.int64)), times.type, mask),
        _lists(rows, pa.array(weight[order]), weights.type, mask),
    )


def _lists(rows: pa.Array, values: pa.Array, kind: pa.DataType, mask: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(rows, values, type=kind, mask=mask)


def _weights(weights: pa.ListArray, counts: np.ndarray) -> np.ndarray:
    """The weight of every event, float32, NaN where unknown: as many as ``counts`` says."""
    out = np.full(int(counts.sum()), np.nan, np.float32)
    own = _lengths(weights)
    fits = (own == counts) & (own > 0)
    if fits.any():
        values = weights.flatten().fill_null(np.nan).to_numpy(zero_copy_only=False)
        sizes = np.where(fits, own, 0)
        at = positions(offsets(counts)[:-1], sizes)
        out[at] = values[positions(offsets(own)[:-1], sizes)]
    return out


def _lengths(lists: pa.ListArray) -> np.ndarray:
    return lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)


def _flat(
    recent: Sequence[bytes | None],
) -> tuple[np.ndarray, np.ndarray, pa.StringArray, np.ndarray]:
    """User's place, seconds, item and weight of every online event: few, since the last load."""
    found = [(place, *parsed(one)) for place, v in enumerate(recent) for one in entries(v or b"")]
    users, items, times, weights = zip(*found, strict=True) if found else ((), (), (), ())
    return (
        np.array(users, np.int64),
        np.array(times, np.int64),
        pa.array(items, pa.binary()).cast(pa.string()),
        np.array(weights, np.float32),
    )
