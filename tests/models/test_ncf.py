"""GMF, MLP and NeuMF against NumPy, and how NeuMF is joined from its parts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from tests.builders import checkerboard, random_data
from tfrec.config import TrainConfig
from tfrec.models import ncf_base
from tfrec.models.fold_in import PRIOR, covariance_factor, evenly, fold_in_by_steps
from tfrec.models.ncf_solved import log_odds_scale
from tfrec.models.registry import build
from tfrec.schema import HISTORY, USER_ID
from tfrec.training.strategy import make_strategy

TRAIN = TrainConfig(epochs=1, batch_size=60, learning_rate=0.05, patience=0)
DATA = random_data(n_users=12, n_items=15)


def shuffled(model) -> None:  # type: ignore[no-untyped-def]
    """Weights far from their start, so that every term of a logit matters."""
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.7, variable.shape))


def gmf_logits(part, users: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    return (part.users.numpy()[users] * part.head.numpy()) @ part.items.numpy()[1:].T


def mlp_logits(part, users: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Pair by pair, on the concatenated vectors, as the paper writes it."""
    out = np.zeros((len(users), part.items.shape[0] - 1))
    for row, user in enumerate(users):
        for item in range(1, part.items.shape[0]):
            x = np.concatenate([part.users.numpy()[user], part.items.numpy()[item]])
            x = np.maximum(x @ part.first.numpy() + part.first_bias.numpy(), 0)
            for layer in part.tower:
                x = np.maximum(x @ layer.kernel.numpy() + layer.bias.numpy(), 0)
            out[row, item - 1] = x @ part.head.numpy()
    return out


@pytest.mark.parametrize("name", ["gmf", "mlp", "neumf"])
def test_scores_equal_the_formula(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name, DATA, {"factors": 3})
    shuffled(model)
    users = np.arange(1, 6)
    by_part = {"gmf": gmf_logits, "mlp": mlp_logits}
    expected = sum(by_part[p.name](p, users) for p in model.parts) + model.bias.numpy()
    told = {USER_ID: tf.constant(users)}
    np.testing.assert_allclose(model.score_catalogue(told), expected, rtol=1e-4, atol=1e-4)
    # Blocks of a single item give the same.
    monkeypatch.setattr(ncf_base, "CATALOGUE_BYTES", 1)
    np.testing.assert_allclose(model.score_catalogue(told), expected, rtol=1e-4, atol=1e-4)


def test_widths_halve_down_to_the_factors() -> None:
    part = build("mlp", DATA, {"factors": 8, "layers": 3}).parts[0]
    assert part.users.shape == (13, 32)
    assert part.first.shape == (64, 32)
    assert [layer.kernel.shape.as_list() for layer in part.tower] == [[32, 16], [16, 8]]
    assert part.head.shape == (8,)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_joined_logit_is_the_alpha_mix_of_the_stages(alpha: float) -> None:
    model = build("neumf", DATA, {"factors": 3, "alpha": alpha})
    gmf, mlp = stages = model._stages()
    for stage in stages:
        shuffled(stage)
    told = {USER_ID: tf.range(1, 6)}
    apart = [stage.score_catalogue(told).numpy() for stage in (gmf, mlp)]
    model.join(gmf.bias, mlp.bias)
    mixed = alpha * apart[0] + (1 - alpha) * apart[1]
    np.testing.assert_allclose(model.score_catalogue(told), mixed, rtol=1e-4, atol=1e-5)


def test_pre_training_trains_the_parts_alone_and_sgd_then_trains_all() -> None:
    board = checkerboard(8)
    losses = {}
    for pretrain in (True, False):
        tf.keras.utils.set_random_seed(0)
        params = {"factors": 2, "layers": 2, "pretrain": pretrain, "pretrain_epochs": 6}
        model = build("neumf", board, {**params, "finetune_learning_rate": 0.02})
        model.compile_for(TRAIN)
        kind = tf.keras.optimizers.legacy
        assert isinstance(model.optimizer, kind.SGD if pretrain else kind.Adam)
        before = [v.numpy() for v in model.trainable_variables]
        fitted = model.fit(model.training_data(board, TRAIN), epochs=1, verbose=0)
        losses[pretrain] = fitted.history["loss"][0]
        assert all(
            np.abs(v.numpy() - old).max() > 0
            for v, old in zip(model.trainable_variables, before, strict=True)
        )
    assert losses[True] < 0.8 * losses[False]


