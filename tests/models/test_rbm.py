"""The RBMs against brute force: every state of a tiny machine is enumerated."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tests.builders import checkerboard
from tests.rated import rated_data
from tfrec.config import TrainConfig
from tfrec.data.encoded import Interactions, RetrievalData
from tfrec.models.binary_rbm import PurchaseRBM
from tfrec.models.boltzmann import BinaryMachine
from tfrec.models.rating_rows import RatingRows, Scale
from tfrec.models.rbm import RatingRBM

LEVELS, ITEMS, HIDDEN = 3, 3, 2


@pytest.fixture(scope="module")
def tiny() -> RetrievalData:
    """Three items, three levels; what is rated does not matter here."""
    base = rated_data(8, ITEMS, (1.0, 2.0, 4.0), 1.0, extra_users=0, extra_items=0)
    weight = np.array([1.0, 2.0, 4.0], np.float32)
    train = Interactions.from_arrays(
        np.array([1, 2, 3]), np.array([1, 2, 3]), base.n_users, ITEMS, weight=weight
    )
    return replace(base, train=train)


def machine(tiny: RetrievalData, **params: object) -> RatingRBM:
    model = RatingRBM(tiny, "user", HIDDEN, **params)  # type: ignore[arg-type]
    random = np.random.default_rng(1)
    for weight in model._weights.values():
        weight.assign(random.normal(0, 0.7, weight.shape))
    return model


def states(rated: tuple[int, ...]) -> np.ndarray:
    """Every vector of codes over the rated columns, int32 [L^n, ITEMS]."""
    out = np.zeros((LEVELS ** len(rated), ITEMS), np.int32)
    out[:, list(rated)] = list(itertools.product(range(1, LEVELS + 1), repeat=len(rated)))
    return out


VARIANTS: list[dict[str, object]] = [
    {},
    {"conditional": True},
    {"factors": 1},
    {"row_odds": True, "factors": 1},
    {"row_odds": True, "share_levels": True},
]
IDS = ["plain", "conditional", "factored", "row odds", "shared levels"]


@pytest.mark.parametrize("params", VARIANTS, ids=IDS)
def test_free_energy_sums_the_hidden_units_out(tiny: RetrievalData, params: dict) -> None:  # type: ignore[type-arg]
    """-log sum_h exp(-E(v, h)), by listing h and writing the energy out term by term."""
    model = machine(tiny, **params)
    w, b = (x.numpy()[..., :HIDDEN] if i == 0 else x.numpy() for i, x in enumerate(model.output()))
    c = model["hidden"].numpy()
    d = model["rated"].numpy() if "conditional" in params else np.zeros((ITEMS, HIDDEN))
    for v in states((0, 2)):
        own = np.zeros(LEVELS) if model.odds is None else model.odds(v[None]).numpy()[0]
        total = 0.0
        for h in itertools.product((0, 1), repeat=HIDDEN):
            energy = -float(np.dot(h, c))
            for i in (0, 2):
                energy -= b[i, v[i] - 1] + own[v[i] - 1] + np.dot(w[i, v[i] - 1] + d[i], h)
            total += np.exp(-energy)
        assert float(model.free_energy(v[None])[0]) == pytest.approx(-np.log(total), abs=1e-4)


@pytest.mark.parametrize("params", VARIANTS, ids=IDS)
def test_gradient_is_that_of_the_log_likelihood(tiny: RetrievalData, params: dict) -> None:  # type: ignore[type-arg]
    """Contrastive divergence with a long chain against the exact gradient by enumeration.

    Rows rate columns 0 and 2 alone: column 1 must be absent from both.
    """
    model = machine(tiny, **params)
    every = tf.constant(states((0, 2)))
    row = tf.constant([[2, 0, 3]])
    weights = list(model._weights.values())

    def energy(states: tf.Tensor) -> tf.Tensor:
        """Under the biases of ``row``, which its states share."""
        if model.odds is None:
            return model.free_energy(states)
        return model.free_energy(states, tf.repeat(model.odds(row), len(states), axis=0))

    with tf.GradientTape() as tape:
        log_z = tf.reduce_logsumexp(-energy(every))
        minus_log_likelihood = model.free_energy(row)[0] + log_z
    exact = tape.gradient(minus_log_likelihood, weights)
    tf.random.set_seed(0)
    chains = 20_000
    sampled = model.gibbs(tf.tile(row, [chains, 1]), 30)
    assert not sampled.numpy()[:, 1].any()
    with tf.GradientTape() as tape:
        gap = model.free_energy(row)[0] - tf.reduce_mean(energy(sampled))
    estimated = tape.gradient(gap, weights)
    sizes = []
    for name, first, second in zip(model._weights, exact, estimated, strict=True):
        one, other = tf.convert_to_tensor(first).numpy(), tf.convert_to_tensor(second).numpy()
        np.testing.assert_allclose(other, one, atol=0.03, err_msg=name)
        sizes.append(np.abs(one).max())
    assert max(sizes) > 0.2  # there is a gradient to be estimated


@pytest.mark.parametrize("params", VARIANTS, ids=IDS)
def test_a_step_of_training_is_that_of_cd_1(tiny: RetrievalData, params: dict) -> None:  # type: ignore[type-arg]
    """Many copies of a row against the mean over all hidden states, and the decay of weights."""
    model = machine(tiny, **params, weight_decay=0.3)
    row, weights = tf.constant([[2, 0, 3]]), list(model._weights.values())
    at, start = tf.where(row > 0), [weight.numpy() for weight in weights]
    odds = None if model.odds is None else model.odds(row)
    on = model.hidden_chances(row)[0]
    with tf.GradientTape() as tape:
        expected = model.free_energy(row, odds)[0]
        for h in itertools.product((0.0, 1.0), repeat=HIDDEN):
            chance = tf.reduce_prod(tf.where(tf.constant(h) > 0, on, 1 - on))
            scores = model._down(tf.constant([h]), at) + (0.0 if odds is None else odds)
            restored = tf.stop_gradient(tf.nn.softmax(scores))
            energy = model.free_energy(row, odds, restored)[0]
            expected -= tf.stop_gradient(chance) * energy
    gradients = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(expected, weights)]
    model.compile(optimizer=tf.keras.optimizers.legacy.SGD(1.0))
    tf.random.set_seed(0)
    model.train_step({"code": tf.tile(row, [20_000, 1])})
    for name, before, after, slope in zip(model._weights, start, weights, gradients, strict=True):
        decay = 0.0 if name in ("visible", "hidden") else 0.3
        np.testing.assert_allclose(before - after, slope + decay * before, atol=0.02, err_msg=name)


def test_momentum_and_rate_reach_the_optimizer(tiny: RetrievalData) -> None:
    model = machine(tiny, momentum=0.7)
    model.compile_for(TrainConfig(learning_rate=0.02))
    settings = model.optimizer.get_config()
    assert (settings["momentum"], settings["learning_rate"]) == (0.7, pytest.approx(0.02))


def test_free_energy_of_chances_that_are_certain(tiny: RetrievalData) -> None:
    """Chances of 1 are a state; a mixed state's gradient by W is chance times hidden chance."""
    model = machine(tiny, row_odds=True, conditional=True)
    shared = machine(tiny, row_odds=True, conditional=True, share_levels=True)
    row = tf.constant([[2, 0, 3], [1, 1, 0]])
    at = tf.where(row > 0)
    sure = tf.one_hot(tf.gather_nd(row, at) - 1, LEVELS)
    for each in (model, shared):
        np.testing.assert_allclose(
            each.free_energy(row, chances=sure), each.free_energy(row), atol=1e-5
        )
    mixed = tf.constant(np.random.default_rng(0).dirichlet(np.ones(LEVELS), 4), tf.float32)
    with tf.GradientTape() as tape:
        energy = tf.reduce_sum(model.free_energy(row, chances=mixed))
    gradient = tf.convert_to_tensor(tape.gradient(energy, model["w"])).numpy()
    hidden = tf.sigmoid(model._up(row, at, mixed)).numpy()
    expected = np.zeros_like(gradient)
    for (line, column), chance in zip(at.numpy(), mixed.numpy(), strict=True):
        expected[column] -= np.outer(chance, hidden[line])
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_gibbs_steps_rise_over_the_epochs(tiny: RetrievalData) -> None:
    model = machine(tiny, cd=[1, 3, 5], cd_epochs=2)
    model.steps_per_epoch = 4
    found = []
    for epoch in range(8):
        model._steps.assign(4 * epoch)
        found.append(int(model.gibbs_steps()))
    assert found == [1, 1, 3, 3, 5, 5, 5, 5]


