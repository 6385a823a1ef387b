"""Vocabularies and moments found by Arrow: encoding without Beam, and in every export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from tfrec.schema import Feature, FeatureTable


class FittedAnalyzer(tf.Module):
    """An ``Analyzer`` over vocabulary files in a folder.

    Args:
        folder: holds ``<feature>.txt`` (one value a line, most frequent first) and ``numbers.json``
            (mean, std and boundaries of each numeric feature); written by ``save_statistics``.
        features: the feature table they were found for.
    """

    def __init__(self, folder: str | Path, features: FeatureTable) -> None:
        super().__init__(name="fitted_analyzer")
        self.folder = str(folder)
        self._file = {f.name: f.vocabulary for f in features}
        self._numbers = json.loads((Path(folder) / "numbers.json").read_text())
        self._tables = {}
        self.sizes: dict[str, int] = {}
        for feature in features:
            if not feature.is_lookup:
                continue
            path = Path(folder) / f"{feature.vocabulary}.txt"
            with path.open("rb") as lines:
                known = sum(1 for _ in lines)
            self.sizes[feature.name] = known + 1 + feature.oov_buckets
            self._tables[feature.name] = _table(path, known, feature.oov_buckets)

    def vocabulary(self, name: str) -> np.ndarray:
        """Values of a lookup feature by index, object [V + 1]; entry 0 (padding) is ''."""
        text = (Path(self.folder) / f"{self._file[name]}.txt").read_text(encoding="utf-8")
        return np.array(["", *text.split("\n")[:-1]], dtype=object)

    def lookup(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        table = self._tables[feature.name]
        if table is None:
            indices = tf.strings.to_hash_bucket_fast(values, feature.oov_buckets) + 1
        else:
            indices = table.lookup(values) + 1
        return tf.where(tf.equal(values, ""), tf.zeros_like(indices), indices)

    def moments(self, feature: Feature, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        numbers = self._numbers[feature.name]
        return tf.constant(numbers["mean"], tf.float32), tf.constant(numbers["std"], tf.float32)

    def boundaries(self, feature: Feature, values: tf.Tensor) -> tf.Tensor:
        return tf.constant(self._numbers[feature.name]["boundaries"], tf.float32)


def _table(path: Path, known: int, oov_buckets: int) -> Any:
    """A lookup table over a vocabulary file; None for an empty one, which is all tail."""
    if known == 0:
        return None
    initializer = tf.lookup.TextFileInitializer(
        str(path),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    return tf.lookup.StaticVocabularyTable(initializer, oov_buckets)


def count_values(values: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    """Occurrences of each string; nulls and '' are left out."""
    counted = pc.value_counts(values)
    names, counts = counted.field("values"), counted.field("counts")
    return {
        str(name): int(count)
        for name, count in zip(names.to_pylist(), counts.to_pylist(), strict=True)
        if name not in (None, "")
    }


def order_vocabulary(counts: Mapping[str, int], feature: Feature) -> list[str]:
    """Kept values, most frequent first, equal ones in descending byte order as in Transform.

    Values that hold a line break cannot stand in a vocabulary file and go to the hashed tail.
    """
    kept = [
        (count, value.encode())
        for value, count in counts.items()
        if count >= feature.min_count and "\n" not in value and "\r" not in value
    ]
    kept.sort(reverse=True)
    return [value.decode() for _, value in kept[: feature.max_vocabulary]]


def number_statistics(values: np.ndarray, buckets: int) -> dict[str, Any]:
    """Mean, standard deviation and inner quantile boundaries of the finite values."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if not len(finite):
        return {"mean": 0.0, "std": 1.0, "boundaries": []}
    inner = np.linspace(0, 1, buckets + 1)[1:-1]
    return {
        "mean": float(finite.mean()),
        "std": float(finite.std()),
        "boundaries": [float(b) for b in np.unique(np.quantile(finite, inner))],
    }


def save_statistics(
    folder: str | Path,
    vocabularies: Mapping[str, list[str]],
    numbers: Mapping[str, dict[str, Any]],
) -> None:
    """Writes what ``FittedAnalyzer`` reads."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in vocabularies.items():
        text = "".join(f"{value}\n" for value in values)
        (folder / f"{name}.txt").write_bytes(text.encode())
    (folder / "numbers.json").write_text(json.dumps(numbers))
