"""Sections about the decision: what an item is worth, and how a list is made of scored items."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Annotated, Literal, cast

from pydantic import Field, field_validator, model_validator

from tfrec.config.base import Frozen
from tfrec.schema import FeatureTable

Goal = Literal["relevance", "click", "purchase", "rating", "revenue", "profit", "freshness"]


class UtilityConfig(Frozen):
    """What a recommended item is worth: ``sum over goals of weight x part``, in money.

    Attributes:
        weights: by goal; the defaults where a request gives none. Only goals named here can be
            asked for. ``relevance``: money for one unit of the ranker's score; ``click``,
            ``purchase``: money for one click, one purchase, whatever it costs; ``rating``: money
            for one unit of the expected rating; ``revenue``, ``profit``: share of it that counts
            (usually 1); ``freshness``: money for showing a brand-new item. See docs/utility.md.
        heads: objective of a multi-task ranker that feeds ``click``, ``purchase``, ``rating``,
            ``revenue`` or ``profit``; those of the same name do without being named, null leaves
            one out. A head of revenue or profit takes the place of chance x price or margin.
        price, margin: columns of the items table, money a unit.
        released: column of the items table, seconds since 1970, from which the age is counted.
        stock: column of the items table, units; an item with none is not recommended.
        low_stock: an item with fewer units counts in proportion; 0 for no penalty.
        seller: item feature named in ``seller_boost``.
        seller_boost: factor on everything a seller's item is worth, by seller.
        half_life: days after which an item is half as fresh.
        calibration: how the ranker's scores become probabilities, fitted on validation.
        undo_sampling: chances of a ranker that was trained on sampled negatives, brought back to
            all items: ``auto`` takes the rate of its training, a number is the share of the
            negatives that were kept; ``none`` leaves chances as they are among sampled rows.
    """

    weights: dict[Goal, float] = Field(
        default_factory=lambda: {cast(Goal, "relevance"): 1.0}, min_length=1
    )
    heads: dict[Literal["click", "purchase", "rating", "revenue", "profit"], str | None] = Field(
        default_factory=dict
    )
    price: str | None = None
    margin: str | None = None
    released: str | None = None
    stock: str | None = None
    low_stock: float = Field(default=0.0, ge=0)
    seller: str | None = None
    seller_boost: dict[str, float] = Field(default_factory=dict)
    half_life: float = Field(default=30.0, gt=0)
    calibration: Literal["none", "platt", "isotonic"] = "none"
    undo_sampling: Literal["none", "auto"] | Annotated[float, Field(gt=0, le=1)] = "none"

    @field_validator("weights", "seller_boost")
    @classmethod
    def _finite(cls, value: dict[str, float]) -> dict[str, float]:
        for name, number in value.items():
            if not math.isfinite(number):
                raise ValueError(f"{name}: a weight or factor is a finite number; got {number}")
        return value

    @field_validator("seller_boost")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        for seller, factor in value.items():
            if factor < 0:
                raise ValueError(f"{seller}: a factor is at least 0; got {factor}")
        return value

    @model_validator(mode="after")
    def _columns(self) -> UtilityConfig:
        if "freshness" in self.weights and self.released is None:
            raise ValueError(
                "weights.freshness needs 'released', the column of the items table that holds it"
            )
        if self.seller_boost and self.seller is None:
            raise ValueError("'seller_boost' needs 'seller', the item feature that names sellers")
        if self.low_stock and self.stock is None:
            raise ValueError("'low_stock' needs 'stock', the column of the items table in units")
        return self


class BoostConfig(Frozen):
    """A campaign: items with one of some values count more (or less) for a time.

    Attributes:
        feature: an item feature of kind ``categorical``, ``multi`` or ``id``.
        values: the items concerned have one of these.
        factor: on their worth; above 1 raises, below 1 lowers.
        start, end: when it holds, ``end`` not included; without a time zone they are UTC. None is
            an open end.
    """

    feature: str
    values: tuple[str, ...] = Field(min_length=1)
    factor: float = Field(ge=0, allow_inf_nan=False)
    start: datetime | None = None
    end: datetime | None = None

    @field_validator("start", "end")
    @classmethod
    def _zone(cls, value: datetime | None) -> datetime | None:
        naive = value is not None and value.tzinfo is None
        return value.replace(tzinfo=timezone.utc) if value is not None and naive else value

    @model_validator(mode="after")
    def _check(self) -> BoostConfig:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"a boost ends after it starts; got {self.start} to {self.end}")
        return self

    @property
    def window(self) -> tuple[int, int]:
        """``(start, end)`` in seconds since 1970, open ends as the ends of int64."""
        start = -(2**63) if self.start is None else int(self.start.timestamp())
        end = 2**63 - 1 if self.end is None else int(self.end.timestamp())
        return start, end


class RerankConfig(Frozen):
    """How a list is made of items with a worth.

    Attributes:
        method: ``none`` (by worth), ``mmr``, ``dpp`` (diverse lists) or ``calibrated`` (the list's
            mix of categories follows the user's).
        trade_off: 0 worth alone, 1 the method's other aim alone; a request may give its own.
        window: only so many neighbouring places shall differ; None: the whole list.
        normalise: the worth of each request's candidates is put on 0..1 first, so that a trade-off
            means the same for all.
        vectors: what makes items alike (``mmr``, ``dpp``): item features, or empty for the item
            embedding of the retrieval model.
        categories: the item feature that ``calibrated`` follows.
        ridge: see ``tfrec.rerank.dpp``.
        max_per_group: item feature -> most items of one value in a list.
        boosts: campaigns.
    """

    method: Literal["none", "mmr", "dpp", "calibrated"] = "none"
    trade_off: float = Field(default=0.3, ge=0, le=1)
    window: int | None = Field(default=None, ge=2)
    normalise: bool = True
    vectors: tuple[str, ...] = ()
    categories: str | None = None
    ridge: float = Field(default=1e-3, gt=0, lt=1)
    max_per_group: dict[str, int] = Field(default_factory=dict)
    boosts: tuple[BoostConfig, ...] = ()

    @field_validator("max_per_group")
    @classmethod
    def _at_least_one(cls, value: dict[str, int]) -> dict[str, int]:
        for feature, most in value.items():
            if most < 1:
                raise ValueError(f"{feature}: at most n of a group means n >= 1; got {most}")
        return value

    @model_validator(mode="after")
    def _check(self) -> RerankConfig:
        if self.method == "calibrated" and self.categories is None:
            raise ValueError("method 'calibrated' needs 'categories', an item feature")
        return self


def check_features(utility: UtilityConfig, rerank: RerankConfig, table: FeatureTable) -> None:
    """Checks that every feature named is an item feature of a fitting kind.

    Raises:
        ValueError: the key, the name, and what would do.
    """
    groups = [f.name for f in table.of("item") if f.kind in ("id", "categorical", "multi")]
    alike = [f.name for f in table.of("item") if f.kind in ("categorical", "multi", "embedding")]
    asked = [("utility.seller", utility.seller, groups)]
    asked += [("rerank.categories", rerank.categories, groups)]
    asked += [(f"rerank.max_per_group.{n}", n, groups) for n in rerank.max_per_group]
    asked += [
        (f"rerank.boosts.{i}.feature", b.feature, groups) for i, b in enumerate(rerank.boosts)
    ]
    asked += [(f"rerank.vectors.{i}", name, alike) for i, name in enumerate(rerank.vectors)]
    for key, name, fitting in asked:
        if name is not None and name not in fitting:
            raise ValueError(f"{key} names {name!r}, which is none of the item features {fitting}")
