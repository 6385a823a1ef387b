"""Why an item has its score for a user: every part is taken away in turn and the loss is measured.

Leave-one-out through the exported SavedModel, exact for any model: the score with everything less
the score without the part. Where a model is linear in the history (EASE, item-kNN), the parts add
up to the score, and the explanation says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrec.data.quarantine import Quarantine
from tfrec.data.tables import Tables, titles
from tfrec.export.batch import ModelFolderError, latest_version
from tfrec.export.feature_table import read_features
from tfrec.export.inputs import feature_rows
from tfrec.export.log import Log
from tfrec.export.new_items import item_inputs
from tfrec.export.raw import SCORE
from tfrec.features.image_prepare import image_features, prepare_column
from tfrec.schema import HISTORY, ITEM_ID, USER_ID

Part = Literal["history", "user", "item"]
MOST_HISTORY = 1000  # most recent events that are told; a model reads the last it was built for
SUM_TOLERANCE = 1e-4  # of parts that add up, relative to 1 + |score|


@dataclass(frozen=True)
class Contribution:
    """What one part does to the score.

    Attributes:
        part: ``history`` (an item the user had), ``user`` (the id or an attribute) or ``item`` (an
            attribute of the scored item).
        name: the item's id, or the feature's name.
        shown: its title, or the feature's value.
        value: score with everything less score without this part; above 0 it speaks for the item.
    """

    part: Part
    name: str
    shown: str
    value: float


@dataclass(frozen=True)
class Explanation:
    """Why a user's score of an item is what it is.

    Attributes:
        user, item, title: who and what.
        score: with everything.
        empty: without history, user id and attributes, the item as it is.
        contributions: largest in size first. Parts act together: their sum need not be the score.
        additive: True where the history's contributions add up to the score less that without
            history, as in linear models: then each is the item's exact share.
        events: distinct items of the history that were told.
    """

    user: str
    item: str
    title: str
    score: float
    empty: float
    contributions: tuple[Contribution, ...]
    additive: bool
    events: int

    def of(self, part: Part) -> list[Contribution]:
        """The contributions of one kind, largest in size first."""
        return [c for c in self.contributions if c.part == part]


class Explainer:
    """Explains scores of one SavedModel.

    Args:
        model: a retrieval SavedModel, or the folder of its versions.
        tables: canonical tables; they hold the history, the attributes and the titles.

    Raises:
        ModelFolderError: there is no retrieval SavedModel.
    """

    def __init__(self, model: str | Path, tables: Tables) -> None:
        self.folder = latest_version(model)
        self._loaded = tf.saved_model.load(str(self.folder))
        signatures = self._loaded.signatures
        if "score" not in signatures:
            raise ModelFolderError(
                f"{self.folder} has no signature 'score', only {sorted(signatures)}; pass the "
                f"retrieval model's folder"
            )
        self._score = signatures["score"]
        self._specs: Mapping[str, tf.TensorSpec] = self._score.structured_input_signature[1]
        self._described = signatures.get("score_features", None)
        self._tables = tables
        self._log = Log.from_table(tables.interactions)
        names = zip(tables.items.column(ITEM_ID).to_pylist(), titles(tables.items), strict=True)
        self._titles = dict(names)

    def explain(self, user: str, item: str, history: Sequence[str] | None = None) -> Explanation:
        """Takes each part away in turn.

        Args:
            user: raw id; an unknown one has no attributes.
            item: raw id.
            history: raw item ids, oldest first; by default those of the tables, the item itself
                left out, as it was before the user had it.

        Raises:
            ValueError: the model does not know the item, or has no score for it.
        """
        if history is None:
            history = [i for i in self._history(user) if i != item]
        history = list(history)[-MOST_HISTORY:]
        distinct = list(dict.fromkeys(reversed(history)))
        told = self._user(user)
        attributes = {n: v for n, v in told.items() if _present(v)}
        parts: list[tuple[Part, str, str]] = [
            *(("history", i, self._titles.get(i, "")) for i in distinct),
            *(("user", n, _shown(v)) for n, v in attributes.items()),
        ]
        # Row 0 is everything, the last two are without history and without anything of the user.
        rows = len(parts) + 3
        inputs = {n: np.repeat(v, rows, axis=0) for n, v in told.items()}
        lists = [list(history) for _ in range(rows)]
        for row, (part, name, _) in enumerate(parts, 1):
            if part == "history":
                lists[row] = [i for i in history if i != name]
            else:
                inputs[name][row] = _missing(inputs[name])
        lists[-2] = lists[-1] = []
        for values in inputs.values():
            values[-1] = _missing(values)
        inputs[HISTORY] = _padded(lists)
        if HISTORY + "_weight" in self._specs:
            shape = inputs[HISTORY].shape
            inputs[HISTORY + "_weight"] = np.full(shape, np.nan, np.float32)
        scores = self._ask(self._score, {**inputs, ITEM_ID: np.full(rows, item, object)})
        if not np.isfinite(scores[0]):
            raise ValueError(
                f"the model in {self.folder} does not know item {item!r}; add it with 'tfrec index "
                f"add', or name an item of the catalogue"
            )
        found = [
            Contribution(part, name, shown, float(scores[0] - scores[row]))
            for row, (part, name, shown) in enumerate(parts, 1)
        ]
        lost = float(scores[0] - scores[-2])
        total = sum(c.value for c in found if c.part == "history")
        additive = bool(distinct) and abs(lost - total) <= SUM_TOLERANCE * (1 + abs(scores[0]))
        one = {name: values[:1] for name, values in inputs.items()}
        found += self._item_parts(item, one, float(scores[0]))
        return Explanation(
            user=user,
            item=item,
            title=self._titles.get(item, ""),
            score=float(scores[0]),
            empty=float(scores[-1]),
            contributions=tuple(sorted(found, key=lambda c: -abs(c.value))),
            additive=additive,
            events=len(distinct),
        )

    def _item_parts(
        self, item: str, user: Mapping[str, np.ndarray], score: float
    ) -> list[Contribution]:
        """What each attribute of the item does; nothing where the model knows ids alone."""
        table = self._tables.items
        at = _row(table, ITEM_ID, item)
        if self._described is None or at < 0:
            return []
        given = self._described.structured_input_signature[1]
        specs = {n: s for n, s in given.items() if n not in self._specs}
        one, pictures = self._seen(table.slice(at, 1))
        raw = {n: v.numpy() for n, v in item_inputs(one, 0, 1, specs).items()}
        present = [n for n, v in raw.items() if _present(v)]
        rows = len(present) + 1
        inputs = {n: np.repeat(v, rows, axis=0) for n, v in {**raw, **user}.items()}
        for row, name in enumerate(present, 1):
            inputs[name][row] = _missing(inputs[name])
        scores = self._ask(self._described, {**inputs, ITEM_ID: np.full(rows, item, object)})
        return [
            Contribution(
                "item",
                name,
                "image" if name in pictures else _shown(raw[name]),
                float(scores[0] - scores[row]),
            )
            for row, name in enumerate(present, 1)
        ]

    def _seen(self, item: pa.Table) -> tuple[pa.Table, set[str]]:
        """The item with its images prepared as the model takes them, and their columns."""
        images = image_features(read_features(self.folder) or ())
        here = [f for f in images if f.name in item.column_names]
        with Quarantine(Path(os.devnull), 1.0) as unread:  # told of when the data was prepared
            for feature in here:
                column, _ = prepare_column(item, feature, unread)
                at = item.column_names.index(feature.name)
                item = item.set_column(at, feature.name, column)
        return item, {f.name for f in here}

    def _history(self, user: str) -> list[str]:
        code = self._log.codes([user])
        width = int(max(self._log.counts(code)[0], 1))
        return [i for i in self._log.last(code, width)[0].tolist() if i]

    def _user(self, user: str) -> dict[str, np.ndarray]:
        """The user's raw columns as the model takes them, each [1, ...]."""
        users = self._tables.users
        rows = np.array([_row(users, USER_ID, user)])
        columns = {
            name: feature_rows(users, rows, spec, name).numpy()
            for name, spec in self._specs.items()
            if name not in (USER_ID, ITEM_ID, HISTORY, HISTORY + "_weight")
        }
        return {USER_ID: np.array([user.encode()], object), **columns}

    @staticmethod
    def _ask(signature: Any, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        specs = signature.structured_input_signature[1]
        tensors = {name: tf.constant(inputs[name], spec.dtype) for name, spec in specs.items()}
        return signature(**tensors)[SCORE].numpy()


def _row(table: pa.Table, column: str, value: str) -> int:
    at = table.column(column).combine_chunks().index(pa.scalar(value, pa.string())).as_py()
    return int(at)


def _missing(values: np.ndarray) -> Any:
    return b"" if values.dtype == object else np.nan


def _present(values: np.ndarray) -> bool:
    if values.dtype == object:
        return bool((values != b"").any())
    return bool(np.isfinite(values).any())


def _shown(values: np.ndarray) -> str:
    """A raw value in a few words."""
    flat = values.ravel()
    if values.dtype == object:
        texts = [v.decode(errors="replace") for v in flat if v]
        return "|".join(texts)[:60]
    return f"{flat[0]:g}" if len(flat) == 1 else f"vector of {len(flat)}"


def _padded(lists: Sequence[Sequence[str]]) -> np.ndarray:
    """Histories side by side, '' behind, object [row, longest]."""
    width = max([1, *(len(row) for row in lists)])
    out = np.full((len(lists), width), "", object)
    for at, row in enumerate(lists):
        out[at, : len(row)] = row
    return out
