"""The best epoch: its weights are put back, training ends when nothing improves, a kill loses none.

Keras's ``BackupAndRestore`` brings back the last epoch of a training that was killed, and knows
nothing of the best one; so that is kept on disk beside it.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.config import TrainConfig

STATE = "best.json"


class BestEpoch(tf.keras.callbacks.Callback):
    """What all validating callbacks share; they call ``note`` with what they measured.

    Args:
        rises: whether larger values are better.
        patience: epochs without a better value before training stops; 0 never stops.
        folder: where the best weights are kept until training ends, so that one that was killed and
            goes on (``BackupAndRestore``) still knows them; it is removed at the end. None keeps
            them in memory alone.

    Attributes:
        measured: ``(epoch, value)`` of each measurement, epochs from 1.
        best, best_epoch: the best value (None before any) and its epoch (0 before any).

    Raises:
        ValueError: a negative patience.
    """

    def __init__(self, rises: bool, patience: int, folder: str | Path | None = None) -> None:
        super().__init__()
        if patience < 0:
            raise ValueError(f"patience is from 0 (which never stops); got {patience}")
        self.rises, self.patience = rises, patience
        self.measured: list[tuple[int, float]] = []
        self.best: float | None = None
        self.best_epoch = 0
        self._folder = None if folder is None else Path(folder)
        self._weights: list[np.ndarray] | None = None
        self._last = 0

    @property
    def _keeps_weights(self) -> bool:
        """Whether this model's weights change after the best epoch."""
        return True

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if self._folder is None or not (self._folder / STATE).is_file():
            return
        kept = json.loads((self._folder / STATE).read_text())
        self.measured = [(int(epoch), float(value)) for epoch, value in kept["measured"]]
        self.best, self.best_epoch = kept["best"], kept["best_epoch"]
        with np.load(self._folder / kept["weights"]) as arrays:
            self._weights = [arrays[f"arr_{at}"] for at in range(len(arrays.files))]

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        # An epoch that was measured, but not backed up before the kill, is trained again.
        self.measured = [(number, value) for number, value in self.measured if number <= epoch]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._last = epoch + 1

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        if self._weights is not None and self.best_epoch != self._last:
            self.model.set_weights(self._weights)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def note(self, value: float) -> None:
        """Takes the value of the epoch that has just ended; keeps the weights where it is best.

        NaN is never the best.
        """
        self.measured.append((self._last, value))
        better = self.best is None or (value > self.best if self.rises else value < self.best)
        better = better and not math.isnan(value)
        if better:
            self.best, self.best_epoch = value, self._last
            if self._keeps_weights:
                self._weights = self.model.get_weights()
        if self._folder is not None and self._weights is not None:
            self._write(self._folder, better)

    def refuse_divergence(
        self, name: str, train: TrainConfig, history: Mapping[str, Sequence[float]]
    ) -> None:
        """Where no epoch was of use and the last loss or validation is NaN, says so.

        Raises:
            ValueError: such a training of the model ``name``.
        """
        last = [value for _, value in self.measured[-1:]] + list(history.get("loss", ()))[-1:]
        if self.best is None and any(math.isnan(value) for value in last):
            raise ValueError(
                f"training {name!r} diverged: its loss or scores are no numbers after "
                f"{self._last} epochs; lower train.learning_rate (got {train.learning_rate:g}), or "
                f"raise the regularisation in params"
            )

    @property
    def over(self) -> bool:
        """Whether patience has run out."""
        return self.patience > 0 and self._last - self.best_epoch >= self.patience

    def _write(self, folder: Path, better: bool) -> None:
        """Each file whole or not at all; the state names the weights that belong to it."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"weights-{self.best_epoch}.npz"
        if better:
            temporary = folder / "weights.tmp"
            with temporary.open("wb") as file:
                np.savez(file, *(self._weights or ()))
            os.replace(temporary, folder / name)
        state: dict[str, Any] = {
            "measured": self.measured,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "weights": name,
        }
        temporary = folder / f"{STATE}.tmp"
        temporary.write_text(json.dumps(state))
        os.replace(temporary, folder / STATE)
        for old in folder.glob("weights-*.npz"):
            if old.name != name:
                old.unlink()
