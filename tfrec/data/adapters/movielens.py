"""MovieLens 1M and 100K as GroupLens publishes them, and 100K as RecBole's atomic files.

Codes become readable strings; titles lose their year, which becomes a column.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfrec.config import TableMap
from tfrec.data.adapters.attributes import read_attributes
from tfrec.data.adapters.events import read_interactions
from tfrec.data.convert import to_number
from tfrec.data.files import find_file
from tfrec.data.quarantine import Quarantine
from tfrec.data.tables import Tables
from tfrec.schema import FeatureTable

EVENT = "rating"
GENDERS = {"F": "female", "M": "male"}
# GroupLens' README of ml-1m.
AGES = {
    "1": "under 18",
    "18": "18-24",
    "25": "25-34",
    "35": "35-44",
    "45": "45-49",
    "50": "50-55",
    "56": "56+",
}
OCCUPATIONS = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)
GENRES_100K = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_PLAIN = FeatureTable()  # attributes come as text; this file gives them their types


def _map(names: tuple[str, ...], separator: str, encoding: str, header: bool = False) -> TableMap:
    columns = {n.split(":")[0]: n for n in names}
    return TableMap(
        file="",
        columns=columns,
        separator=separator,
        encoding=encoding,
        header=header,
        quoting=False,
    )


def _ratings(path: Path, separator: str, quarantine: Quarantine) -> pa.Table:
    """Interactions of a GroupLens file: user, item, rating, seconds; Latin-1, no header."""
    names = ("user_id", "item_id", "weight", "timestamp")
    table = _map(names, separator, "latin-1")
    events, _ = read_interactions(path, table, _PLAIN, quarantine, names=names, event=EVENT)
    return events


def _rows(path: Path, names: tuple[str, ...], separator: str, quarantine: Quarantine) -> pa.Table:
    """Attributes of a GroupLens file, all as text; the first column is the id."""
    table = _map(names, separator, "latin-1")
    return read_attributes(path, table, names[0], _PLAIN, quarantine, names)


def read_movielens_1m(folder: Path, quarantine: Quarantine) -> Tables:
    """Reads ``ratings.dat``, ``users.dat`` and ``movies.dat`` (``::``, Latin-1; plain or .gz).

    Returns:
        ``weight`` is the rating. Users: gender, age, occupation, zip_code. Items: title, year
        (float), genres (list of string).
    """
    events = _ratings(find_file(folder, "ratings.dat"), "::", quarantine)
    names = ("user_id", "gender", "age", "occupation", "zip_code")
    users = _rows(find_file(folder, "users.dat"), names, "::", quarantine)
    users = _readable(users, "gender", GENDERS)
    users = _readable(users, "age", AGES)
    users = _readable(users, "occupation", {str(i): name for i, name in enumerate(OCCUPATIONS)})
    return Tables(events, users, read_movies(folder, quarantine))


def read_movies(folder: Path, quarantine: Quarantine) -> pa.Table:
    """The movies of ml-1m: item_id, title, year, genres."""
    names = ("item_id", "title", "genres")
    items = _rows(find_file(folder, "movies.dat"), names, "::", quarantine)
    title, year = split_year(items.column("title"))
    return pa.table(
        {
            "item_id": items.column("item_id"),
            "title": title,
            "year": year,
            "genres": pc.split_pattern(items.column("genres"), "|"),
        }
    )


def read_movielens_100k(folder: Path, quarantine: Quarantine) -> Tables:
    """Reads ``u.data``, ``u.user``, ``u.item``, or ``ml-100k.inter``, ``.user``, ``.item``.

    Returns:
        ``weight`` is the rating. Users: gender, age (a band as in ml-1m), age_years (float),
        occupation, zip_code. Items: title, year (float), genres (list of string).
    """
    if any((folder / name).is_file() for name in ("u.data", "u.data.gz")):
        tables = _read_grouplens_100k(folder, quarantine)
    else:
        tables = _read_recbole_100k(folder, quarantine)
    users = _readable(tables.users, "gender", GENDERS)
    years, _ = to_number(users.column("age"))
    bounds = np.array([int(code) for code in AGES])
    bands = np.array(list(AGES.values()))[
        np.maximum(np.searchsorted(bounds, years, "right") - 1, 0)
    ]
    at = users.column_names.index("age")
    users = users.set_column(at, "age", pa.array(bands, pa.string(), mask=np.isnan(years)))
    users = users.append_column(
        "age_years", pa.array(years.astype(np.float32), mask=np.isnan(years))
    )
    return Tables(tables.interactions, users, tables.items)


def _read_grouplens_100k(folder: Path, quarantine: Quarantine) -> Tables:
    events = _ratings(find_file(folder, "u.data"), "\t", quarantine)
    names: tuple[str, ...] = ("user_id", "age", "gender", "occupation", "zip_code")
    users = _rows(find_file(folder, "u.user"), names, "|", quarantine)
    names = ("item_id", "title", "released", "video", "url", *GENRES_100K)
    items = _rows(find_file(folder, "u.item"), names, "|", quarantine)
    title, year = split_year(items.column("title"))
    flags = np.stack(
        [pc.equal(items.column(g), "1").to_numpy().astype(bool) for g in GENRES_100K], axis=1
    )
    offsets = pa.array(np.concatenate([[0], np.cumsum(flags.sum(axis=1))]), pa.int32())
    names_of = pa.array(GENRES_100K).take(pa.array(np.nonzero(flags)[1]))
    genres = pa.ListArray.from_arrays(offsets, names_of)
    items = pa.table(
        {"item_id": items.column("item_id"), "title": title, "year": year, "genres": genres}
    )
    return Tables(events, users, items)


def _read_recbole_100k(folder: Path, quarantine: Quarantine) -> Tables:
    def table(*names: str) -> TableMap:
        return _map(names, "\t", "utf-8", header=True)

    rated = table("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    columns = {("weight" if k == "rating" else k): v for k, v in rated.columns.items()}
    rated = rated.model_copy(update={"columns": columns})
    path = find_file(folder, "ml-100k.inter", "u.data")
    events, _ = read_interactions(path, rated, _PLAIN, quarantine, event=EVENT)
    names = ("user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token")
    people = table(*names)
    path = find_file(folder, "ml-100k.user")
    users = read_attributes(path, people, "user_id", _PLAIN, quarantine)
    films = table("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
    path = find_file(folder, "ml-100k.item")
    items = read_attributes(path, films, "item_id", _PLAIN, quarantine)
    years, _ = to_number(items.column("release_year"))
    items = pa.table(
        {
            "item_id": items.column("item_id"),
            "title": items.column("movie_title"),
            "year": pa.array(years.astype(np.float32), mask=np.isnan(years)),
            "genres": pc.split_pattern(items.column("class"), " "),
        }
    )
    return Tables(events, users, items)


def split_year(titles: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """``Heat (1995)`` becomes ``Heat`` and 1995.0 (null where there is no year)."""
    found = pc.extract_regex(titles, r"^(?P<title>.*?)\s*\((?P<year>\d{4})\)\s*$")
    title = pc.coalesce(pc.struct_field(found, "title"), titles)
    return title, pc.struct_field(found, "year").cast(pa.float32())


def _readable(table: pa.Table, column: str, names: dict[str, str]) -> pa.Table:
    """Replaces codes by their names; codes without a name stay as they are."""
    values = table.column(column)
    at = pc.index_in(values, pa.array(list(names)))
    readable = pc.coalesce(pa.array(list(names.values())).take(at), values)
    return table.set_column(table.column_names.index(column), column, readable)