def test_without_finetuning_the_joined_parts_answer_and_are_validated_once() -> None:
    board = checkerboard(8)
    params = {"factors": 2, "layers": 2, "pretrain_epochs": 3, "finetune": "none"}
    model = build("neumf", board, {**params, "alpha": 0.25})
    train = TRAIN.model_copy(update={"epochs": 5})
    model.compile_for(train)
    seen, joined = [], []

    class Seen(tf.keras.callbacks.Callback):
        def on_train_begin(self, logs: object = None) -> None:
            joined.extend(v.numpy() for v in model.trainable_variables)

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            told = {USER_ID: tf.range(1, 9)}
            apart = [stage.score_catalogue(told).numpy() for stage in model._stages()]
            seen.append((model.score_catalogue(told).numpy(), apart, model._stages()))

    model.fit(model.training_data(board, train), epochs=5, verbose=0, callbacks=[Seen()])
    for variable, value in zip(model.trainable_variables, joined, strict=True):
        np.testing.assert_array_equal(variable, value)
    ((joint, (gmf, mlp), stages),) = seen
    # The stages share heads that ``join`` has scaled; their biases are still their own.
    bias = 0.25 * float(stages[0].bias) + 0.75 * float(stages[1].bias)
    logits = gmf - float(stages[0].bias) + mlp - float(stages[1].bias) + bias
    np.testing.assert_allclose(joint, logits, rtol=1e-4, atol=1e-5)


def test_a_gmf_that_is_solved_ranks_as_als_does_and_answers_in_log_odds() -> None:
    """With alpha 1 the joined model is ALS under ``scale * score + bias``."""
    solved = {"sweeps": 6, "l2": 0.02}
    params = {"factors": 4, "mlp_factors": 2, "gmf_als": solved, "alpha": 1.0, "finetune": "none"}
    model = build("neumf", DATA, {**params, "negatives": 3, "pretrain_epochs": [1, 1]})
    als = build("als", DATA, {"dim": 4, **solved})
    for each in (model, als):
        each.compile_for(TRAIN)
        each.fit(each.training_data(DATA, TRAIN), verbose=0)
    scores = tf.matmul(als.users, als.items, transpose_b=True).numpy()
    logits = model.score_catalogue({USER_ID: tf.range(1, DATA.n_users + 1)}).numpy()
    head = model.parts[0].head.numpy()
    assert head[0] > 0
    np.testing.assert_allclose(head, head[0])
    np.testing.assert_allclose(logits, head[0] * scores + float(model.bias), rtol=1e-3, atol=1e-3)
    # Three drawn items to an observed one: a quarter of the pairs, and so of the chances.
    had = DATA.train.matrix().toarray() > 0
    weights = np.where(had, 1.0, 3 * had.sum(1, keepdims=True) / (~had).sum(1, keepdims=True))
    chances = 1 / (1 + np.exp(-logits))
    assert np.average(chances, weights=weights) == pytest.approx(0.25, abs=0.02)


def test_log_odds_of_scores() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(0.3, 0.2, 40_000)
    seen = random.random(40_000) < 1 / (1 + np.exp(-(6.0 * scores - 2.5)))
    scale, bias = log_odds_scale(scores[seen], scores[~seen])
    assert scale == pytest.approx(6.0, rel=0.05)
    assert bias == pytest.approx(-2.5, rel=0.05)
    scale, _ = log_odds_scale(np.full(50, 1.0), np.full(150, 0.0))  # parted entirely
    assert 4 < scale < 40
    assert log_odds_scale(np.zeros(50), np.ones(50))[0] == 0  # never turns an order round


def test_negatives_are_new_each_epoch_and_never_observed() -> None:
    model = build("gmf", DATA, {"factors": 2})
    batches = model.training_data(DATA, TRAIN)
    observed = set(zip(DATA.train.user.tolist(), DATA.train.item.tolist(), strict=True))
    epochs, hits = [], 0
    for _ in range(2):
        rows = [
            (int(u), int(i), tuple(n))
            for b in batches
            for u, i, n in zip(
                b["user_id"].numpy(), b["item_id"].numpy(), b["negatives"].numpy(), strict=True
            )
        ]
        assert sorted((u, i) for u, i, _ in rows) == sorted(
            zip(DATA.train.user.tolist(), DATA.train.item.tolist(), strict=True)
        )
        hits += sum((u, n) in observed for u, _, drawn in rows for n in drawn)
        epochs.append(sorted(rows))
    assert epochs[0] != epochs[1]
    assert hits == 0


@pytest.mark.parametrize("name", ["gmf", "neumf"])
def test_two_replicas_equal_one(name: str) -> None:
    after = []
    for replicas in (1, 2):
        strategy = make_strategy(replicas)
        assert strategy.num_replicas_in_sync == replicas
        tf.keras.utils.set_random_seed(7)
        with strategy.scope():
            params = {"factors": 2, "layers": 2, "pretrain": False} if name == "neumf" else {}
            model = build(name, DATA, {"l2": 0.01, **params})
            model.compile_for(TRAIN)
        model.fit(model.training_data(DATA, TRAIN), epochs=2, verbose=0)
        after.append([v.numpy() for v in model.trainable_variables])
    for one, two in zip(*after, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-4)


