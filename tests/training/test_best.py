"""The best epoch outlives a kill: what goes on ends with the weights it would have had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.builders import checkerboard
from tfrec.config import TrainConfig
from tfrec.training.best import STATE
from tfrec.training.fit import fit_retrieval
from tfrec.training.ranking import fit_rows
from tfrec.training.validate import Validate


class Killed(RuntimeError):
    """Stands for a kill."""


class KillAt(tf.keras.callbacks.Callback):
    """Raises at the end of an epoch, before or behind the backup by its place in the list."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch + 1 == self.epoch:
            raise Killed


def line() -> tf.keras.Model:
    """One weight that each step moves by the same amount, so that it tells the epoch."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, use_bias=False, input_shape=[1])])
    model.layers[0].set_weights([np.zeros([1, 1], np.float32)])
    model.compile("sgd", loss=lambda label, answer: -answer)
    return model


def figures(values: Sequence[float]) -> Callable[[], dict[str, float]]:
    each = iter(values)
    return lambda: {"auc": next(each)}


BATCHES = tf.data.Dataset.from_tensors((tf.ones([1, 1]), tf.ones([1, 1]))).repeat()


def train(
    folder: Path, epochs: int, values: Sequence[float], kill: int = 0, early: bool = False
) -> tuple[float, object]:
    """The weight at the end, in epochs, and the result."""
    model = line()
    callbacks: list[tf.keras.callbacks.Callback] = [
        tf.keras.callbacks.BackupAndRestore(str(folder))
    ]
    callbacks.insert(0 if early else 1, KillAt(kill))
    settings = TrainConfig(epochs=epochs, patience=0, batch_size=1)
    result = fit_rows(
        model,
        BATCHES,
        1,
        settings,
        figures(values),
        "auc",
        callbacks,
        best_folder=folder / "best",
    )
    return float(model.get_weights()[0][0, 0]) / 0.01, result


def test_weights_of_an_epoch_before_the_kill_come_back(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path, 5, [0.9, 0.5, 0.4], kill=3)
    assert (tmp_path / "best" / STATE).is_file()
    assert len(list((tmp_path / "best").glob("weights-*"))) == 1
    weight, result = train(tmp_path, 5, [0.6, 0.3])
    assert weight == pytest.approx(1, rel=1e-5)
    assert (result.best, result.best_epoch) == (0.9, 1)  # type: ignore[attr-defined]
    assert result.validated == [(1, 0.9), (2, 0.5), (3, 0.4), (4, 0.6), (5, 0.3)]  # type: ignore[attr-defined]
    assert not (tmp_path / "best").exists(), "what is done leaves nothing to go on from"


def test_an_epoch_that_was_not_backed_up_is_measured_again(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path, 3, [0.1, 0.2], kill=2, early=True)
    weight, result = train(tmp_path, 3, [0.2, 0.8])
    assert result.validated == [(1, 0.1), (2, 0.2), (3, 0.8)]  # type: ignore[attr-defined]
    assert weight == pytest.approx(3, rel=1e-5)


def test_a_better_epoch_after_the_kill_wins(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path, 4, [0.3, 0.2], kill=2)
    weight, result = train(tmp_path, 4, [0.7, 0.1])
    assert weight == pytest.approx(3, rel=1e-5)
    assert (result.best, result.best_epoch) == (0.7, 3)  # type: ignore[attr-defined]


def test_killed_behind_its_last_epoch_it_only_puts_the_best_back(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path, 2, [0.3, 0.2], kill=2)
    weight, result = train(tmp_path, 2, [])
    assert weight == pytest.approx(1, rel=1e-5)
    assert result.best_epoch == 1  # type: ignore[attr-defined]


def test_a_retrieval_model_goes_on_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = checkerboard(12)
    settings = TrainConfig(epochs=4, batch_size=16, learning_rate=0.05, patience=0)
    values = iter([0.9, 0.2, 0.3, 0.1])
    monkeypatch.setattr(
        Validate, "_measure", lambda self: (value := next(values), self.note(value))[0]
    )
    first: list[np.ndarray] = []

    class Remember(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            if epoch == 0:
                first.extend(v.numpy() for v in self.model.trainable_variables)

    def fit(*more: tf.keras.callbacks.Callback) -> object:
        backup = tf.keras.callbacks.BackupAndRestore(str(tmp_path))
        return fit_retrieval(
            "mf_logistic",
            {"dim": 4, "negatives": 2},
            settings,
            data,
            callbacks=[Remember(), backup, *more],
            best_folder=tmp_path / "best",
        )

    with pytest.raises(Killed):
        fit(KillAt(2))
    result = fit()
    assert result.best_epoch == 1  # type: ignore[attr-defined]
    last = result.model.trainable_variables  # type: ignore[attr-defined]
    for kept, found in zip(first, last, strict=True):
        np.testing.assert_array_equal(kept, found.numpy())
