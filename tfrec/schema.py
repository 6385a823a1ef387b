"""The one table of features: what each column is, whose it is, and how it is encoded.

A column of the data becomes a feature of the models by one line in the configuration::

    features:
      - {name: gender, role: user, kind: categorical}
      - {name: genres, role: item, kind: multi, separator: "|"}
      - {name: price, role: item, kind: numeric, transform: log}

Ids are not listed: ``user_id`` and ``item_id`` are always there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["user", "item", "context"]
Kind = Literal["id", "categorical", "multi", "numeric", "text", "embedding"]

USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"
WEIGHT = "weight"
EVENT = "event"
HISTORY = "history"
LABEL = "label"
RESERVED = frozenset({TIMESTAMP, WEIGHT, EVENT, HISTORY, LABEL, "split"})

# Encoded indices: 0 is padding or a missing value, 1..V the vocabulary in descending frequency,
# V+1..V+oov_buckets the hashed unknown values.
PAD = 0


class Feature(BaseModel):
    """One column.

    Attributes:
        name: the column's name in the canonical tables.
        role: whose attribute it is: ``user``, ``item``, or ``context`` (of the single event).
        kind: ``id`` and ``categorical`` hold one string (whole numbers are read as their decimal
            text); ``multi`` a list of strings; ``numeric`` a float; ``text`` a string that is cut
            into lower-case words; ``embedding`` a vector of floats brought by the user.
        dim: width of the learned embedding; for kind ``embedding`` the length of the vector.
        max_vocabulary: most values kept; rarer ones share the hashed tail.
        min_count: values seen less often than this go to the tail.
        oov_buckets: buckets of the hashed tail.
        max_length: most values (``multi``) or words (``text``) kept a row.
        separator: splits a ``multi`` column that arrives as one string.
        transform: for ``numeric``: ``zscore``, ``log`` (log1p of the positive part, then z-score)
            or ``none``.
        clip: for ``numeric``: a z-score lies within ``-clip..clip`` standard deviations; what lies
            beyond is cut to the bound (not with transform ``none``) and counted as clipped.
        buckets: for ``numeric``: number of quantile buckets for the wide part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    role: Role
    kind: Kind
    dim: int = Field(default=16, ge=1, le=8192)
    max_vocabulary: int = Field(default=100_000, ge=1)
    min_count: int = Field(default=1, ge=1)
    oov_buckets: int = Field(default=1, ge=1)
    max_length: int = Field(default=16, ge=1)
    separator: str | None = None
    transform: Literal["zscore", "log", "none"] = "zscore"
    clip: float = Field(default=5.0, gt=0)
    buckets: int = Field(default=10, ge=2, le=1000)

    @model_validator(mode="after")
    def _check(self) -> Feature:
        if self.name in RESERVED:
            raise ValueError(f"the name {self.name!r} is reserved; rename the column")
        if self.kind == "id" and self.name not in (USER_ID, ITEM_ID):
            raise ValueError("kind 'id' is for user_id and item_id; use 'categorical'")
        if self.separator is not None and self.kind != "multi":
            raise ValueError(f"'separator' is for kind 'multi', not for {self.kind!r}")
        return self

    @property
    def is_lookup(self) -> bool:
        """True where the encoded feature is a vocabulary index (or several) to embed."""
        return self.kind in ("id", "categorical", "multi", "text")

    @property
    def is_sequence(self) -> bool:
        """True where a row holds several values (``multi``, ``text``)."""
        return self.kind in ("multi", "text")


class FeatureTable(BaseModel):
    """All features of a model, ids included, in a fixed order.

    Raises:
        ValueError: a name stands twice, or an id has the wrong role.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: tuple[Feature, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _add_ids(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        rows = list(value.get("features", ()))
        names = [r.name if isinstance(r, Feature) else r.get("name") for r in rows]
        sides: tuple[tuple[str, Role], ...] = ((USER_ID, "user"), (ITEM_ID, "item"))
        ids = [
            Feature(name=name, role=role, kind="id", dim=64, max_vocabulary=10_000_000)
            for name, role in sides
            if name not in names
        ]
        return {**value, "features": [*ids, *rows]}

    @model_validator(mode="after")
    def _check(self) -> FeatureTable:
        names = [f.name for f in self.features]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"each feature is listed once; listed twice: {twice}")
        for name, role in ((USER_ID, "user"), (ITEM_ID, "item")):
            if self[name].role != role or self[name].kind != "id":
                raise ValueError(f"{name} must have role {role!r} and kind 'id'")
        return self

    def __iter__(self) -> Iterator[Feature]:  # type: ignore[override]
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def __contains__(self, name: object) -> bool:
        return any(f.name == name for f in self.features)

    def __getitem__(self, name: str) -> Feature:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(f"no feature {name!r}; there are {[f.name for f in self.features]}")

    def of(self, role: Role, ids: bool = True) -> tuple[Feature, ...]:
        """The features of one role, in order; without the id where ``ids`` is False."""
        return tuple(f for f in self.features if f.role == role and (ids or f.kind != "id"))

    def without(self, *names: str) -> FeatureTable:
        """A table that lacks the named features (ids cannot be left out)."""
        for name in names:
            self[name]
        kept = tuple(f for f in self.features if f.name not in names or f.kind == "id")
        return FeatureTable(features=kept)
