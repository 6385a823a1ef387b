"""Leave-one-out with fixed negatives, and AUC over all unobserved items, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import checkerboard, random_data, retrieval_data
from tests.evaluation.oracle import auc
from tests.evaluation.stub import Fixed
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation import held_out
from tfrec.evaluation.auc import evaluate_auc
from tfrec.evaluation.sampled import evaluate_sampled, sample_negatives


def had(data: RetrievalData, user: int) -> set[int]:
    splits = (data.train, data.validation, data.test)
    return {int(i) for e in splits for i in e.item[e.user == user]}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), levels=st.sampled_from([None, 2]), block=st.sampled_from([3, 20]))
def test_rank_equals_counting(seed: int, levels: int | None, block: int) -> None:
    data = checkerboard(10)
    model = Fixed.random(data, seed, levels)
    negatives = np.random.default_rng(seed).integers(0, 11, (10, 6))  # 0 and the item itself too
    for ties in ("against", "for"):
        found = evaluate_sampled(model, data, negatives, ks=(1, 3, 9), ties=ties, block=block)
        for row, user in enumerate(range(1, 11)):
            scores = model.table.numpy()[user]
            mine = scores[user - 1]  # the held-out item of user u is item u
            others = [scores[i - 1] for i in negatives[row] if i not in (0, user)]
            rank = 1 + sum(s >= mine if ties == "against" else s > mine for s in others)
            assert found.per_user["hr@3"][row] == (rank <= 3)
            ndcg = 1 / np.log2(rank + 1) if rank <= 9 else 0
            assert found.per_user["ndcg@9"][row] == pytest.approx(ndcg)
            assert found.candidates[row] == 1 + len(others)
    assert model.traces == 2


def test_equal_scores_count_against_the_model() -> None:
    data = checkerboard(10)
    flat = Fixed(np.zeros((11, 10)))
    negatives = sample_negatives(data, count=4)
    assert evaluate_sampled(flat, data, negatives, ks=(1, 4))["hr@4"] == 0
    assert evaluate_sampled(flat, data, negatives, ks=(1, 4), ties="for")["hr@1"] == 1


def test_negatives_are_unobserved_distinct_and_fixed() -> None:
    data = random_data(40, 30)
    drawn = sample_negatives(data, "test", 25, seed=3)
    np.testing.assert_array_equal(drawn, sample_negatives(data, "test", 25, seed=3))
    assert (drawn != sample_negatives(data, "test", 25, seed=4)).any()
    for user, row in zip(held_out(data).users, drawn, strict=True):
        real = row[row > 0]
        assert len(set(real)) == len(real) == min(25, 30 - len(had(data, int(user))))
        assert not set(real.tolist()) & had(data, int(user))
        assert (row[len(real) :] == 0).all()


@pytest.mark.parametrize(
    ("negatives", "message"),
    [
        (np.ones((9, 4), int), "one row for each of the 10"),
        (np.full((10, 4), 11), "item indices 0..10"),
    ],
)
def test_bad_negatives(negatives: np.ndarray, message: str) -> None:
    data = checkerboard(10)
    with pytest.raises(ValueError, match=message):
        evaluate_sampled(Fixed.random(data), data, negatives)


def test_needs_one_held_out_item() -> None:
    data = random_data(30, 20, held=3)
    with pytest.raises(ValueError, match="one item a user"):
        evaluate_sampled(Fixed.random(data), data, np.ones((30, 4), int))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), levels=st.sampled_from([None, 3]), block=st.sampled_from([4, 50]))
def test_auc_equals_counting_pairs(seed: int, levels: int | None, block: int) -> None:
    data = random_data(15, 12, 6.0, held=3, seed=seed)
    if not len(data.test):
        return
    model = Fixed.random(data, seed, levels)
    found = evaluate_auc(model, data, block=block)
    assert model.traces == 1
    questions = held_out(data)
    assert found.users.tolist() == questions.users.tolist()
    for user, value in zip(found.users, found.values, strict=True):
        positives = questions.item[questions.user == user].tolist()
        negatives = [i for i in range(1, 13) if i not in had(data, int(user))]
        expected = auc(model.table.numpy()[user], positives, negatives) if negatives else 0.5
        assert value == pytest.approx(expected, abs=1e-6)


def test_auc_of_cold_items_only() -> None:
    data = random_data(40, 30, 6.0)
    cold = data.train.item_counts() < 5
    model = Fixed.random(data)
    found = evaluate_auc(model, data, items=cold)
    questions = held_out(data)
    asked = questions.item[cold[questions.item]]
    assert 0 < len(asked) < len(questions.item)
    assert found.users.tolist() == np.unique(questions.user[cold[questions.item]]).tolist()
    with pytest.raises(ValueError, match="no held-out item"):
        evaluate_auc(model, data, items=np.zeros(31, bool))


def test_who_buys_again_is_asked_with_negatives_of_their_own() -> None:
    data = retrieval_data(
        train=[(1, 1), (2, 2), (3, 3)], test=[(1, 1), (2, 4), (3, 3)], n_users=3, n_items=8
    )
    negatives = sample_negatives(data, count=3)
    assert negatives.shape == (3, 3)
    found = evaluate_sampled(Fixed.random(data), data, negatives, ks=(1,), progress=False)
    assert found.users.tolist() == [1, 2, 3]


def test_scores_that_are_no_numbers_are_refused() -> None:
    data = checkerboard(10)
    model = Fixed(np.full((11, 10), np.nan))
    with pytest.raises(ValueError, match="those of 10 of 10 users hold NaN"):
        evaluate_auc(model, data)
    with pytest.raises(ValueError, match="those of 10 of 10 users hold NaN"):
        evaluate_sampled(model, data, sample_negatives(data, count=3))
