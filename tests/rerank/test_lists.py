"""MMR, DPP and calibrated lists: identical to the slow oracles, ties included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rerank import oracle
from tfrec.rerank import calibrated, dpp, mmr, rerank, unit_range

METHODS = ("mmr", "dpp", "calibrated")
CATEGORIES = 4


class Batch:
    """Random candidates; coarse ones repeat values, so that there are ties and twins."""

    def __init__(self, seed: int, batch: int = 3, width: int = 12, coarse: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.relevance: Any = rng.random((batch, width)).astype(np.float32)
        self.vectors: Any = rng.normal(size=(batch, width, 5)).astype(np.float32)
        self.categories = (rng.random((batch, width, CATEGORIES)) < 0.4).astype(np.float32)
        self.target = rng.random((batch, CATEGORIES)).astype(np.float32)
        self.target[:, 1] = 0.0
        self.valid = rng.random((batch, width)) < 0.8
        self.trade_off: Any = rng.random(batch).astype(np.float32)
        if coarse:
            self.relevance = np.round(self.relevance * 2).astype(np.float32) / 2
            self.vectors = rng.integers(-1, 2, (batch, width, 3)).astype(np.float32)
            self.vectors[:, width // 2 :] = self.vectors[:, : width - width // 2]
            self.trade_off = np.round(self.trade_off * 4).astype(np.float32) / 4

    def extras(self, method: str) -> dict[str, Any]:
        if method == "calibrated":
            return {"categories": self.categories, "target": self.target}
        return {"vectors": self.vectors}

    def asked(self, method: str, k: Any, window: int | None, **rules: Any) -> Any:
        return rerank(
            self.relevance,
            k,
            method=method,
            trade_off=self.trade_off,
            valid=self.valid,
            window=window,
            **self.extras(method),
            **rules,
        )

    def expected(self, method: str, k: int, window: int | None) -> list[list[int]]:
        return [self.expected_row(method, row, k, window) for row in range(len(self.relevance))]

    def gain(self, method: str, row: int, window: int | None) -> Any:
        t = float(self.trade_off[row])
        relevance = self.relevance[row].astype(np.float64)
        if method == "calibrated":
            return oracle.calibrated_gain(
                relevance, self.categories[row], self.target[row], t, window
            )
        make = oracle.mmr_gain if method == "mmr" else oracle.dpp_gain
        return make(relevance, self.vectors[row], t, window)

    def expected_row(
        self, method: str, row: int, k: int, window: int | None, rules: Any = None
    ) -> list[int]:
        noise = oracle.NOISE * float(self.trade_off[row])
        gain = self.gain(method, row, window)
        return oracle.pick_greedily(gain, self.valid[row], k, noise, rules)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    coarse=st.booleans(),
    k=st.integers(0, 15),
    window=st.sampled_from([None, 2, 4, 20]),
)
def test_lists_are_those_of_the_oracle(
    method: str, seed: int, coarse: bool, k: int, window: int | None
) -> None:
    batch = Batch(seed, coarse=coarse)
    found = batch.asked(method, k, window)
    assert found.indices.dtype == tf.int32
    assert found.indices.numpy().tolist() == batch.expected(method, k, window)
    assert found.relaxed.shape == (3, 0)


def test_each_step_of_the_dpp_takes_the_largest_determinant() -> None:
    """The kernel of the paper, by its determinants, with nothing but the definition."""
    rng = np.random.default_rng(5)
    vectors, relevance = rng.normal(size=(10, 6)), rng.random(10)
    t, ridge = 0.4, 1e-3
    v = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    s = (v @ v.T + ridge * np.eye(10)) / (1 + ridge)
    strength = np.exp((1 - t) / (2 * t) * relevance)
    kernel = strength[:, None] * s * strength[None, :]
    chosen: list[int] = []
    for _ in range(6):
        value = [
            np.linalg.det(kernel[np.ix_([*chosen, i], [*chosen, i])]) if i not in chosen else -1.0
            for i in range(10)
        ]
        chosen.append(int(np.argmax(value)))
    found = dpp.select(relevance[None], vectors[None], 6, t)
    assert found.numpy()[0].tolist() == chosen


def test_the_dpp_goes_on_being_diverse_beyond_the_dimension() -> None:
    """Twelve items on three axes, four each: every three in a row cover the axes."""
    vectors = np.repeat(np.eye(3), 4, axis=0)[None]
    relevance = np.linspace(0.1, 0.0, 12)[None]
    found = dpp.select(relevance, vectors, 12, 0.5).numpy()[0] // 4
    assert all(sorted(found[i : i + 3]) == [0, 1, 2] for i in range(0, 12, 3))


@pytest.mark.parametrize("method", ["none", *METHODS])
@pytest.mark.parametrize("window", [None, 3])
def test_a_trade_off_of_zero_is_the_order_of_relevance(method: str, window: int | None) -> None:
    batch = Batch(1, width=30)
    batch.relevance[0, 3:9] = batch.relevance[0, 2]  # equal ones stay in their order
    batch.relevance *= 1e-12  # and no size of gain is taken for noise
    batch.trade_off[:] = 0.0
    found = batch.asked(method, 30, window).indices.numpy()
    order = np.argsort(np.where(batch.valid, -batch.relevance, np.inf), axis=1, kind="stable")
    order = np.where(np.take_along_axis(batch.valid, order, 1), order, -1)
    np.testing.assert_array_equal(found, order)


@pytest.mark.parametrize("method", ["none", *METHODS])
@pytest.mark.parametrize("window", [None, 3])
def test_more_places_than_candidates_and_rows_without_any(method: str, window: int | None) -> None:
    batch = Batch(2, width=4)
    batch.valid[0] = True
    batch.valid[1] = False
    batch.relevance[2, :3] = [np.nan, -np.inf, np.inf]
    batch.valid[2] = True
    found = batch.asked(method, 7, window).indices.numpy()
    assert found.shape == (3, 7)
    assert sorted(found[0]) == [-1, -1, -1, 0, 1, 2, 3]
    assert (found[1] == -1).all()
    assert found[2].tolist() == [3, *[-1] * 6]


@pytest.mark.parametrize("method", ["none", *METHODS])
def test_no_candidates_and_no_rows(method: str) -> None:
    batch = Batch(2, width=4)
    for name in ("relevance", "vectors", "categories", "valid"):
        setattr(batch, name, getattr(batch, name)[:, :0])
    assert batch.asked(method, 2, None).indices.numpy().tolist() == [[-1, -1]] * 3
    for name in ("relevance", "vectors", "categories", "valid", "target", "trade_off"):
        setattr(batch, name, getattr(Batch(2), name)[:0])
    assert batch.asked(method, 2, 3).indices.shape == (0, 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("window", [None, 3])
def test_a_row_does_not_depend_on_the_others(method: str, window: int | None) -> None:
    batch = Batch(4, batch=6, width=25)
    together = batch.asked(method, 10, window).indices.numpy()
    for row in range(6):
        one = Batch(4, batch=6, width=25)
        for name in ("relevance", "vectors", "categories", "target", "valid", "trade_off"):
            setattr(one, name, getattr(one, name)[row : row + 1])
        np.testing.assert_array_equal(one.asked(method, 10, window).indices[0], together[row])


def test_items_of_zeros_are_like_no_other() -> None:
    vectors = np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    relevance = np.array([[1.0, 0.9, 0.5, 0.4]])
    for select in (mmr.select, dpp.select):
        assert select(relevance, vectors, 4, 0.8).numpy()[0].tolist() == [0, 2, 3, 1]


def test_calibration_gives_a_user_of_two_tastes_both() -> None:
    """Ten films of each of two kinds; the relevance knows one kind only (Steck's example)."""
    kinds = np.repeat(np.eye(2), 10, axis=0)[None]
    relevance = np.concatenate([np.linspace(1, 0.9, 10), np.linspace(0.5, 0.4, 10)])[None]
    target = np.array([[0.7, 0.3]])
    plain = calibrated.select(relevance, kinds, target, 10, 0.0).numpy()[0]
    found = calibrated.select(relevance, kinds, target, 10, 0.95).numpy()[0]
    assert (plain < 10).sum() == 10
    assert (found < 10).sum() == 7
    nobody = calibrated.select(relevance, kinds, target * 0.0, 10, 0.95).numpy()[0]
    np.testing.assert_array_equal(nobody, plain)


def test_a_history_gives_the_taste() -> None:
    history = np.array([[[1.0, 1, 0], [0, 1, 0], [0, 0, 0]], [[0, 0, 0]] * 3])
    found = calibrated.taste(history).numpy()
    np.testing.assert_allclose(found, np.array([[0.25, 0.75, 0], [0, 0, 0]]), atol=1e-7)
    found = calibrated.taste(history, np.array([[3.0, 1.0, 9.0]] * 2)).numpy()
    np.testing.assert_allclose(found[0], [1.5 / 4, 2.5 / 4, 0], atol=1e-7)


def test_unit_range() -> None:
    values = np.array([[2.0, 4.0, 3.0, np.nan, 100.0], [5.0, 5.0, -np.inf, 5.0, 5.0]])
    valid = np.array([[True, True, True, True, False], [True] * 5])
    found = unit_range(values, valid).numpy()
    nothing = -np.inf
    expected: Any = [[0, 1, 0.5, nothing, nothing], [0, 0, nothing, 0, 0]]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_errors_say_the_rule_and_what_came() -> None:
    relevance, vectors = np.zeros((2, 3), np.float32), np.zeros((2, 3, 4), np.float32)
    with pytest.raises(ValueError, match=r"relevance is float \[batch, candidate\]; got .*\(3,\)"):
        mmr.select(relevance[0], vectors, 2, 0.5)
    with pytest.raises(ValueError, match=r"vectors are float .*got shape \(2, 4, 3\)"):
        dpp.select(relevance, vectors.transpose(0, 2, 1), 2, 0.5)
    with pytest.raises(ValueError, match=r"valid is bool .*got int64"):
        mmr.select(relevance, vectors, 2, 0.5, valid=np.ones((2, 3), np.int64))
    with pytest.raises(ValueError, match=r"trade_off is between 0 .*got 1\.5"):
        mmr.select(relevance, vectors, 2, 1.5)
    with pytest.raises(ValueError, match=r"window is .* at least 2; got 1"):
        mmr.select(relevance, vectors, 2, 0.5, window=1)
    with pytest.raises(ValueError, match=r"window is a whole number .*got 2\.5"):
        dpp.select(relevance, vectors, 2, 0.5, window=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ridge is above 0"):
        dpp.select(relevance, vectors, 2, 0.5, ridge=0.0)
    with pytest.raises(ValueError, match=r"target is \[batch, category\].*got \(2, 3\)"):
        calibrated.select(relevance, vectors, np.zeros((2, 3)), 2, 0.5)
    with pytest.raises(ValueError, match=r"method is one of .*got 'mmmr'"):
        rerank(relevance, 2, method="mmmr")
    with pytest.raises(ValueError, match=r"method 'calibrated' needs \['target'\]"):
        rerank(relevance, 2, method="calibrated", categories=vectors)
