from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrec.config import Rule
from tfrec.data import DataError
from tfrec.data.convert import fails_rule, to_attribute, to_id, to_number, to_seconds
from tfrec.schema import Feature


@given(st.lists(st.one_of(st.text("0123456789.eE+- xna", max_size=6), st.none()), max_size=30))
def test_numbers_are_read_as_python_reads_them(values: list[str | None]) -> None:
    numbers, bad = to_number(pa.array(values, pa.string()))
    for value, number, wrong in zip(values, numbers, bad, strict=True):
        text = (value or "").strip()
        if not text:
            assert math.isnan(number)
            assert not wrong
            continue
        try:
            expected = float(text)
        except ValueError:
            expected = math.nan
        assert wrong == (not math.isfinite(expected))
        if not wrong:
            assert number == pytest.approx(expected)


def test_true_numbers_that_are_not_finite_are_bad_and_missing_ones_are_not() -> None:
    numbers, bad = to_number(pa.array([1, None, math.nan, math.inf], pa.float32()))
    assert bad.tolist() == [False, False, True, True]
    assert numbers[0] == 1
    assert np.isnan(numbers[1:]).all()


def test_ids_lose_a_fraction_of_zero_and_blanks() -> None:
    ids, missing = to_id(pa.array(["17850.0", " a ", "1.50", "", None, "nan", "85123A"]))
    assert ids.to_pylist() == ["17850", "a", "1.50", None, None, "nan", "85123A"]
    assert missing.tolist() == [False, False, False, True, True, True, False]
    ids, missing = to_id(pa.array([7.0, None]))
    assert ids.to_pylist() == ["7", None]
    assert missing.tolist() == [False, True]


@given(st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2900, 1, 1)))
def test_times_are_seconds_in_utc(moment: dt.datetime) -> None:
    moment = moment.replace(microsecond=0)
    seconds = int(moment.replace(tzinfo=dt.timezone.utc).timestamp())
    formats = {
        "seconds": str(seconds),
        "milliseconds": str(seconds * 1000 + 999),
        "iso": moment.isoformat(),
        "%Y-%m-%d %H:%M:%S": moment.strftime("%Y-%m-%d %H:%M:%S"),
        "%Y/%m/%d %H:%M:%S.%f": moment.strftime("%Y/%m/%d %H:%M:%S.250000"),
    }
    for pattern, text in formats.items():
        found, bad = to_seconds(pa.array([text]), pattern)
        assert (found[0], bad[0]) == (seconds, False), pattern
    found, _ = to_seconds(pa.array([moment], pa.timestamp("us")), "seconds")
    assert found[0] == seconds


def test_zones_are_applied() -> None:
    found, bad = to_seconds(pa.array(["1970-01-01T02:00:00+01:00", "1970-01-01T01:00:00Z"]), "iso")
    assert found.tolist() == [3600, 3600]
    assert not bad.any()


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("seconds", "yesterday"),
        ("seconds", "-5"),
        ("seconds", "978300760000"),  # milliseconds taken for seconds
        ("seconds", None),
        ("iso", "2020-13-01"),
        ("%Y-%m-%d", "2020-02-31x"),
        ("%Y-%m-%d", "1950-01-01"),
    ],
)
def test_impossible_times_are_bad(pattern: str, text: str | None) -> None:
    assert to_seconds(pa.array([text], pa.string()), pattern)[1].tolist() == [True]


def attribute(values: pa.Array, **feature: object) -> tuple[list, list[bool]]:
    made = Feature(name="x", role="item", **feature) if feature else None  # type: ignore[arg-type]
    array, bad = to_attribute(values, made)
    return array.to_pylist(), bad.tolist()


def test_the_feature_decides_the_type_of_an_attribute() -> None:
    assert attribute(pa.array(["2", "x", None]), kind="numeric") == (
        [2.0, None, None],
        [False, True, False],
    )
    assert attribute(pa.array(["2.0", "1 L"]), kind="categorical")[0] == ["2", "1 L"]
    assert attribute(pa.array([3, 4]), kind="categorical")[0] == ["3", "4"]
    assert attribute(pa.array(["2.0"]), kind="text")[0] == ["2.0"]
    lists, _ = attribute(pa.array(["a| b ||", None, ""]), kind="multi", separator="|")
    assert lists == [["a", "b"], None, None]
    assert attribute(pa.array(["a|b"]), kind="multi")[0] == [["a|b"]]
    assert attribute(pa.array([["a"], None]), kind="multi")[0] == [["a"], None]
    vectors, bad = attribute(
        pa.array(["[1, 2.5]", "1;2", "1 2 3", "1,x", None]), kind="embedding", dim=2
    )
    assert vectors[:2] == [[1.0, 2.5], [1.0, 2.0]]
    assert vectors[4] is None
    assert bad == [False, False, True, True, False]


def test_columns_that_are_no_feature_keep_their_kind() -> None:
    assert attribute(pa.array([1, None])) == ([1.0, None], [False, False])
    assert attribute(pa.array([b"png", None]))[0] == [b"png", None]
    assert attribute(pa.array([[1.5], [2.0]]))[0] == [[1.5], [2.0]]
    assert attribute(pa.array([" 2.0 "]))[0] == ["2.0"]


@pytest.mark.parametrize(
    ("rule", "failing"),
    [
        ({"min": 1}, ["0.5", "x", None]),
        ({"max": 2, "min": 0}, ["x", "3", None]),
        ({"pattern": "[a-z]"}, ["0.5", "3", "2", None]),
        ({"reject_pattern": r"\d.*"}, ["0.5", "3", "2"]),
    ],
)
def test_rules(rule: dict, failing: list) -> None:
    values = ["0.5", "x", "3", "2", None]
    found = fails_rule(pa.array(values), Rule(column="c", reason="r", **rule))
    assert sorted(map(str, np.array(values, object)[found])) == sorted(map(str, failing))


def test_a_rule_with_a_broken_pattern_is_named() -> None:
    with pytest.raises(DataError, match=r"rule 'r'.*RE2"):
        fails_rule(pa.array(["a"]), Rule(column="c", reason="r", pattern="("))
