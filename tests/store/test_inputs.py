"""Columns of the store as inputs of a signature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tfrec.store.inputs import as_input

TEXT, FLOAT, INT = np.dtype(object), np.dtype(np.float32), np.dtype(np.int64)
nan = float("nan")
ROWS = np.array([1, -1, 0, 2, 1])  # key 2 has nothing


@pytest.mark.parametrize(
    ("values", "kind", "dtype", "shape", "expected"),
    [
        (["a", "ü", None], pa.string(), TEXT, (None,), ["ü", "", "a", "", "ü"]),
        (["a", "b", None], pa.string(), TEXT, (None, None), [["b"], [""], ["a"], [""], ["b"]]),
        ([3.0, 2.5, None], pa.float32(), TEXT, (None,), ["2.5", "", "3", "", "2.5"]),
        ([3, 2, None], pa.int64(), TEXT, (None,), ["2", "", "3", "", "2"]),
        ([3.5, 2.5, None], pa.float32(), FLOAT, (None,), [2.5, nan, 3.5, nan, 2.5]),
        ([3, 2, None], pa.int64(), FLOAT, (None,), [2, nan, 3, nan, 2]),
        ([3, 2, None], pa.int64(), INT, (None,), [2, 0, 3, 0, 2]),
        (
            [["a", "b", "c"], ["d"], None],
            pa.list_(pa.string()),
            TEXT,
            (None, None),
            [["d", "", "", ""], [""] * 4, ["a", "b", "c", ""], [""] * 4, ["d", "", "", ""]],
        ),
        (
            [["a", "b", "c"], ["d"], None],
            pa.list_(pa.string()),
            TEXT,
            (None, 2),
            [["d", ""], ["", ""], ["b", "c"], ["", ""], ["d", ""]],
        ),
        (
            [[1, 2], [3, 4], None],
            pa.list_(pa.float32(), 2),
            FLOAT,
            (None, 2),
            [[3, 4], [nan, nan], [1, 2], [nan, nan], [3, 4]],
        ),
        (
            [[1, 2], [], None],
            pa.list_(pa.int64()),
            INT,
            None,
            [[0, 0], [0, 0], [1, 2], [0, 0], [0, 0]],
        ),
    ],
)
def test_each_kind(
    values: list[Any], kind: pa.DataType, dtype: Any, shape: Any, expected: list[Any]
) -> None:
    found = as_input(pa.array(values, kind), ROWS, dtype, shape)
    assert found is not None
    assert found.dtype == dtype
    if dtype == TEXT:
        assert np.vectorize(bytes.decode, otypes=[object])(found).tolist() == expected
    else:
        np.testing.assert_array_equal(found, expected)


def test_what_does_not_fit_is_left_to_the_defaults() -> None:
    rows = np.array([0])
    for values, dtype, shape in [
        (pa.array(["a"]), FLOAT, (None,)),
        (pa.array([1.5]), INT, (None,)),
        (pa.array([["a"]]), TEXT, (None,)),
        (pa.array(["a"]), TEXT, (None, 3)),
        (pa.array(["a"]), TEXT, ()),
        (pa.array(["a"]), TEXT, (None, None, None)),
        (pa.array(["a"]), np.dtype(bool), (None,)),
    ]:
        assert as_input(values, rows, dtype, shape) is None


def test_nobody_known_at_all() -> None:
    nobody = as_input(pa.array([None, None], pa.list_(pa.string())), np.array([0, 1]), TEXT, None)
    assert nobody is not None
    assert nobody.tolist() == [[b""], [b""]]
