"""Labels of many objectives from a log of events of several kinds.

A user looks at an item, looks again, buys it: three events, one decision. Events of the same user
and item that follow one another within ``window`` seconds are one *encounter*. Its first event
carries the labels of all of them; the others carry none (NaN), so that no row is trained on twice
and a click that led to a purchase is no click that did not.

Labels are made within one split: what came later is not known to training.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config.objectives import Objective, Objectives
from tfrec.schema import EVENT, ITEM_ID, TIMESTAMP, USER_ID

PREFIX = "objective_"  # of the columns that carry the labels through the pipeline
OBSERVED = "observed"  # beside them: 1 for events, 0 for sampled items that nobody had


def column_of(name: str) -> str:
    """The column that carries an objective's labels."""
    return PREFIX + name


def columns_of(objectives: Objectives) -> list[str]:
    """All columns that rows of the pipeline have more, where there are objectives."""
    return [*(column_of(name) for name in objectives), OBSERVED] if objectives else []


def _codes(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)


def encounters(
    user: np.ndarray, item: np.ndarray, time: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which events belong together.

    Args:
        user, item: int64 [event], any codes.
        time: int64 [event], seconds.
        window: most seconds between two events of one encounter.

    Returns:
        int64 [event], the number of the encounter, and int64 [encounter], the position of its first
        event (of equal times the first in the log).
    """
    n = len(user)
    if n == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.lexsort((np.arange(n), time, item, user))
    new = np.ones(n, bool)
    same = (np.diff(user[order]) == 0) & (np.diff(item[order]) == 0)
    new[1:] = ~same | (np.diff(time[order]) > window)
    number = np.empty(n, np.int64)
    number[order] = np.cumsum(new) - 1
    return number, order[new]


def _numbers(name: str, events: pa.Table, items: pa.Table) -> np.ndarray:
    """A column of the events, or of their items; float64 [event], NaN where there is none."""
    if name in events.column_names:
        column = events.column(name)
    elif name in items.column_names:
        ids = (pc.cast(t.column(ITEM_ID).combine_chunks(), pa.string()) for t in (events, items))
        at = pc.index_in(*ids)
        column = items.column(name).combine_chunks().take(at)
    else:
        raise ValueError(
            f"an objective reads a column of the interactions, {events.column_names}, or of the "
            f"items, {items.column_names}; got {name!r}; mend 'column' or 'times', or read the "
            f"column under interactions.columns and interactions.numeric"
        )
    try:
        values = pc.cast(column, pa.float64())
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"an objective's column holds numbers; {name!r} does not: {error}"
        ) from None
    return (
        values.to_numpy(zero_copy_only=False)
        if isinstance(values, pa.Array)
        else (values.combine_chunks().to_numpy(zero_copy_only=False))
    )


def _of_kind(events: pa.Table, objective: Objective) -> np.ndarray:
    """Which events count, bool [event]."""
    if objective.events is None:
        return np.ones(events.num_rows, bool)
    if EVENT not in events.column_names:
        raise ValueError(
            f"objectives of the events {list(objective.events)} need the column {EVENT!r}; the "
            f"interactions have {events.column_names}"
        )
    kinds = pa.array(objective.events, pa.string())
    return pc.is_in(pc.cast(events.column(EVENT), pa.string()), kinds).to_numpy()


def objective_labels(
    events: pa.Table,
    items: pa.Table,
    objectives: Objectives,
    window: int,
    part: np.ndarray | None = None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Labels of events.

    Args:
        events: canonical interactions of one split, in any order.
        items: canonical items; their columns serve where the events lack one.
        objectives: by name.
        window: seconds; see the module.
        part: int [event]; events of different parts (splits) never belong together. None: one.

    Returns:
        By objective float32 [event]: 0 or 1 (``binary``), the mean (``rating``, NaN without one) or
        the sum (``spend``) over the event's encounter; and bool [event], True for the first event
        of each encounter. Rows that are not first have the labels of their encounter, too: take
        the first ones.

    Raises:
        ValueError: a column that is not there or holds no numbers.
    """
    user, item = _codes(events.column(USER_ID)), _codes(events.column(ITEM_ID))
    if part is not None:
        user = user * (int(part.max(initial=0)) + 1) + part
    time = events.column(TIMESTAMP).to_numpy().astype(np.int64)
    number, first = encounters(user, item, time, window)
    is_first = np.zeros(events.num_rows, bool)
    is_first[first] = True
    out = {}
    for name, objective in objectives.items():
        counts = _of_kind(events, objective)
        kind = objective.kind_of(name)
        if kind == "binary":
            found = np.bincount(number[counts], minlength=len(first)) > 0
            out[name] = found[number].astype(np.float32)
            continue
        values = _numbers(objective.column, events, items)
        if objective.times is not None:
            values = values * _numbers(objective.times, events, items)
        counts = counts & np.isfinite(values)
        total = np.bincount(number[counts], values[counts], minlength=len(first))
        if kind == "rating":
            many = np.bincount(number[counts], minlength=len(first))
            total = np.divide(total, many, out=np.full(len(first), np.nan), where=many > 0)
        out[name] = total[number].astype(np.float32)
    return out, is_first


def row_labels(
    events: pa.Table,
    items: pa.Table,
    objectives: Objectives,
    window: int,
    part: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """``objective_labels`` with NaN on all but the first event of an encounter, float32 [event]."""
    found, first = objective_labels(events, items, objectives, window, part)
    return {name: np.where(first, values, np.float32(np.nan)) for name, values in found.items()}


def unobserved_label(objectives: Objectives) -> np.ndarray:
    """Labels of an item that the user never met: nothing happened; float32 [objective]."""
    kinds = [objective.kind_of(name) for name, objective in objectives.items()]
    return np.array([np.nan if kind == "rating" else 0.0 for kind in kinds], np.float32)
