"""Sections about the data: where the log lies, how it is read and split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tfrec.config.base import Frozen


class Rule(Frozen):
    """A row of the raw file is kept only where this holds; else it is quarantined with ``reason``.

    Attributes:
        column: column of the raw file.
        reason: the name under which failing rows are counted.
        min, max: bounds of a number, both inclusive.
        pattern: regular expression that the whole text must match.
        reject_pattern: regular expression that the whole text must not match.
    """

    column: str
    reason: str
    min: float | None = None
    max: float | None = None
    pattern: str | None = None
    reject_pattern: str | None = None


class TableMap(Frozen):
    """How one raw CSV or Parquet file becomes a canonical table.

    Attributes:
        file: path relative to ``data.path``; plain or gzipped CSV, TSV, or Parquet.
        columns: canonical name -> column of the file. ``event`` (default ``purchase``), ``weight``
            (default 1) and ``timestamp`` (default: the order of the file) may be left out.
        separator, encoding, header: of a CSV file; ``header: false`` numbers the columns c0, c1 ...
        quoting: fields may stand in double quotes, which may hold separators and line ends.
        timestamp_format: ``seconds``, ``milliseconds``, ``iso`` or a ``strptime`` pattern (UTC).
        numeric: canonical columns that are read as numbers though they are no feature.
        missing: texts that stand for no value, as ``NA`` or ``unknown``, in attributes and context
            columns; an empty field always does.
        rules: conditions on the raw columns.
    """

    file: str
    columns: dict[str, str]
    separator: str = ","
    encoding: str = "utf-8"
    header: bool = True
    quoting: bool = True
    timestamp_format: str = "seconds"
    numeric: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()


class DataConfig(Frozen):
    """Where the raw log lies and how it is read.

    Attributes:
        format: the adapter.
        path: file or folder of the raw data, relative to the configuration's folder.
        interactions, users, items: column maps for format ``columns``. ``users`` and ``items`` may
            name the same file as ``interactions``: each id then takes its most frequent value.
        min_rating: for rating sets: events rated below are dropped for retrieval (None keeps all).
        min_item_events, min_user_events: items, then users, with fewer events are dropped.
        max_bad_rate: share of malformed rows above which reading stops.
        repeats: ``first`` keeps only each user's first event of a kind with an item, so that what
            is tested was not seen before; ``keep`` keeps all.
        events: kinds of event that are kept, as ``[purchase]``; None keeps all.
        keep_cold: keep users and items of the attribute files that have no event.
        rows, users_count, items_count, seed: size and seed of format ``synthetic``.
        image_files: item column of kind ``image`` -> where its files lie below ``data.path``, as
            ``posters/{item_id}.jpg``; in braces ``item_id`` or a text column of the items. An item
            without a file has no image.
        images: format ``synthetic`` gives each item a small PNG.
        clicks: format ``synthetic`` adds so many click events a purchase, on average.
    """

    format: Literal["columns", "canonical", "synthetic", "movielens_1m", "movielens_100k", "ncf"]
    path: str | None = None
    interactions: TableMap | None = None
    users: TableMap | None = None
    items: TableMap | None = None
    min_rating: float | None = None
    min_item_events: int = Field(default=1, ge=1)
    min_user_events: int = Field(default=1, ge=1)
    max_bad_rate: float = Field(default=0.01, ge=0, le=1)
    repeats: Literal["keep", "first"] = "keep"
    events: tuple[str, ...] | None = None
    keep_cold: bool = False
    rows: int = Field(default=20_000, ge=1)
    users_count: int | None = Field(default=None, ge=1)
    items_count: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    image_files: dict[str, str] = Field(default_factory=dict)
    images: bool = False
    clicks: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.format == "columns" and self.interactions is None:
            raise ValueError("format 'columns' needs the section 'interactions' with a column map")
        if self.format != "synthetic" and self.path is None:
            raise ValueError(f"format {self.format!r} needs 'path'")
        if self.image_files and self.path is None:
            raise ValueError("'image_files' lie below 'path', which is not given")
        return self


class SplitConfig(Frozen):
    """Which events train, which validate, which test.

    Attributes:
        method: ``last_out`` (each user's last event tests, the one before validates), ``time``
            (global: the latest ``test`` share of events tests, the ``validation`` share before it
            validates) or ``random``.
        validation, test: shares of events for ``time`` and ``random``.
        seed: of ``random``.
    """

    method: Literal["last_out", "time", "random"] = "last_out"
    validation: float = Field(default=0.1, ge=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> SplitConfig:
        if self.validation + self.test > 0.999:
            raise ValueError(
                f"validation + test leave a share for training; got {self.validation} + {self.test}"
            )
        return self
