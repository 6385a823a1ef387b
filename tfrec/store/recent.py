"""Histories in two parts: what the last load brought, and what happened since.

The loaded part is a row like any other and is replaced with its version. The online part belongs to
no version, so no event is lost in a switch; an event that both parts hold counts once. It is a
string of entries ``u32 length, i64 seconds, item id``, oldest arrival first, trimmed when written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from tfrec.store.layout import RowSchema
from tfrec.store.ragged import offsets, positions

ITEM, TIME = "item", "time"
HISTORY_SCHEMA = RowSchema.of({ITEM: "strings", TIME: "ints"})
_HEAD = struct.Struct("<Iq")


def entry(item: bytes, time: int) -> bytes:
    """One event."""
    return _HEAD.pack(len(item), time) + item


def entries(value: bytes) -> Iterator[bytes]:
    """The entries of an online part."""
    at = 0
    while at < len(value):
        end = at + _HEAD.size + _HEAD.unpack_from(value, at)[0]
        yield value[at:end]
        at = end


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
    items: pa.ListArray, times: pa.ListArray, recent: Sequence[bytes | None], limit: int
) -> tuple[pa.ListArray, pa.ListArray]:
    """Both parts of many histories in the order of time.

    Args:
        items, times: list<string> and list<int64> [user], the loaded parts, oldest first; null
            where there is none.
        recent: [user], the online parts.
        limit: newest events kept a user.

    Returns:
        The same two; null where neither part holds anything.
    """
    n = len(items)
    if not any(recent) and _lengths(items).max(initial=0) <= limit:
        return items, times
    fresh_user, fresh_time, fresh_item = _flat(recent)
    counts = _lengths(items)
    user = np.concatenate([np.repeat(np.arange(n), counts), fresh_user])
    time = np.concatenate([times.flatten().to_numpy(zero_copy_only=False), fresh_time])
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
    taken = item.take(pa.array(order))
    seconds = pa.array(time[order].astype(np.int64))
    return (
        pa.ListArray.from_arrays(rows, taken, type=items.type, mask=mask),
        pa.ListArray.from_arrays(rows, seconds, type=times.type, mask=mask),
    )


def _lengths(lists: pa.ListArray) -> np.ndarray:
    return lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)


def _flat(recent: Sequence[bytes | None]) -> tuple[np.ndarray, np.ndarray, pa.StringArray]:
    """User's place, seconds and item of every online event. They are few: since the last load."""
    users, times, items = [], [], []
    for place, value in enumerate(recent):
        for one in entries(value or b""):
            users.append(place)
            times.append(_HEAD.unpack_from(one)[1])
            items.append(one[_HEAD.size :])
    return (
        np.array(users, np.int64),
        np.array(times, np.int64),
        pa.array(items, pa.binary()).cast(pa.string()),
    )