def test_free_energy_falls_on_what_is_learned() -> None:
    """A diagnostic that works: held-out ratings are likelier than the same with odd items flipped.

    (All flipped would be the other kind of user, just as likely.)
    """
    data = rated_data(40, 20, seed=3)
    train = TrainConfig(epochs=60, batch_size=10, learning_rate=0.02, patience=0)
    model = RatingRBM(data, "user", 8, optimizer="adam")
    model.compile_for(train)
    model.fit(model.training_data(data, train), epochs=train.epochs, verbose=0)
    held = RatingRows.of(data.validation.join(data.test), model.scale, "user")
    block = next(iter(held.blocks(np.arange(40), 40)))["code"]
    odd = np.arange(model.n_columns) % 2 == 0
    flipped = tf.where((block > 0) & odd, 6 - block, block)
    assert float(tf.reduce_mean(model.free_energy(block))) < float(
        tf.reduce_mean(model.free_energy(flipped))
    )


def test_binary_machine_against_enumeration() -> None:
    machine = BinaryMachine(3, 2, "tiny")
    random = np.random.default_rng(0)
    for variable in machine.variables:
        variable.assign(random.normal(0, 0.8, variable.shape))
    v = np.array(list(itertools.product((0, 1), repeat=3)), np.float32)
    h = np.array(list(itertools.product((0, 1), repeat=2)), np.float32)
    w, b, c = machine.w.numpy(), machine.b.numpy(), machine.c.numpy()
    joint = np.exp(v @ b[:, None] + (h @ c)[None, :] + v @ w @ h.T)
    np.testing.assert_allclose(machine.free_energy(v), -np.log(joint.sum(axis=1)), atol=1e-5)
    tf.random.set_seed(0)
    drawn = machine.gibbs(tf.zeros([20_000, 3]), 30).numpy() @ [4, 2, 1]
    shares = np.bincount(drawn.astype(int), minlength=8) / 20_000
    np.testing.assert_allclose(shares, joint.sum(axis=1) / joint.sum(), atol=0.015)


