"""Users, items, histories and images of canonical tables, as the page looks them up."""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec.data.tables import (
    INTERACTION_SCHEMA,
    ITEMS,
    TITLE,
    DataError,
    check_rows,
    open_interactions,
    read_items,
    read_users,
    titles,
)
from tfrec.schema import EVENT, ITEM_ID, TIMESTAMP, USER_ID

PRICE = "price"
GROUPS_KEPT = 4  # row groups of images held in memory

# First bytes of the formats that browsers show. SVG is none of them: it can hold scripts.
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


class Shop:
    """The tables in memory, images excepted: those are read when they are asked for.

    Args:
        folder: canonical tables.
        image: column of the items that holds images; by default the first of bytes.
        price: column of the items that holds the price.

    Raises:
        DataError: no canonical tables, or no such column.
    """

    def __init__(
        self, folder: str | Path, image: str | None = None, price: str | None = None
    ) -> None:
        self.folder = Path(folder)
        events = open_interactions(folder).to_table(columns=INTERACTION_SCHEMA.names)
        self.users = read_users(folder)
        self._file = pq.ParquetFile(self.folder / ITEMS) if (self.folder / ITEMS).exists() else None
        names = [] if self._file is None else self._file.schema_arrow
        binary = [f.name for f in names if pa.types.is_binary(f.type)]
        self.items = read_items(folder, without=binary)
        check_rows(events, self.users, self.items)
        self.image = _column(image, binary, binary[:1], "image", "bytes")
        numbers = [f.name for f in self.items.schema if f.type == pa.float32()]
        self.price = _column(price, numbers, [n for n in numbers if n == PRICE], "price", "float")
        self.ids: list[str] = self.items.column(ITEM_ID).to_pylist()
        self.titles = titles(self.items)
        self._row = {item: row for row, item in enumerate(self.ids)}
        self._titles = pa.array(self.titles)
        self._prices = (
            np.full(len(self.ids), np.nan)
            if self.price is None
            else self.items.column(self.price).to_numpy().astype(np.float64)
        )
        self._histories(events)
        self._groups: OrderedDict[int, pa.Array] = OrderedDict()
        self._lock = threading.Lock()

    def _histories(self, events: pa.Table) -> None:
        """Events by user, then time; how often each item occurs."""
        coded = events.column(USER_ID).combine_chunks().dictionary_encode()
        codes = coded.indices.to_numpy()
        order = np.lexsort((np.arange(len(codes)), events.column(TIMESTAMP).to_numpy(), codes))
        self._events = events.take(pa.array(order)).combine_chunks()
        self._code = {user: code for code, user in enumerate(coded.dictionary.to_pylist())}
        counts = np.bincount(codes, minlength=len(self._code))
        self._indptr = np.concatenate([[0], np.cumsum(counts)])
        at = pc.index_in(events.column(ITEM_ID), pa.array(self.ids))
        known = at.drop_null().to_numpy()
        self.popularity = np.bincount(known, minlength=len(self.ids))
        # Everybody who can be picked: those of the log first, the busiest before the others.
        active = coded.dictionary.take(pa.array(np.argsort(-counts, kind="stable")))
        idle = self.users.column(USER_ID).combine_chunks()
        idle = idle.filter(pc.invert(pc.is_in(idle, active)))
        self._everybody = pa.concat_arrays([active, idle])

    # -- looking up ------------------------------------------------------------------------------

    def row(self, item: str) -> int | None:
        """Row of an item in the table, None where it is not in it."""
        return self._row.get(item)

    def title(self, item: str) -> str:
        """What is shown of an item; its id where nothing is known."""
        row = self._row.get(item)
        return item if row is None else self.titles[row]

    def prices(self, items: Sequence[str]) -> np.ndarray:
        """float64 [item], NaN where unknown."""
        rows = [self._row.get(item, -1) for item in items]
        return np.array([self._prices[row] if row >= 0 else np.nan for row in rows], np.float64)

    def history(self, user: str) -> list[dict[str, Any]]:
        """A user's events, oldest first: ``item_id``, ``title``, ``event``, ``time`` (UTC)."""
        code = self._code.get(user)
        if code is None:
            return []
        low, high = int(self._indptr[code]), int(self._indptr[code + 1])
        rows = self._events.slice(low, high - low).to_pylist()
        return [
            {
                "item_id": row[ITEM_ID],
                "title": self.title(row[ITEM_ID]),
                "event": row[EVENT],
                "time": _day(row[TIMESTAMP]),
            }
            for row in rows
        ]

    def knows_user(self, user: str) -> bool:
        """Whether a user is in the log or in the users table."""
        return user in self._code or pc.index(self.users.column(USER_ID), user).as_py() >= 0

    def facts(self, user: str) -> dict[str, Any]:
        """Known attributes of a user by column."""
        at = pc.index(self.users.column(USER_ID), user).as_py()
        if at < 0:
            return {}
        row = self.users.slice(at, 1).to_pylist()[0]
        return {n: v for n, v in row.items() if n != USER_ID and v is not None}

    def about(self, item: str) -> dict[str, Any] | None:
        """An item's attributes by column, long vectors left out; None for an unknown one."""
        row = self._row.get(item)
        if row is None:
            return None
        found = self.items.slice(row, 1).to_pylist()[0]
        numbers = pa.list_(pa.float32())
        hidden = {ITEM_ID, TITLE, *(f.name for f in self.items.schema if f.type == numbers)}
        return {n: v for n, v in found.items() if n not in hidden and v is not None}

    def values(self, column: str) -> list[tuple[str, int]]:
        """Values of an item column with their numbers of items, most frequent first."""
        if column not in self.items.column_names:
            return []
        found = self.items.column(column).combine_chunks()
        if pa.types.is_list(found.type):
            found = found.flatten()
        if found.type != pa.string():
            return []
        pairs = found.drop_null().value_counts().to_pylist()
        return sorted(((p["values"], p["counts"]) for p in pairs), key=lambda p: (-p[1], p[0]))

    # -- searching -------------------------------------------------------------------------------

    def find_users(self, text: str, limit: int = 12) -> list[dict[str, Any]]:
        """Users whose id holds the text: the id itself, then those that begin with it, then others.

        Inside each group the busiest come first. No text: the busiest of all.
        """
        rows = _ranked(self._everybody, text, limit, everything=text.strip() == "")
        users = self._everybody.take(pa.array(rows, pa.int64())).to_pylist()
        sizes = np.diff(self._indptr)
        return [
            {"user_id": u, "events": int(sizes[self._code[u]]) if u in self._code else 0}
            for u in users
        ]

    def find_items(self, text: str, limit: int = 12) -> list[dict[str, Any]]:
        """Items whose title holds every word of the text, or that have it as their id.

        Those whose title begins with the text come first; then the more popular ones.
        """
        words = text.split()
        hits = np.ones(len(self.ids), bool)
        for word in words:
            found = pc.match_substring(self._titles, word, ignore_case=True)
            hits &= found.to_numpy(zero_copy_only=False)
        begins = pc.starts_with(self._titles, text.strip(), ignore_case=True)
        rank = begins.to_numpy(zero_copy_only=False).astype(np.int64)
        own = self._row.get(text.strip())
        if own is not None:
            hits[own], rank[own] = True, 2
        rows = np.flatnonzero(hits)
        rows = rows[np.lexsort((-self.popularity[rows], -rank[rows]))][:limit]
        return [self.card(self.ids[row]) for row in rows]

    def card(self, item: str) -> dict[str, Any]:
        """What a list shows of an item: ``item_id``, ``title``, ``price``, ``image``."""
        price = float(self.prices([item])[0])
        shown = {"item_id": item, "title": self.title(item), "image": self.has_image(item)}
        return {**shown, "price": round(price, 2)} if np.isfinite(price) else shown

    # -- images ----------------------------------------------------------------------------------

    def has_image(self, item: str) -> bool:
        """Whether there may be an image: a column of images, and the item in the table."""
        return self.image is not None and item in self._row

    def picture(self, item: str) -> tuple[bytes, str] | None:
        """An item's image as bytes and their content type; None where there is none to show."""
        row = self._row.get(item)
        if row is None or self.image is None or self._file is None:
            return None
        group, first = 0, 0
        while row >= first + self._file.metadata.row_group(group).num_rows:
            first += self._file.metadata.row_group(group).num_rows
            group += 1
        with self._lock:
            if group not in self._groups:
                table = self._file.read_row_group(group, columns=[self.image])
                self._groups[group] = table.column(0).combine_chunks()
                while len(self._groups) > GROUPS_KEPT:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(group)
            data = self._groups[group][row - first].as_py()
        kind = content_type(data) if data else None
        return None if kind is None else (data, kind)


