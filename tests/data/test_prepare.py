from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tfrec.config import Config
from tfrec.data import DataError, Summary, prepare, read_tables, write_tables
from tfrec.data import prepare as prepare_function
from tfrec.data.progress import progress

LOG = {
    "file": "log.csv",
    "columns": {"user_id": "u", "item_id": "i", "timestamp": "t"},
}
TEXT = "u,i,t\na,x,3\na,x,1\na,y,2\nb,x,5\n"


def test_the_same_configuration_and_input_return_at_once(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", TEXT)
    config = configure(format="columns", interactions=LOG)
    first = prepare(config, tmp_path / "out")
    part = next((tmp_path / "out" / "interactions").iterdir())
    made = part.stat().st_mtime_ns
    assert prepare(config, tmp_path / "out") == first == Summary.read(tmp_path / "out")
    assert part.stat().st_mtime_ns == made

    write("log.csv", TEXT + "c,z,9\n")
    again = prepare(config, tmp_path / "out")
    assert (again.rows_out, first.rows_out) == (5, 4)
    other = configure(format="columns", interactions=LOG, min_user_events=2)
    assert prepare(other, tmp_path / "out").rows_out == 3
    typed = configure(
        [{"name": "y", "role": "item", "kind": "numeric"}], format="columns", interactions=LOG
    )
    assert prepare(typed, tmp_path / "out").fingerprint != again.fingerprint
    assert not list(tmp_path.glob(".out*"))


def test_moving_the_input_changes_nothing(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    prints = []
    for folder in ("here", "there"):
        write(f"{folder}/log.csv", TEXT)
        config = configure(format="columns", interactions=LOG, path=str(tmp_path / folder))
        prints.append(prepare(config, tmp_path / f"{folder}-out").fingerprint)
    assert prints[0] == prints[1]


def test_a_failure_leaves_what_was_there(
    write: Callable[..., Path],
    configure: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("log.csv", TEXT)
    config = configure(format="columns", interactions=LOG)
    prepare(config, tmp_path / "out")
    write("log.csv", "u,i,t\nb,y,never\n")
    with pytest.raises(DataError):
        prepare(config, tmp_path / "out")
    assert read_tables(tmp_path / "out").interactions.num_rows == 4

    write("log.csv", TEXT + "c,z,9\n")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules[prepare_function.__module__], "write_tables", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(config, tmp_path / "out")
    assert read_tables(tmp_path / "out").interactions.num_rows == 4
    assert not list(tmp_path.glob(".out*"))


def test_repeats_first_keeps_the_earliest_event_of_a_pair(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", TEXT)
    config = configure(format="columns", interactions=LOG, repeats="first")
    summary = prepare(config, tmp_path / "out")
    log = read_tables(tmp_path / "out").interactions
    assert log.column("timestamp").to_pylist() == [1, 2, 5]
    assert summary.filtered == {"repeats": 1}


def test_filters_that_leave_nothing_say_so(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", TEXT)
    config = configure(format="columns", interactions=LOG, min_user_events=9)
    with pytest.raises(DataError, match=r"got none of 4 rows.*'min_user_events': 4"):
        prepare(config, tmp_path / "out")


def test_canonical_input_is_checked_and_filtered(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", TEXT)
    prepare(configure(format="columns", interactions=LOG), tmp_path / "first")
    tables = read_tables(tmp_path / "first")
    write_tables(tables, tmp_path / "mine")
    config = configure(format="canonical", path=str(tmp_path / "mine"), min_user_events=2)
    summary = prepare(config, tmp_path / "second")
    assert (summary.rows_in, summary.rows_out, summary.users) == (4, 3, 1)


def test_numeric_columns_that_are_no_feature(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", "u,i,t,paid,code\na,x,3,2.50,007\nb,x,4,,008\nb,x,5,free,009\n")
    columns = {**LOG["columns"], "paid": "paid", "code": "code"}  # type: ignore[dict-item]
    config = configure(
        format="columns",
        interactions={**LOG, "columns": columns, "numeric": ["paid"]},
        max_bad_rate=1,
    )
    summary = prepare(config, tmp_path / "out")
    log = read_tables(tmp_path / "out").interactions
    assert log.column("paid").to_pylist() == [2.5, None]
    assert log.column("code").to_pylist() == ["007", "008"]
    assert summary.quarantined == {"log.csv": {"not_a_number": 1}}


def test_a_folder_of_others_is_never_replaced(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", TEXT)
    write("home/letter.txt", "dear")
    config = configure(format="columns", interactions=LOG)
    with pytest.raises(DataError, match="choose another"):
        prepare(config, tmp_path / "home")
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    assert prepare(config, tmp_path / "empty").rows_out == 4


def test_users_and_items_from_one_other_file_are_counted_apart(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", TEXT)
    write("both.csv", "u,i,age\na,x,30\nb,y,40\n,,\n")
    config = configure(
        format="columns",
        interactions=LOG,
        users={"file": "both.csv", "columns": {"user_id": "u", "age": "age"}},
        items={"file": "both.csv", "columns": {"item_id": "i"}},
        max_bad_rate=0.4,
    )
    summary = prepare(config, tmp_path / "out")
    assert summary.quarantined == {
        "both.csv": {"missing_user_id": 1},
        "both.csv#2": {"missing_item_id": 1},
    }


def test_summary_json_is_plain(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("log.csv", TEXT)
    prepare(configure(format="columns", interactions=LOG), tmp_path / "out")
    values = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert values["rows_in"] == values["rows_out"] == 4
    assert (values["time_min"], values["time_max"]) == (1, 5)


def test_the_bar_is_drawn_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("reading", 10) as advance:
        advance(5)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with progress("reading", 10) as advance:
        advance(10)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading" in err
