"""What an evaluation hands back: means, per-user values, the lists themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Evaluation:
    """The measured quality of one model on one split.

    Attributes:
        name: of the model.
        split: ``test`` or ``validation``.
        ks: cut-offs, ascending.
        users: int32 [n], the evaluated users (those with held-out items), ascending.
        relevant: int64 [n], number of held-out items of each.
        candidates: int64 [n], number of items that could have been recommended to each.
        per_user: metric -> float64 [n], as ``'recall@10'``.
        lists: int32 [n, max(ks)] recommended item indices, best first, 0 behind a short list;
            [n, 0] where only ranks were counted.
        held_user, held_item: int32 [event], the held-out pairs that counted, sorted by user.
        n_items: size of the catalogue.
        seconds: wall time of scoring, ranking and counting.
        dropped: held-out events left out because the user had the item before (or twice).
        beyond: figures of the lists as a whole (coverage ...), see ``tfrec.evaluation.beyond``;
            ``rmse`` and ``mae`` of an exported model that predicts ratings.
    """

    name: str
    split: str
    ks: tuple[int, ...]
    users: np.ndarray
    relevant: np.ndarray
    candidates: np.ndarray
    per_user: dict[str, np.ndarray]
    lists: np.ndarray
    held_user: np.ndarray
    held_item: np.ndarray
    n_items: int
    seconds: float = 0.0
    dropped: int = 0
    beyond: dict[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Mean of each metric over the users, then the figures beyond accuracy."""
        means = {name: float(values.mean()) for name, values in self.per_user.items()}
        return {**means, **self.beyond}

    def __getitem__(self, metric: str) -> float:
        """Mean of one metric, as ``evaluation['recall@10']``.

        Raises:
            KeyError: it was not measured.
        """
        if metric in self.per_user:
            return float(self.per_user[metric].mean())
        if metric in self.beyond:
            return self.beyond[metric]
        raise KeyError(
            f"{metric!r} was not measured; there are {sorted([*self.per_user, *self.beyond])}; "
            f"pass its cut-off in ks"
        )

    def select(self, mask: np.ndarray) -> Evaluation:
        """The same evaluation over the users where ``mask`` (bool [n]) is True."""
        mask = np.asarray(mask, bool)
        kept = np.repeat(mask, self.relevant)
        return Evaluation(
            name=self.name,
            split=self.split,
            ks=self.ks,
            users=self.users[mask],
            relevant=self.relevant[mask],
            candidates=self.candidates[mask],
            per_user={name: values[mask] for name, values in self.per_user.items()},
            lists=self.lists[mask],
            held_user=self.held_user[kept],
            held_item=self.held_item[kept],
            n_items=self.n_items,
            seconds=self.seconds,
        )

    def to_dict(self) -> dict[str, Any]:
        """Means and sizes as plain numbers, for JSON."""
        return {
            "name": self.name,
            "split": self.split,
            "users": len(self.users),
            "held_out": int(self.relevant.sum()),
            "dropped": self.dropped,
            "n_items": self.n_items,
            "seconds": self.seconds,
            "metrics": self.metrics,
        }
