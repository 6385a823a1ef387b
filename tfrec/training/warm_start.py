"""Begins training where an earlier model ended, although today's vocabularies are others.

Every export carries a manifest of its trained weights and the vocabularies behind their rows.
Rows are moved by raw value: a user, an item or a category that was known keeps what was learned of
it, wherever it stands today. Ids that are new start from content: from nothing where the model's
features were taught to stand alone (``id_dropout``), else from the mean of what shares their
attribute values, else from the mean of all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from tfrec.data.encoded import RetrievalData
from tfrec.models.saved import SavedVariables
from tfrec.schema import ITEM_ID, USER_ID

FOLDER = Path("assets.extra") / "warm_start"
MANIFEST = "weights.json"

Vocabulary = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Base:
    """What to start from.

    Attributes:
        folder: an exported retrieval SavedModel.
        vocabulary: today's values of a lookup feature by index, of the encoder; entry 0 is ''.
    """

    folder: Path
    vocabulary: Vocabulary


@dataclass(frozen=True)
class WarmStart:
    """What came of it.

    Attributes:
        folder: the earlier model.
        kept, new: by vocabulary, values that were known, and values that were not.
        fresh: weights that the earlier model lacks (a new feature); they start at random.
        dropped: weights of the earlier model that today's lacks.
    """

    folder: Path
    kept: dict[str, int] = field(default_factory=dict)
    new: dict[str, int] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """As a run prints it."""
        lines = [f"warm start from {self.folder}"]
        lines += [
            f"  {name}: {self.kept[name]:,} rows kept, {self.new[name]:,} new" for name in self.kept
        ]
        if self.fresh:
            lines.append(f"  new weights, started at random: {', '.join(self.fresh)}")
        if self.dropped:
            lines.append(f"  weights that are no more: {', '.join(self.dropped)}")
        return lines


def named_weights(model: Any) -> dict[str, tuple[int, Any, str | None]]:
    """The weights that training leaves behind: name -> place in ``model.weights``, variable, and
    the vocabulary of its rows.

    Numbers that Keras appends to tell layers of one process apart are no part of a name; equal
    names are counted in their order instead.
    """
    tables = {id(v): name for name, found in model.vocabulary_tables().items() for v in found}
    trained = {id(v) for v in model.trainable_weights} | set(tables)
    out: dict[str, tuple[int, Any, str | None]] = {}
    counts: dict[str, int] = {}
    for at, variable in enumerate(model.weights):
        if id(variable) not in trained:
            continue
        plain = re.sub(r"_\d+(?=/|:|$)", "", variable.name.partition(":")[0])
        counts[plain] = counts.get(plain, 0) + 1
        name = plain if counts[plain] == 1 else f"{plain}#{counts[plain]}"
        out[name] = (at, variable, tables.get(id(variable)))
    return out


def write_manifest(folder: str | Path, model: Any, vocabulary: Vocabulary) -> None:
    """Writes what a later warm start needs beside the weights of a SavedModel.

    Args:
        folder: of the SavedModel, whose module keeps ``model.weights`` as ``weights``.
        model: the exported model; one without vocabulary tables gets no manifest.
        vocabulary: of its encoder.
    """
    weights = named_weights(model)
    rows = sorted({v for _, _, v in weights.values() if v is not None})
    if not rows:
        return
    target = Path(folder) / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    for name in rows:
        lines = "".join(f"{value}\n" for value in vocabulary(name)[1:])
        (target / f"{name}.txt").write_bytes(lines.encode())
    listed = [
        {"name": name, "at": at, "shape": variable.shape.as_list(), "rows": rows_of}
        for name, (at, variable, rows_of) in weights.items()
    ]
    kept = {"model": type(model).__name__, "weights": listed}
    (target / MANIFEST).write_text(json.dumps(kept, indent=1))


class Earlier:
    """Weights and vocabularies of an exported model.

    Raises:
        ValueError: the SavedModel carries no manifest.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / FOLDER / MANIFEST
        if not path.is_file():
            raise ValueError(
                f"{folder} cannot be started from: no {FOLDER / MANIFEST} in it; take a retrieval "
                f"model of two_tower, gmf, mlp, neumf, mf_* or item2vec, exported by this version"
            )
        kept = json.loads(path.read_text())
        self.model: str = kept["model"]
        self.weights: dict[str, dict[str, Any]] = {w["name"]: w for w in kept["weights"]}
        self._saved = SavedVariables(self.folder)

    def value(self, name: str) -> np.ndarray:
        """A weight."""
        at = str(self.weights[name]["at"])
        # Where an index is around the model, its weights lie one step further in.
        inside = ("base",) if self._saved.has("base", "weights", at) else ()
        return self._saved.read(*inside, "weights", at)

    def vocabulary(self, name: str) -> pa.Array:
        """Values by index - 1."""
        text = (self.folder / FOLDER / f"{name}.txt").read_text(encoding="utf-8")
        return pa.array(text.split("\n")[:-1], pa.string())


