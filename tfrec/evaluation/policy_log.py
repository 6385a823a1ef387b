"""The log that off-policy estimates read: a Parquet file, one row a request.

| column | type | |
|---|---|---|
| `propensity` | float, or list of float | the logging policy's chance of each place |
| `reward` | the same | what each place earned |
| `target` | the same | the new policy's chance of what was shown; may come later |
| `predicted`, `expected` | the same | of a reward model; optional |

and whatever else describes the request: `user_id`, `item_id` (list), `seed`, `timestamp` ...
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrec.evaluation.off_policy import Log

NEEDED = ("propensity", "reward", "target")
OPTIONAL = ("predicted", "expected")
NEUTRAL = {"propensity": 1.0, "target": 1.0, "reward": 0.0, "predicted": 0.0, "expected": 0.0}


def _column(table: pa.Table, name: str) -> np.ndarray:
    """float64 [row] or, for lists, [row, longest] with the neutral number behind short ones."""
    column = table.column(name).combine_chunks()
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
    length = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    flat = pc.cast(pc.list_flatten(column), pa.float64()).to_numpy(zero_copy_only=False)
    out = np.full((len(length), max(int(length.max(initial=0)), 1)), NEUTRAL[name])
    out[np.arange(out.shape[1]) < length[:, None]] = flat
    return out


def to_log(table: pa.Table) -> Log:
    """The arrays of a log.

    Args:
        table: with the columns above; lists may differ in length from row to row, but not between
            the columns of a row.

    Raises:
        ValueError: a column is missing, has nulls, or its lists are of other lengths.
    """
    missing = [name for name in NEEDED if name not in table.column_names]
    if missing:
        raise ValueError(
            f"a log has the columns {list(NEEDED)}; missing are {missing} (there are "
            f"{table.column_names}); 'target' is the new policy's chance of what was shown, e.g. "
            f"by tfrec.rerank.explore.propensity_of"
        )
    names = [*NEEDED, *(name for name in OPTIONAL if name in table.column_names)]
    lengths = {}
    for name in names:
        if nulls := table.column(name).null_count:
            raise ValueError(
                f"column {name!r} has {nulls} rows without a value; leave them out of the log, or "
                f"write 0 where nothing was earned"
            )
        if pa.types.is_list(table.schema.field(name).type):
            lengths[name] = pc.list_value_length(table.column(name).combine_chunks())
    for name, length in lengths.items():
        if not length.equals(lengths[next(iter(lengths))]):
            raise ValueError(
                f"the lists of a row are of one length in every column; {name!r} differs from "
                f"{next(iter(lengths))!r}"
            )
    return Log(**{name: _column(table, name) for name in names})


def read_log(path: str | Path) -> Log:
    """The arrays of a Parquet log; see ``to_log``."""
    known = pq.read_schema(path).names
    names = [name for name in (*NEEDED, *OPTIONAL) if name in known]
    return to_log(pq.read_table(path, columns=names))
