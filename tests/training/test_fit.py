"""fit_retrieval: validation, early stopping, best weights, strategies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.builders import checkerboard, random_data, without_split
from tests.models.behaviour import inputs
from tests.rated import rated_data
from tfrec.config import TrainConfig
from tfrec.evaluation import evaluate
from tfrec.training.fit import fit_retrieval
from tfrec.training.strategy import make_strategy
from tfrec.training.validate import Validate
from tfrec.training.warm_start import Base

PARAMS = {"dim": 4, "negatives": 2}
TRAIN = TrainConfig(epochs=6, batch_size=16, learning_rate=0.05, patience=0)


def test_every_epoch_is_validated_and_the_best_weights_return() -> None:
    data = random_data(40, 20, 8.0)
    seen: list[float] = []
    weights: list[Any] = []

    class Watch(tf.keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            seen.append((logs or {})["val_recall@5"])
            weights.append(self.model.get_weights())

    result = fit_retrieval(
        "mf_logistic", PARAMS, TRAIN, data, metric="recall@5", callbacks=[Watch()]
    )
    assert [value for _, value in result.validated] == seen
    assert len(seen) == 6
    assert result.best == max(seen)
    assert result.best_epoch == int(np.argmax(seen)) + 1
    for mine, best in zip(result.model.get_weights(), weights[result.best_epoch - 1], strict=True):
        np.testing.assert_array_equal(mine, best)
    found = evaluate(result.model, data, "validation", (5,))
    assert found["recall@5"] == pytest.approx(result.best)
    assert len(result.history["loss"]) == 6


def test_patience_ends_training() -> None:
    """A learning rate of next to nothing never improves on the first epoch."""
    train = TRAIN.model_copy(update={"epochs": 30, "patience": 2, "learning_rate": 1e-12})
    result = fit_retrieval("mf_logistic", PARAMS, train, random_data(30, 15))
    assert len(result.history["loss"]) == 3
    assert result.best_epoch == 1


class Spoil(tf.keras.callbacks.Callback):
    """Stands for a step that diverges: from this epoch on nothing is a number."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch + 1 == self.epoch:
            weight = self.model.trainable_variables[0]
            weight.assign(np.nan * weight)


def test_the_best_epoch_before_a_divergence_is_kept() -> None:
    result = fit_retrieval("mf_logistic", PARAMS, TRAIN, random_data(30, 15), callbacks=[Spoil(3)])
    assert result.best_epoch in (1, 2)
    assert [epoch for epoch, _ in result.validated] == [1, 2, 3]  # training ends there
    assert np.isnan(result.validated[-1][1])
    assert np.isfinite(result.model.items).all()
    assert all(np.isfinite(v).all() for v in result.model.trainable_variables)


@pytest.mark.parametrize("validation", [True, False])
def test_a_training_that_diverged_is_refused(validation: bool) -> None:
    data = random_data(30, 15) if validation else without_split(random_data(30, 15), "validation")
    with pytest.raises(ValueError, match=r"'mf_logistic' diverged.*lower train.learning_rate"):
        fit_retrieval("mf_logistic", PARAMS, TRAIN, data, callbacks=[Spoil(1)])


def test_rating_models_that_diverge_are_treated_alike() -> None:
    params, train = {"by": "user", "hidden": [4]}, TRAIN.model_copy(update={"epochs": 4})
    data = rated_data(30, 12, seed=5)
    result = fit_retrieval("autorec", params, train, data, callbacks=[Spoil(3)])
    assert result.best_epoch in (1, 2)
    assert [epoch for epoch, _ in result.validated] == [1, 2, 3]
    assert all(np.isfinite(v).all() for v in result.model.trainable_variables)
    with pytest.raises(ValueError, match=r"'autorec' diverged.*lower train.learning_rate"):
        fit_retrieval("autorec", params, train, data, callbacks=[Spoil(1)])


def test_rare_validation_still_measures_the_last_epoch() -> None:
    train = TRAIN.model_copy(update={"epochs": 5})
    result = fit_retrieval("mf_logistic", PARAMS, train, random_data(30, 15), evaluate_every=2)
    assert [epoch for epoch, _ in result.validated] == [2, 4, 5]


def test_without_validation_all_epochs_run() -> None:
    data = without_split(checkerboard(12), "validation")
    train = TRAIN.model_copy(update={"patience": 1, "learning_rate": 0.3})
    result = fit_retrieval("mf_logistic", PARAMS, train, data)
    assert (result.best, result.best_epoch, result.validated) == (None, 0, [])
    assert len(result.history["loss"]) == 6
    assert result.history["loss"][-1] < result.history["loss"][0]


def test_closed_form_models_take_one_pass() -> None:
    result = fit_retrieval("ease", {"l2": 1.0}, TRAIN, checkerboard(12), metric="recall@2")
    assert result.validated == [(1, 1.0)]  # two items of the right parity are left: val and test
    assert result.best_epoch == 1


def test_two_replicas_train_like_one() -> None:
    """Same seed, same global batch: the same model, whatever the number of replicas."""
    data = checkerboard(12)
    train = TRAIN.model_copy(update={"epochs": 2})
    scores = []
    for replicas in (1, 2):
        strategy = make_strategy(replicas)
        assert strategy.num_replicas_in_sync == replicas
        result = fit_retrieval("mf_logistic", PARAMS, train, data, strategy=strategy)
        assert result.model.distribute_strategy.num_replicas_in_sync == replicas
        told = inputs(result.model, np.arange(1, 13), data)
        scores.append(result.model.score_catalogue(told).numpy())
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_bad_input() -> None:
    data = random_data(20, 10)
    with pytest.raises(ValueError, match="recall@0"):
        fit_retrieval("popular", {}, TRAIN, data, metric="recall@0")
    with pytest.raises(ValueError, match="evaluate_every is from 1"):
        fit_retrieval("popular", {}, TRAIN, data, evaluate_every=0)
    earlier = Base(Path("anywhere"), lambda name: np.zeros(0, object))
    with pytest.raises(ValueError, match="'biased_mf' predicts ratings and starts cold"):
        fit_retrieval("biased_mf", {}, TRAIN, data, base=earlier)
    with pytest.raises(KeyError, match="no model 'nothing'"):
        fit_retrieval("nothing", {}, TRAIN, data)


def test_validation_is_traced_once() -> None:
    data = random_data(30, 15)
    validate = Validate(data, "recall@5")
    from tfrec.models import registry

    model = registry.build("mf_logistic", data, PARAMS)
    model.compile_for(TRAIN)
    traces = []
    plain = model.score_catalogue

    def counted(users: Any) -> tf.Tensor:
        traces.append(1)
        return plain(users)

    model.score_catalogue = counted
    model.fit(model.training_data(data, TRAIN), epochs=4, verbose=0, callbacks=[validate])
    assert len(validate.measured) == 4
    assert len(traces) == 1
