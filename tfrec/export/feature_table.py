"""The feature table beside an exported model: how raw columns of new items are to be prepared."""

from __future__ import annotations

from pathlib import Path

from tfrec.schema import FeatureTable

FILE = Path("assets.extra") / "features.json"


def write_features(folder: str | Path, features: FeatureTable) -> None:
    """Keeps the table with a SavedModel."""
    path = Path(folder) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(features.model_dump_json(indent=1) + "\n")


def read_features(folder: str | Path) -> FeatureTable | None:
    """The table of a SavedModel; None of one that an earlier version of tfrec wrote."""
    path = Path(folder) / FILE
    return FeatureTable.model_validate_json(path.read_text()) if path.is_file() else None