def content_type(data: bytes) -> str | None:
    """MIME type of an image by its first bytes; None for anything that is not shown."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _column(
    given: str | None, fitting: list[str], usual: list[str], what: str, kind: str
) -> str | None:
    """The column given, checked, or the usual one where there is one."""
    if given is None:
        return usual[0] if usual else None
    if given not in fitting:
        raise DataError(
            f"the {what} column is one of the items table's columns of {kind}, {fitting}; got "
            f"{given!r}"
        )
    return given


def _ranked(ids: pa.Array, text: str, limit: int, everything: bool) -> np.ndarray:
    """Rows of ids that hold a text, best fitting first, int64 [<= limit]."""
    if everything:
        return np.arange(min(limit, len(ids)))
    text = text.strip()
    holds = pc.match_substring(ids, text, ignore_case=True).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(holds)
    found = ids.take(pa.array(rows))
    begins = pc.starts_with(found, text, ignore_case=True).to_numpy(zero_copy_only=False)
    same = pc.equal(found, text).to_numpy(zero_copy_only=False)
    order = np.argsort(-(begins.astype(int) + 2 * same), kind="stable")
    return rows[order][:limit]


def _day(seconds: int) -> str:
    """A moment as ``2020-01-31 14:05``, UTC; the number itself where no calendar has it."""
    try:
        return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return str(seconds)
