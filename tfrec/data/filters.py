"""Which well-formed events are kept, and whose attributes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import DataConfig
from tfrec.data.duplicates import first_rows
from tfrec.schema import EVENT, ITEM_ID, TIMESTAMP, USER_ID, WEIGHT


def has_filters(data: DataConfig) -> bool:
    """Whether events may be dropped after reading."""
    return (
        data.min_rating is not None
        or data.events is not None
        or data.repeats == "first"
        or data.min_item_events > 1
        or data.min_user_events > 1
    )


def apply_filters(events: pa.Table, data: DataConfig) -> Iterator[tuple[str, pa.Table]]:
    """Each filter's name and the events left after it."""
    if data.events is not None:
        events = events.filter(pc.is_in(events.column(EVENT), pa.array(data.events)))
        yield "events", events
    if data.min_rating is not None:
        events = events.filter(pc.greater_equal(events.column(WEIGHT), data.min_rating))
        yield "min_rating", events
    if data.repeats == "first":
        by_time = np.argsort(events.column(TIMESTAMP).to_numpy(), kind="stable")
        pairs = events.select([USER_ID, ITEM_ID, EVENT]).take(pa.array(by_time))
        events = events.take(pa.array(np.sort(by_time[first_rows(pairs)])))
        yield "repeats", events
    for name, key, least in (
        ("min_item_events", ITEM_ID, data.min_item_events),
        ("min_user_events", USER_ID, data.min_user_events),
    ):
        if least > 1 and events.num_rows:
            counts = events.select([key]).group_by([key]).aggregate([([], "count_all")])
            enough = counts.filter(pc.greater_equal(counts.column("count_all"), least))
            ids = enough.column(key).combine_chunks()
            events = events.filter(pc.is_in(events.column(key), ids))
            yield name, events


def of_events(attributes: pa.Table, events: pa.Table, key: str, keep_cold: bool) -> pa.Table:
    """Attributes of the ids that have events, in order of appearance; null where unknown."""
    ids = pc.unique(events.column(key))
    known = attributes.column(key).combine_chunks()
    if keep_cold:
        ids = pa.concat_arrays([ids, known.filter(pc.invert(pc.is_in(known, ids)))])
    taken = attributes.take(pc.index_in(ids, known))
    return taken.set_column(taken.column_names.index(key), key, ids)
