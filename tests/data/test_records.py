from __future__ import annotations

import csv
import io

from hypothesis import given, settings
from hypothesis import strategies as st

from tfrec.data.records import UNBALANCED_QUOTE, WRONG_ARITY, Records, count_fields, split_records

COMMA = ord(",")
field = st.text(alphabet='ab ,"\n\r', max_size=6)


def spans(data: bytes, records: Records) -> list[bytes]:
    return [data[a:b] for a, b in zip(records.starts, records.ends, strict=True)]


@given(st.lists(st.lists(field, min_size=3, max_size=3), min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_well_formed_csv_is_cut_where_the_csv_module_cuts_it(rows: list[list[str]]) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    data = buffer.getvalue().encode()
    records = split_records(data, COMMA, 3, quoting=True, final=True)
    assert not records.bad
    cut = [next(csv.reader(io.StringIO(s.decode(), newline=""))) for s in spans(data, records)]
    assert cut == rows


@given(st.lists(st.text(alphabet="ab,", max_size=8), min_size=1, max_size=20))
def test_without_quotes_arity_alone_decides(lines: list[str]) -> None:
    data = ("\n".join(lines) + "\n").encode()
    records = split_records(data, COMMA, 3, quoting=False, final=True)
    good = [line.encode() for line in lines if line.count(",") == 2]
    assert spans(data, records) == good
    bad = [(i, WRONG_ARITY) for i, s in enumerate(lines) if s and s.count(",") != 2]
    assert [(line, reason) for line, _, _, reason in records.bad] == bad
    assert records.lines.tolist() == [i for i, s in enumerate(lines) if s.count(",") == 2]


@given(st.text(alphabet='ab,"', max_size=12))
@settings(max_examples=300)
def test_count_fields_agrees_with_the_csv_module(text: str) -> None:
    # A closing quote at the end of the line is what keeps the csv module from reading on.
    found = count_fields(text.encode(), COMMA)
    closed = next(csv.reader([text, "MARK"]), [])
    if found is None:
        assert any("MARK" in value for value in closed)
    else:
        assert found == max(len(closed), 1)


def test_a_quote_that_never_closes_costs_only_its_own_line() -> None:
    data = b'1,"open,2\n' + b"1,2,3\n" * 200
    records = split_records(data, COMMA, 3, quoting=True, final=True)
    assert [(line, reason) for line, _, _, reason in records.bad] == [(0, UNBALANCED_QUOTE)]
    assert len(records.starts) == 200


def test_inch_marks_inside_plain_fields_are_text() -> None:
    data = b'1,5" plate,3\n1,3" and 4",3\n1,a" b,c" d\n'
    records = split_records(data, COMMA, 3, quoting=True, final=True)
    assert not records.bad
    assert len(records.starts) == 3


def test_a_record_open_at_the_end_of_a_block_is_carried_over() -> None:
    data = b'1,2,3\n4,"five\n'
    records = split_records(data, COMMA, 3, quoting=True, final=False)
    assert spans(data, records) == [b"1,2,3"]
    assert (records.consumed, records.consumed_lines) == (6, 1)
    whole = data + b'and",6\n'
    assert len(split_records(whole, COMMA, 3, quoting=True, final=False).starts) == 2


def test_blank_lines_and_carriage_returns_are_no_rows() -> None:
    data = b"1,2,3\r\n\r\n\n4,5,6\r\n"
    records = split_records(data, COMMA, 3, quoting=True, final=True)
    assert spans(data, records) == [b"1,2,3", b"4,5,6"]
    assert records.lines.tolist() == [0, 3]
