from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tfrec.config import Config
from tfrec.data import DataError, Tables, assign, prepare, read_tables, titles

RATINGS = "1::10::5::978300760\n1::20::3::978302109\n2::10::4::978301968\n"
USERS = "1::F::1::10::48067\n2::M::56::16::70072\n3::M::25::15::55117\n"
MOVIES = "10::Café: Noir (1995)::Drama|Film-Noir\n20::Untitled::Comedy\n30::Unseen (1990)::War\n"


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_movielens_1m_as_published(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path, gz: str
) -> None:
    write(f"raw/ratings.dat{gz}", RATINGS)
    write(f"raw/users.dat{gz}", USERS)
    write(f"raw/movies.dat{gz}", MOVIES.encode("latin-1"))
    config = configure(format="movielens_1m", path=str(tmp_path / "raw"))
    summary = prepare(config, tmp_path / "out")
    tables = read_tables(tmp_path / "out")
    assert (summary.rows_in, summary.rows_out, summary.users, summary.items) == (3, 3, 2, 2)
    assert summary.dropped_attributes == {"users": 1, "items": 1}
    assert (summary.time_min, summary.time_max) == (978300760, 978302109)
    assert tables.interactions.to_pylist()[1] == {
        "user_id": "1",
        "item_id": "20",
        "event": "rating",
        "weight": 3.0,
        "timestamp": 978302109,
    }
    assert tables.users.to_pylist() == [
        {
            "user_id": "1",
            "gender": "female",
            "age": "under 18",
            "occupation": "K-12 student",
            "zip_code": "48067",
        },
        {
            "user_id": "2",
            "gender": "male",
            "age": "56+",
            "occupation": "self-employed",
            "zip_code": "70072",
        },
    ]
    assert tables.items.to_pylist() == [
        {"item_id": "10", "title": "Café: Noir", "year": 1995.0, "genres": ["Drama", "Film-Noir"]},
        {"item_id": "20", "title": "Untitled", "year": None, "genres": ["Comedy"]},
    ]
    assert titles(tables.items) == ["Café: Noir", "Untitled"]


def test_a_broken_line_of_ratings_is_quarantined_as_it_stood(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("ratings.dat", RATINGS + "1:10::5::978300760\n")
    write("users.dat", USERS)
    write("movies.dat", MOVIES.encode("latin-1"))
    prepare(configure(format="movielens_1m", max_bad_rate=0.3), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "quarantine.jsonl").read_text()) == {
        "file": "ratings.dat",
        "line": 4,
        "reason": "wrong_arity",
        "raw": "1:10::5::978300760",
    }


def test_filters_drop_ratings_then_items_then_users(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    ratings = [
        ("1", "10", 5),
        ("1", "20", 5),
        ("1", "30", 2),  # rated too low
        ("2", "10", 4),
        ("2", "30", 5),  # 30 then has one event
        ("3", "10", 5),  # and user 3 has one
        ("4", "20", 5),
        ("4", "10", 5),
    ]
    text = "".join(f"{u}::{i}::{r}::{n}\n" for n, (u, i, r) in enumerate(ratings))
    write("ratings.dat", text)
    write("users.dat", USERS)
    write("movies.dat", MOVIES.encode("latin-1"))
    config = configure(format="movielens_1m", min_rating=4, min_item_events=2, min_user_events=2)
    summary = prepare(config, tmp_path / "out")
    assert summary.filtered == {"min_rating": 1, "min_item_events": 1, "min_user_events": 2}
    log = read_tables(tmp_path / "out").interactions
    pairs = zip(log.column("user_id").to_pylist(), log.column("item_id").to_pylist(), strict=True)
    assert list(pairs) == [("1", "10"), ("1", "20"), ("4", "20"), ("4", "10")]


def test_missing_files_are_named(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("ratings.dat", RATINGS)
    with pytest.raises(DataError, match=r"users.dat.*plain or .gz.*data.path"):
        prepare(configure(format="movielens_1m"), tmp_path / "out")
    with pytest.raises(DataError, match="existing file or folder"):
        prepare(configure(format="movielens_1m", path="/nowhere"), tmp_path / "out")


def expect_100k(tables: Tables) -> None:
    assert tables.interactions.to_pylist() == [
        {
            "user_id": "1",
            "item_id": "7",
            "event": "rating",
            "weight": 3.0,
            "timestamp": 881250949,
        },
    ]
    assert tables.users.to_pylist() == [
        {
            "user_id": "1",
            "age": "18-24",
            "gender": "male",
            "occupation": "technician",
            "zip_code": "85711",
            "age_years": 24.0,
        }
    ]
    assert tables.items.to_pylist() == [
        {"item_id": "7", "title": "Toy Story", "year": 1995.0, "genres": ["Animation", "Comedy"]}
    ]


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_movielens_100k_from_grouplens_and_from_recbole(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path, gz: str
) -> None:
    write(f"a/u.data{gz}", "1\t7\t3\t881250949\n")
    write(f"a/u.user{gz}", "1|24|M|technician|85711\n")
    flags = ["0"] * 19
    flags[3] = flags[5] = "1"
    item = ["7", "Toy Story (1995)", "01-Jan-1995", "", "http://x", *flags]
    write(f"a/u.item{gz}", "|".join(item) + "\n")
    write(
        f"b/ml-100k.inter{gz}",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t7\t3\t881250949\n",
    )
    write(
        f"b/ml-100k.user{gz}",
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "1\t24\tM\ttechnician\t85711\n",
    )
    write(
        f"b/ml-100k.item{gz}",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "7\tToy Story\t1995\tAnimation Comedy\n",
    )
    for name in ("a", "b"):
        config = configure(format="movielens_100k", path=str(tmp_path / name))
        summary = prepare(config, tmp_path / f"{name}-out")
        assert summary.rows_in == 1
        expect_100k(read_tables(tmp_path / f"{name}-out"))


def test_the_split_of_what_was_prepared_keeps_the_order_of_ties(
    write: Callable[..., Path], configure: Callable[..., Config], tmp_path: Path
) -> None:
    write("ratings.dat", "".join(f"1::{i}::3::100\n" for i in range(5)))
    write("users.dat", USERS)
    write("movies.dat", MOVIES.encode("latin-1"))
    config = configure(format="movielens_1m")
    prepare(config, tmp_path / "out")
    split = assign(read_tables(tmp_path / "out").interactions, config.split)
    assert split.to_pylist() == ["train", "train", "train", "eval", "test"]