@pytest.mark.parametrize("spread", [100, 10])
def test_fold_in_comes_close_to_the_optimum(spread: int) -> None:
    """The same loss minimised by SciPy from the same start, user by user."""
    random = np.random.default_rng(0)
    table = tf.constant(random.normal(0, 0.8, [31, 4]), tf.float32)
    histories = np.array([[1, 2, 3, 0], [9, 20, 30, 28], [5, 0, 0, 0], [0, 0, 0, 0]])
    l2, negatives = np.array([0.05, 0.05, 0.0, 0.1]), 4.0
    mean, factor = random.normal(0, 0.5, 4), np.linalg.cholesky(np.diag([1.0, 4, 0.2, 1]) + 0.1)
    shown = evenly(30, spread).numpy()
    assert len(shown) == min(spread, 30)

    def logits(vectors: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return tf.einsum("bd,xnd->bn" if items.shape[0] == 1 else "bd,bnd->bn", vectors,
                         tf.gather(table, items))  # fmt: skip

    found = fold_in_by_steps(
        tf.constant(histories), logits, tf.constant(mean, tf.float32),
        tf.constant(factor, tf.float32), 30, negatives=negatives,
        l2=tf.constant(l2, tf.float32), steps=60, spread=spread,
    ).numpy()  # fmt: skip
    np.testing.assert_allclose(found[3], mean, atol=1e-6)
    for row, items in enumerate(histories[:3]):
        liked = table.numpy()[items[items > 0]]
        other = table.numpy()[np.setdiff1d(shown, items)]
        share = negatives * len(liked) / len(other)

        def loss(v: np.ndarray, liked: np.ndarray = liked, other: np.ndarray = other,
                 share: float = share) -> float:  # fmt: skip
            offset = np.linalg.solve(factor, v - mean)
            ridge = 0.5 * (1 + negatives) * len(liked) * (l2 * v**2).sum()
            down = np.logaddexp(0, other @ v).sum() * share
            return float(
                np.logaddexp(0, -(liked @ v)).sum() + down + ridge + 0.5 * PRIOR * offset @ offset
            )

        best = scipy.optimize.minimize(loss, mean).fun
        assert loss(found[row]) <= best * 1.01 < loss(mean)


def test_the_scatter_of_the_users_is_their_covariance() -> None:
    random = np.random.default_rng(0)
    users = random.normal(0, [1.0, 3.0], [4000, 2]) @ np.array([[1.0, 0.5], [0.0, 1.0]]) + 2
    weight = np.arange(4000) % 2
    kept = users[weight == 1]
    mean = kept.mean(axis=0)
    told = [tf.constant(values, tf.float32) for values in (users, mean, weight)]
    factor = covariance_factor(*told).numpy()
    np.testing.assert_allclose(factor @ factor.T, np.cov(kept.T, bias=True), rtol=0.01, atol=0.01)
    assert (factor == np.tril(factor)).all()
    # One user, no spread at all: there is a factor nevertheless.
    assert np.isfinite(covariance_factor(told[0][:1], told[0][0], tf.ones([1]))).all()


def test_evenly_spread_items() -> None:
    np.testing.assert_array_equal(evenly(5, 9), [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(evenly(100, 4), [13, 38, 63, 88])


def test_unknown_users_are_answered_row_by_row() -> None:
    """Known, unknown with and without a history, in one batch and alone."""
    model = build("neumf", DATA, {"factors": 3, "history_length": 4})
    shuffled(model)
    model.refresh()
    told = {
        USER_ID: tf.constant([3, 0, 13, 13], tf.int64),
        HISTORY: tf.constant([[1, 2, 0, 0], [0, 0, 0, 0], [4, 5, 6, 0], [15, 99, 0, 0]], tf.int64),
    }
    together = model.score_catalogue(told).numpy()
    for row in range(4):
        alone = model.score_catalogue({k: v[row : row + 1] for k, v in told.items()})
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-3, atol=1e-3)
    without = model.score_catalogue({USER_ID: told[USER_ID][:2]}).numpy()
    np.testing.assert_allclose(without, together[:2], rtol=1e-4, atol=1e-4)
    # The history lifts its own items above where the average user has them.
    assert (together[2, 3:6] > together[1, 3:6]).all()


def test_bad_parameters_say_what_to_mend() -> None:
    with pytest.raises(ValueError, match=r"alpha is in 0\.\.1"):
        build("neumf", DATA, {"alpha": 1.5})
    with pytest.raises(ValueError, match=r"finetune one of .*; got .*'adagrad'"):
        build("neumf", DATA, {"finetune": "adagrad"})
    with pytest.raises(ValueError, match="layers is a number of hidden layers from 1; got 0"):
        build("mlp", DATA, {"layers": 0})
    with pytest.raises(ValueError, match="gmf_als holds parameters of 'als' but for dim"):
        build("neumf", DATA, {"gmf_als": {"dim": 8}})
    with pytest.raises(ValueError, match=r"pairs is one of .*; got 'all'"):
        build("neumf", DATA, {"gmf_als": {}, "gmf_pairs": "all"})
    with pytest.raises(ValueError, match=r"negatives, history_length.*got 0, "):
        build("neumf", DATA, {"gmf_negatives": 0})
    with pytest.raises(ValueError, match="gmf_als is a way of pre-training"):
        build("neumf", DATA, {"gmf_als": {}, "pretrain": False})
    with pytest.raises(ValueError, match="negatives, history_length, fold_in_steps and block"):
        build("gmf", DATA, {"negatives": 0})
