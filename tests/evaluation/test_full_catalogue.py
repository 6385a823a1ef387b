"""Whole-catalogue evaluation against a loop over users."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import random_data, retrieval_data, without_split
from tests.evaluation.oracle import ranking, user_metrics
from tests.evaluation.stub import Fixed
from tfrec.data.encoded import RetrievalData
from tfrec.evaluation import evaluate, evaluate_lists, evaluate_models, held_out, protocol
from tfrec.evaluation.protocol import block_size
from tfrec.evaluation.ranker import NoNumberError, Ranker


def expected(
    data: RetrievalData, model: Fixed, split: str, ks: tuple[int, ...], exclude_seen: bool = True
) -> tuple[list[int], list[list[int]], dict[str, list[float]]]:
    """Users, lists and per-user metrics, one user at a time."""
    before = [data.train, data.validation] if split == "test" else [data.train]
    events = getattr(data, split)
    users, lists, values = [], [], {}  # type: ignore[var-annotated]
    for user in range(1, data.n_users + 1):
        seen = {int(i) for e in before for i in e.item[e.user == user]} if exclude_seen else set()
        held = {int(i) for i in events.item[events.user == user]} - seen
        if not held:
            continue
        order = ranking(model.table.numpy()[user], seen)
        users.append(user)
        lists.append(order)
        for k in ks:
            found = user_metrics(order, held, data.n_items - len(seen), k)
            for name, value in found.items():
                values.setdefault(f"{name}@{k}", []).append(value)
    return users, lists, values


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    split=st.sampled_from(["validation", "test"]),
    levels=st.sampled_from([None, 1, 3]),
    exclude_seen=st.booleans(),
    block=st.sampled_from([None, 1, 7]),
)
def test_equals_the_oracle(
    seed: int, split: Any, levels: int | None, exclude_seen: bool, block: int | None
) -> None:
    data = random_data(12, 9, 5.0, seed=seed)
    if not len(getattr(data, split)):
        return
    model = Fixed.random(data, seed, levels)
    ks = (1, 3, 12)  # the last is longer than the catalogue
    found = evaluate(model, data, split, ks, exclude_seen=exclude_seen, block=block)
    users, lists, values = expected(data, model, split, ks, exclude_seen)
    assert found.users.tolist() == users
    for row, order in enumerate(lists):
        assert found.lists[row].tolist() == (order + [0] * 12)[:12]
    for name, each in values.items():
        np.testing.assert_allclose(found.per_user[name], each, err_msg=name)
        assert found[name] == pytest.approx(np.mean(each))
    counted = evaluate(model, data, split, ks, exclude_seen=exclude_seen, block=block, lists=False)
    for name, value in found.per_user.items():
        np.testing.assert_array_equal(counted.per_user[name], value, err_msg=name)


def test_one_trace_for_all_blocks_and_calls() -> None:
    data = random_data(40, 15)
    model = Fixed.random(data)
    ranker = Ranker(model, data, held_out(data, "test"), 5, block=7)
    first = ranker.lists()
    np.testing.assert_array_equal(ranker.lists(), first)
    assert model.traces == 1
    ranks = ranker.ranks()
    np.testing.assert_array_equal(ranker.ranks(), ranks)
    assert model.traces == 2


def test_ranks_are_places_in_the_lists() -> None:
    data = random_data(30, 14, held=3)
    model = Fixed.random(data, levels=4)
    questions = held_out(data, "test")
    ranker = Ranker(model, data, questions, 14, block=4)
    lists = ranker.lists()
    for user, item, rank in zip(questions.user, questions.item, ranker.ranks(), strict=True):
        row = questions.users.tolist().index(user)
        assert lists[row, rank - 1] == item


@pytest.mark.parametrize("lists", [True, False])
@pytest.mark.parametrize("where", [np.s_[:], np.s_[7, 3]])
def test_scores_that_are_no_numbers_are_refused(lists: bool, where: Any) -> None:
    """Nothing is above NaN: counted as ranks, a model that diverged would be perfect."""
    data = random_data(12, 9, 5.0)
    table = Fixed.random(data).table.numpy()
    table[where] = np.nan
    with pytest.raises(NoNumberError, match=r"Fixed gives finite scores; .* of \d+ users hold NaN"):
        evaluate(Fixed(table), data, ks=(3,), lists=lists, block=4)
    table = Fixed.random(data).table.numpy()
    table[0], table[:, 2] = np.nan, -np.inf  # the padding user is nobody; -inf is an order
    assert evaluate(Fixed(table), data, ks=(3,), lists=lists, block=5)["recall@3"] < 1


def test_no_lists_no_beyond() -> None:
    data = random_data(10, 8)
    with pytest.raises(ValueError, match="pass lists=True"):
        evaluate(Fixed.random(data), data, ks=(3,), lists=False, beyond=lambda e: {})


def test_a_ranker_sees_new_weights() -> None:
    """What is kept between epochs is the trace, not the scores."""
    import tensorflow as tf

    data = random_data(20, 10)
    model = Fixed.random(data)
    model.table = tf.Variable(model.table)
    ranker = Ranker(model, data, held_out(data, "test"), 3)
    before = ranker.lists()
    model.table.assign(-model.table)
    after = ranker.lists()
    np.testing.assert_array_equal(after, Ranker(model, data, ranker.questions, 3).lists())
    assert (before != after).any()


def test_refreshes_the_model_before_scoring() -> None:
    data = random_data(20, 10)
    model = Fixed.random(data)
    calls = []
    model.refresh = lambda: calls.append(1)  # type: ignore[attr-defined]
    evaluate(model, data, ks=(3,), block=5)
    assert calls == [1]


def test_repeated_and_seen_events_are_dropped_and_counted() -> None:
    data = retrieval_data(
        [(1, 1), (1, 2), (2, 3)], [(1, 3)], [(1, 2), (1, 3), (1, 4), (1, 4), (2, 3)], 2, 5
    )
    questions = held_out(data, "test")
    assert questions.users.tolist() == [1]  # user 2 has only an old item to predict
    assert questions.item.tolist() == [4]
    assert questions.dropped == 4
    assert questions.candidates.tolist() == [2]
    again = held_out(data, "test", exclude_seen=False)
    assert again.user.tolist() == [1, 1, 1, 2]
    assert again.dropped == 1
    assert again.candidates.tolist() == [5, 5]


def test_only_the_named_users() -> None:
    data = random_data(20, 10)
    asked = held_out(data, "test").users[::2]
    found = evaluate(Fixed.random(data), data, ks=(3,), users=asked)
    assert found.users.tolist() == asked.tolist()


def test_lists_made_elsewhere_get_the_same_numbers() -> None:
    data = random_data(25, 12)
    mine = evaluate(Fixed.random(data), data, ks=(2, 5))
    order = np.random.default_rng(0).permutation(len(mine.users))
    users = np.append(mine.users[order], 0)  # and one who is not asked about
    lists = np.vstack([mine.lists[order], np.zeros((1, 5), np.int32)])
    theirs = evaluate_lists(lists, users, data, ks=(2, 5))
    assert theirs.metrics == mine.metrics


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("short", "K >= 5"),
        ("outside", "item indices 0..12"),
        ("twice", "at most once in a list"),
        ("seen", "were seen by their user"),
        ("missing", "have no list"),
        ("user twice", "stand once each"),
    ],
)
def test_wrong_lists_are_refused(change: str, message: str) -> None:
    data = random_data(25, 12)
    mine = evaluate(Fixed.random(data), data, ks=(5,))
    lists, users = mine.lists.copy(), mine.users.copy()
    if change == "short":
        lists = lists[:, :4]
    elif change == "outside":
        lists[0, 0] = 13
    elif change == "twice":
        lists[0, 1] = lists[0, 0]
    elif change == "seen":
        lists[0, 0] = data.train.item[data.train.user == users[0]][0]
    elif change == "missing":
        lists, users = lists[1:], users[1:]
    else:
        users[1] = users[0]
    with pytest.raises(ValueError, match=message):
        evaluate_lists(lists, users, data, ks=(5,))


def test_several_models_answer_the_same_questions() -> None:
    data = random_data(25, 12)
    models = {"one": Fixed.random(data, 1), "two": Fixed.random(data, 2)}
    found = evaluate_models(models, data, "validation", (3,), exclude_seen=False)
    assert list(found) == ["one", "two"]
    assert found["one"].name == "one"
    alone = evaluate(models["two"], data, "validation", (3,), exclude_seen=False)
    assert found["two"].metrics == alone.metrics


def test_bad_questions() -> None:
    data = random_data(10, 8)
    model = Fixed.random(data)
    with pytest.raises(ValueError, match="'validation' or 'test'"):
        evaluate(model, data, "train")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no events to predict"):
        evaluate(model, without_split(data, "test"))
    with pytest.raises(KeyError, match="recall@7"):
        evaluate(model, data, ks=(3,))["recall@7"]


def test_memory_bound_sets_the_block() -> None:
    assert block_size(1 << 20, 10, 1000) == 10
    assert block_size(1, 10, 1000) == 1000
    with pytest.raises(ValueError, match="raise it"):
        block_size(1 << 22, 1, 10)
    data = random_data(40, 15)
    ranker = Ranker(Fixed.random(data), data, held_out(data), 5, max_memory_mb=0.005)
    assert 1 <= ranker.block < 20
    np.testing.assert_array_equal(
        ranker.lists(), Ranker(Fixed.random(data), data, held_out(data), 5).lists()
    )


def test_tables_of_users_by_items_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million items 2,048 users would take two gigabytes, whatever ``max_memory_mb`` says."""
    assert protocol.table_rows(1_000_000, 2048) == 67
    assert protocol.table_rows(10**9, 2048) == 1
    data = random_data(40, 15)
    whole = evaluate(Fixed.random(data), data, ks=(3,))
    monkeypatch.setattr(protocol, "TABLE_BYTES", 3 * 16)
    small = evaluate(Fixed.random(data), data, ks=(3,))
    assert small.metrics == whole.metrics
    np.testing.assert_array_equal(small.candidates, whole.candidates)


def test_progress_is_shown_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    data = random_data(20, 10)
    evaluate(Fixed.random(data), data, ks=(3,), block=4, progress=True, name="stub")
    assert "evaluating stub" in capsys.readouterr().err
    evaluate(Fixed.random(data), data, ks=(3,), block=4)
    assert capsys.readouterr().err == ""


def test_select_and_to_dict() -> None:
    data = random_data(30, 12)
    found = evaluate(Fixed.random(data), data, ks=(3,))
    half = found.select(np.arange(len(found.users)) % 2 == 0)
    assert half["recall@3"] == pytest.approx(found.per_user["recall@3"][::2].mean())
    assert len(half.held_item) == half.relevant.sum()
    told = found.to_dict()
    assert told["held_out"] == found.relevant.sum()
    assert told["metrics"]["recall@3"] == found["recall@3"]
