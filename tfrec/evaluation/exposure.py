"""Who is shown by a model's lists: by popularity and by item features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfrec.data.encoded import RetrievalData
from tfrec.evaluation.result import Evaluation
from tfrec.rerank.exposure import (
    BANDS,
    Discount,
    Exposure,
    Yardstick,
    measure_exposure,
    popularity_bands,
)

LARGEST = 12  # groups shown of one feature


def exposures(
    evaluation: Evaluation,
    data: RetrievalData,
    k: int,
    features: Sequence[str] = (),
    names: Mapping[str, Sequence[str]] | None = None,
    discount: Discount = "log",
) -> list[Exposure]:
    """Exposure in the first ``k`` places, by band of popularity and by item features.

    Args:
        evaluation: with its lists.
        data: training events say what is popular, encoded item features what belongs together.
        k: places.
        features: item features with indices (``categorical``, ``multi``, or ``<name>_bucket``).
        names: feature -> words of its indices, index 0 first; the index where there are none.
        discount: see ``tfrec.rerank.exposure.attention``.

    Raises:
        ValueError: lists shorter than k, or a feature that is no index.
        KeyError: no such item feature.
    """
    if evaluation.lists.shape[1] < k:
        raise ValueError(
            f"lists have {evaluation.lists.shape[1]} places, exposure looks at {k}; pass a larger "
            f"cut-off to evaluate or a smaller k"
        )
    lists, counts = evaluation.lists[:, :k], data.train.item_counts()
    bands = popularity_bands(counts)
    out = [measure_exposure(lists, bands, counts, by="popularity", names=BANDS, discount=discount)]
    for feature in features:
        if feature not in data.items:
            raise KeyError(f"no item feature {feature!r}; there are {sorted(data.items)}")
        groups = data.items[feature][: data.n_items + 1]
        if groups.ndim > 2 or not np.issubdtype(groups.dtype, np.integer):
            raise ValueError(
                f"groups are made by an index, int [item] or [item, values]; {feature!r} is "
                f"{groups.dtype} {groups.shape}; take '{feature}_bucket' for a number"
            )
        words = (names or {}).get(feature, ())
        out.append(
            measure_exposure(lists, groups, counts, by=feature, names=words, discount=discount)
        )
    return out


def exposure_tables(found: Mapping[str, Sequence[Exposure]], k: int) -> list[dict[str, Any]]:
    """Rows for a page, models side by side: one table for each grouping.

    Args:
        found: by model, ``exposures`` with the same groupings.
        k: places looked at, for the caption.

    Returns:
        Tables with ``by``, ``names`` (models), ``rows`` (group, its shares, cells) and ``last``
        (the disparities against catalogue and demand); the groups with most demand first.
    """
    tables = []
    for each in zip(*found.values(), strict=True):
        one = each[0]
        order = np.arange(len(one.shown))
        if one.by != "popularity":
            order = np.argsort(-(one.demand + one.catalogue), kind="stable")
        there = [int(g) for g in order if one.catalogue[g] > 0][:LARGEST]
        rows = [
            {
                "group": one.names[g],
                "shares": [f"{100 * one.catalogue[g]:.1f}%", f"{100 * one.demand[g]:.1f}%"],
                "cells": [f"{100 * e.shown[g]:.1f}%" for e in each],
            }
            for g in there
        ]
        yardsticks: tuple[Yardstick, ...] = ("catalogue", "demand")
        last = [
            (against, [f"{100 * e.disparity(against):.1f}%" for e in each])
            for against in yardsticks
        ]
        tables.append({"by": one.by, "names": list(found), "rows": rows, "last": last, "k": k})
    return tables
