"""The whole way without TFX: one configuration to trained, exported models, in one process.

For a notebook, a benchmark or a first look. The TFX pipeline does the same with its gates, caching
and Beam; both meet in ``RetrievalData``.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from tfrec.config import Config
from tfrec.data.encoded import RetrievalData
from tfrec.data.prepare import prepare
from tfrec.data.splits import split_events
from tfrec.data.tables import TITLE, Tables, read_tables
from tfrec.features.encoder import FittedEncoder
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.features.image_prepare import prepare_items
from tfrec.schema import ITEM_ID, FeatureTable

HISTORY_LENGTH = 100  # of the encoder; models take the part they read


@dataclass(frozen=True)
class Workspace:
    """Data of one configuration, raw and encoded.

    Attributes:
        tables: canonical tables.
        splits: interactions of ``train``, ``eval`` and ``test``.
        data: encoded.
        encoder: what encoded them.
        images: by feature of kind ``image``: how many were decoded, missing, bad by reason.
    """

    tables: Tables
    splits: dict[str, pa.Table]
    data: RetrievalData
    encoder: FittedEncoder
    images: dict[str, dict[str, int]] = field(default_factory=dict)

    def titles(self) -> dict[str, str]:
        """Display names by item id; empty where items have no title."""
        items = self.tables.items
        if TITLE not in items.column_names:
            return {}
        names = zip(items.column(ITEM_ID).to_pylist(), items.column(TITLE).to_pylist(), strict=True)
        return {item: title for item, title in names if title}


def open_workspace(
    config: Config, folder: str | Path, features: FeatureTable | None = None
) -> Workspace:
    """Prepares (or finds prepared) tables, splits and encodes them.

    Args:
        config: the configuration.
        folder: tables are kept in ``folder/tables``, prepared images in ``folder/images``,
            statistics in a fresh folder beside them.
        features: in place of the configured table, e.g. with a group left out.

    Raises:
        DataError: bad data; see ``prepare``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    prepare(config, folder / "tables")
    tables = read_tables(folder / "tables")
    splits = split_events(tables.interactions, config.split)
    features = features or config.feature_table
    statistics = tempfile.mkdtemp(prefix="statistics-", dir=folder)
    items, images = prepare_items(tables.items, features, folder / "images")
    encoder = fit_encoder(
        splits["train"], tables.users, items, features, statistics, HISTORY_LENGTH
    )
    ranking = config.ranking
    data = retrieval_data(splits, tables.users, items, encoder, ranking.objectives, ranking.window)
    return Workspace(tables, splits, data, encoder, images)