def warm_start(model: Any, data: RetrievalData, base: Base) -> WarmStart:
    """Puts an earlier model's weights into a new one, before training.

    Args:
        model: built over ``data``.
        data: today's data; its features say what new ids are like.
        base: the earlier model and today's vocabularies.

    Raises:
        ValueError: another model class, widths that differ, or a model that cannot be started.
    """
    earlier = Earlier(base.folder)
    weights = named_weights(model)
    if not model.vocabulary_tables():
        raise ValueError(
            f"retrieval.warm_start: {type(model).__name__} has no rows to keep; warm start "
            f"two_tower, gmf, mlp, neumf, mf_* or item2vec, or set retrieval.warm_start: null"
        )
    if earlier.model != type(model).__name__:
        raise ValueError(
            f"retrieval.warm_start: {base.folder} is a {earlier.model}, today's model a "
            f"{type(model).__name__}; set retrieval.model as it was, or warm_start: null"
        )
    _check_shapes(weights, earlier, base.folder)
    kept: dict[str, int] = {}
    new: dict[str, int] = {}
    before = {
        name: _places(base.vocabulary(name), earlier.vocabulary(name))
        for name in sorted({v for n, (_, _, v) in weights.items() if v and n in earlier.weights})
    }
    for name, places in before.items():
        kept[name] = int((places[1:] > 0).sum())
        new[name] = int((places[1:] == 0).sum())
    content = {
        name: _Content(data, name, before[name]) for name in (USER_ID, ITEM_ID) if name in before
    }
    for name, (_, variable, rows) in weights.items():
        if name not in earlier.weights:
            continue
        old = earlier.value(name)
        if rows is None:
            variable.assign(old)
            continue
        value = moved(variable.numpy(), old, before[rows], len(earlier.vocabulary(rows)))
        if rows in content and value.ndim > 1:
            alone = model.id_dropout > 0 and len(content[rows].features) > 0
            value = content[rows].start(value, zero=alone)
        variable.assign(value)
    model.warm_started()
    return WarmStart(
        folder=Path(base.folder),
        kept=kept,
        new=new,
        fresh=tuple(n for n in weights if n not in earlier.weights),
        dropped=tuple(n for n in earlier.weights if n not in weights),
    )


def _check_shapes(weights: Mapping[str, Any], earlier: Earlier, folder: Path) -> None:
    wrong = []
    for name, (_, variable, rows) in weights.items():
        if name in earlier.weights:
            was, now = earlier.weights[name]["shape"], variable.shape.as_list()
            if (was[1:], len(was)) != (now[1:], len(now)) if rows else was != now:
                wrong.append(f"{name} was {was}, is {now}")
    if wrong:
        raise ValueError(
            f"retrieval.warm_start: the widths of {folder} differ from today's: "
            f"{'; '.join(wrong[:5])}; set retrieval.params and the features' dim as they were, or "
            f"retrieval.warm_start: null for a cold start"
        )


def _places(today: np.ndarray, earlier: pa.Array) -> np.ndarray:
    """Row of each of today's values in the earlier table, int64 [V + 1]; 0 where it was unknown."""
    at = pc.index_in(pa.array([str(v) for v in today[1:]], pa.string()), earlier)
    found = pc.fill_null(at, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    return np.concatenate([[0], found])


def moved(value: np.ndarray, old: np.ndarray, places: np.ndarray, n_old: int) -> np.ndarray:
    """Today's table with the earlier rows where they belong.

    Args:
        value: today's first values [rows, ...]: padding, V values, perhaps a hashed tail.
        old: the earlier table, likewise.
        places: int64 [V + 1], row of each of today's values in ``old``, 0 where unknown.
        n_old: values of the earlier vocabulary.
    """
    value = value.copy()
    value[0] = old[0]
    known = np.flatnonzero(places)
    value[known] = old[places[known]]
    tail, old_tail = value[len(places) :], old[n_old + 1 :]
    if len(tail) == len(old_tail):
        value[len(places) :] = old_tail
    return value


class _Content:
    """Where new ids of one side start.

    Args:
        data: today's features.
        name: ``user_id`` or ``item_id``.
        places: as in ``moved``.
    """

    def __init__(self, data: RetrievalData, name: str, places: np.ndarray) -> None:
        side, events = (
            (data.users, data.train.user_counts())
            if name == USER_ID
            else (data.items, data.train.item_counts())
        )
        role = data.features[name].role
        self.features = data.features.of(role, ids=False)
        self._known = places > 0
        self._new = ~self._known & (events[: len(places)] > 0)
        self._new[0] = False
        lookups = [f for f in self.features if f.is_lookup and f.name in side]
        self._marks = _marks([side[f.name][: len(places)] for f in lookups], len(places))

    def start(self, value: np.ndarray, *, zero: bool) -> np.ndarray:
        """The table [rows, dim] with the rows of new ids set.

        Args:
            value: rows of known ids are in place.
            zero: whether features alone place what is new.
        """
        if zero:
            value[np.flatnonzero(self._new)] = 0.0
            return value
        known, new = np.flatnonzero(self._known), np.flatnonzero(self._new)
        if not len(known) or not len(new):
            return value
        there = value[known]
        start = np.broadcast_to(there.mean(axis=0), (len(new), value.shape[1])).copy()
        if self._marks.shape[1]:
            marks = self._marks[known]
            count = np.asarray(marks.sum(axis=0)).ravel()
            by_value = (marks.T @ there) / np.maximum(count, 1)[:, None]
            mine = self._marks[new] @ sp.diags((count > 0).astype(np.float32))
            shared = np.asarray(mine.sum(axis=1)).ravel()
            some = shared > 0
            start[some] = (mine @ by_value)[some] / shared[some, None]
        value[new] = start
        return value


def _marks(columns: list[np.ndarray], rows: int) -> sp.csr_matrix:
    """Which attribute values each row has, float32 [rows, values] of ones; index 0 marks none."""
    blocks = []
    for column in columns:
        values = column.reshape(rows, -1)
        at, _ = np.nonzero(values)
        found = values[values != 0]
        shape = (rows, int(values.max(initial=0)) + 1)
        block = sp.csr_matrix((np.ones(len(found), np.float32), (at, found)), shape=shape)
        block.data[:] = 1.0  # a value that stands twice in a row counts once
        blocks.append(block)
    return sp.hstack(blocks, format="csr") if blocks else sp.csr_matrix((rows, 0), dtype=np.float32)