def test_purchases_fall_into_place() -> None:
    data = checkerboard(20)
    model = PurchaseRBM(data, 8)
    assert model.score_catalogue(
        {"history": tf.constant(data.train.histories(np.array([1, 2]), 5), tf.int64)}
    ).shape == (2, 20)
    with pytest.raises(ValueError, match="a number above 0"):
        PurchaseRBM(data, 0)


def test_scale_is_found_in_the_data() -> None:
    scale = Scale.of(np.array([4.5, 0.5, 2.0, 4.5]))
    assert scale.levels.tolist() == [0.5, 2.0, 4.5]
    assert scale.codes(np.array([0.5, 1.2, 1.3, 3.2, 3.3, 9.0])).tolist() == [1, 1, 2, 2, 3, 3]
    with pytest.raises(ValueError, match="at most 64 levels"):
        Scale.of(np.arange(65))
    with pytest.raises(ValueError, match="finite numbers"):
        Scale.of(np.array([1.0, np.nan]))


def test_rows_hold_the_latest_rating_of_a_pair() -> None:
    events = Interactions.from_arrays(
        np.array([1, 2, 1]), np.array([2, 1, 2]), 2, 3, weight=np.array([1.0, 2.0, 3.0])
    )
    scale = Scale.of(events.weight)
    by_user = next(iter(RatingRows.of(events, scale).blocks(np.arange(2), 9)))["code"]
    assert by_user.numpy().tolist() == [[0, 3, 0], [2, 0, 0]]
    by_item = next(iter(RatingRows.of(events, scale, "item").blocks(np.arange(3), 9)))["code"]
    assert by_item.numpy().tolist() == by_user.numpy().T.tolist()


def test_bad_parameters_are_refused(tiny: RetrievalData) -> None:
    with pytest.raises(ValueError, match="Gibbs steps from 1"):
        RatingRBM(tiny, cd=[0])
    with pytest.raises(ValueError, match="'user' or 'item'"):
        RatingRBM(tiny, by="column")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="polyak is a decay"):
        RatingRBM(tiny, polyak=1.5)
