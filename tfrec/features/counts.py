"""What encoding had to mend: missing, unseen and clipped values of every feature, counted.

Read off the encoded arrays, so that the pipeline (Transform) and a notebook count alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tfrec.data.encoded import RetrievalData
from tfrec.features.image_cnn import present_name
from tfrec.schema import Feature


@dataclass(frozen=True)
class FeatureCount:
    """One feature.

    Attributes:
        feature: its name.
        role: ``user``, ``item`` or ``context``.
        rows: users, items, or training events.
        missing: rows without a value.
        values: single values of the rows (a ``multi`` or ``text`` feature has several a row).
        unseen: values outside the vocabulary; they share the hashed tail.
        clipped: numbers beyond ``clip`` standard deviations, cut to the bound.
    """

    feature: str
    role: str
    rows: int
    missing: int
    values: int
    unseen: int
    clipped: int

    @property
    def missing_share(self) -> float:
        """Share of the rows without a value."""
        return self.missing / max(self.rows, 1)

    @property
    def unseen_share(self) -> float:
        """Share of the values that the vocabulary does not know."""
        return self.unseen / max(self.values, 1)

    @property
    def clipped_share(self) -> float:
        """Share of the values that were cut."""
        return self.clipped / max(self.values, 1)

    def line(self) -> str:
        """As the pipeline prints it."""
        return (
            f"{self.role} {self.feature}: {self.rows:,} rows, {self.missing:,} missing "
            f"({self.missing_share:.1%}), {self.unseen:,} unseen ({self.unseen_share:.1%}), "
            f"{self.clipped:,} clipped"
        )


def count_feature(
    feature: Feature, columns: Mapping[str, np.ndarray], sizes: Mapping[str, int]
) -> FeatureCount:
    """Counts one feature.

    Args:
        feature: of any kind but ``id``.
        columns: encoded columns, each [row, ...], without padding rows.
        sizes: encoded indices of each lookup feature.
    """
    encoded = columns[feature.name]
    rows = len(encoded)
    unseen = clipped = 0
    if feature.is_lookup:
        there = encoded > 0
        missing = int((~there.reshape(rows, -1).any(axis=1)).sum()) if rows else 0
        values = int(there.sum())
        unseen = int((encoded >= sizes[feature.name] - feature.oov_buckets).sum())
    elif feature.kind == "numeric":
        there = columns[f"{feature.name}_bucket"] > 0
        missing, values = int((~there).sum()), int(there.sum())
        if feature.transform != "none":
            # float32 of the bound is what encoding cuts to.
            bound = np.float32(feature.clip)
            clipped = int((there & (np.abs(encoded) >= bound)).sum())
    elif feature.kind == "image":
        values = int((columns[present_name(feature)] > 0).sum())
        missing = rows - values
    else:
        there = encoded.reshape(rows, -1) != 0
        missing = int((~there.any(axis=1)).sum()) if rows else 0
        values = rows - missing
    return FeatureCount(feature.name, feature.role, rows, missing, values, unseen, clipped)


def count_features(data: RetrievalData) -> list[FeatureCount]:
    """All features but the ids: users and items of the vocabulary, context of training events."""
    sides = {
        "user": {name: v[1 : data.n_users + 1] for name, v in data.users.items()},
        "item": {name: v[1 : data.n_items + 1] for name, v in data.items.items()},
        "context": data.train.context,
    }
    return [
        count_feature(feature, sides[feature.role], data.sizes)
        for feature in data.features
        if feature.kind != "id" and feature.name in sides[feature.role]
    ]


def as_records(counts: Sequence[FeatureCount]) -> list[dict[str, Any]]:
    """Counts as plain values, for JSON."""
    return [asdict(count) for count in counts]
