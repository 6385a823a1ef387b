"""A shop in which who asks and what is asked decide together: colour of the user, noun asked."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tfrec.data.encoded import RetrievalData
from tfrec.data.tables import Tables
from tfrec.features.encoder import FittedEncoder
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.schema import FeatureTable

COLOURS = ("red", "green", "blue", "black")
NOUNS = ("kettle", "spade", "lamp", "racket", "puzzle", "scarf", "pan", "kite")
TEXT = {"kind": "text", "dim": 16, "max_length": 4}
FEATURES = FeatureTable.model_validate(
    {
        "features": [
            {"name": "title", "role": "item", **TEXT},
            {"name": "query", "role": "context", **TEXT, "shares": "title"},
        ]
    }
)


@dataclass(frozen=True)
class Shop:
    """Canonical tables, their splits, and the encoded form."""

    tables: Tables
    splits: dict[str, pa.Table]
    data: RetrievalData
    encoder: FittedEncoder

    def title_words(self, indices: np.ndarray) -> np.ndarray:
        """Title of each item index, cut into colour and noun, object [..., 2]."""
        titles = dict(
            zip(
                *(self.tables.items.column(c).to_pylist() for c in ("item_id", "title")),
                strict=True,
            )
        )
        flat = [titles[str(self.data.item_ids[i])].split() for i in np.ravel(indices)]
        return np.array(flat, object).reshape(*np.shape(indices), 2)


def colour_of(user: int) -> str:
    """The one colour that a user buys."""
    return COLOURS[user % len(COLOURS)]


def search_shop(folder: Path, users: int = 80, seed: int = 0) -> Shop:
    """Every user buys six nouns, all in one colour; the query names the noun alone.

    Whoever knows the query alone has one chance in four, and so is told apart from whoever knows
    the user too; the last purchase tests, the one before validates.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for t, noun in enumerate(rng.permutation(len(NOUNS))[:6]):
            item = f"{colour_of(user)}-{NOUNS[noun]}"
            split = "test" if t == 5 else "eval" if t == 4 else "train"
            rows.append((f"u{user}", item, t, 1.0, NOUNS[noun], split))
    names = ["user_id", "item_id", "timestamp", "weight", "query", "split"]
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    table = table.set_column(3, "weight", table.column("weight").cast(pa.float32()))
    table = table.append_column("event", pa.array(["purchase"] * table.num_rows))
    which = np.array(table.column("split").to_pylist())
    splits = {
        s: table.filter(pa.array(which == s)).drop(["split"]) for s in ("train", "eval", "test")
    }
    pairs = list(itertools.product(COLOURS, NOUNS))
    items = pa.table(
        {"item_id": [f"{c}-{n}" for c, n in pairs], "title": [f"{c} {n}" for c, n in pairs]}
    )
    people = pa.table({"user_id": [f"u{i}" for i in range(users)]})
    encoder = fit_encoder(splits["train"], people, items, FEATURES, folder, 8)
    data = retrieval_data(splits, people, items, encoder)
    return Shop(Tables(table.drop(["split"]), people, items), splits, data, encoder)
