"""The search benchmark's own arithmetic: lists, fused scores, means over seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import common
from benchmarks.query import best_of, mean_of, record_gain, tokens_of, unit
from tests.tables import small_data
from tfrec.evaluation.full_catalogue import evaluate_lists
from tfrec.evaluation.protocol import held_out


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return small_data(tmp_path_factory.mktemp("statistics"))[0]


def test_lists_are_the_best_scores_without_what_is_known(data: Any) -> None:
    questions = held_out(data, "test")
    rng = np.random.default_rng(0)
    scores = rng.random((len(questions.users), data.n_items)).astype(np.float32)
    lists = best_of(scores, questions)
    for row, user in enumerate(questions.users):
        known = set(questions.known.item[questions.known.user == user])
        order = [i + 1 for i in np.argsort(-scores[row]) if i + 1 not in known]
        assert list(lists[row]) == (order + [0] * 10)[:10]
    assert (lists == 0).any()  # some users have had nearly all of this small catalogue


def test_scores_of_a_question_go_from_nought_to_one() -> None:
    found = unit(np.array([[2.0, 4.0, 3.0], [5.0, 5.0, 5.0]]))
    np.testing.assert_allclose(found, [[0.0, 1.0, 0.5], [0.0, 0.0, 0.0]])


def test_a_gain_is_paired_by_question_over_the_mean_of_the_seeds(
    data: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "RESULTS_DIR", tmp_path)
    questions = held_out(data, "test")
    rng = np.random.default_rng(1)

    def random_run(name: str) -> Any:
        lists = best_of(rng.random((len(questions.users), data.n_items)), questions)
        return evaluate_lists(lists, questions.users, data, "test", (10,), name=name)

    base, runs = random_run("bm25"), [random_run("two_tower") for _ in range(3)]
    results = common.Results("query")
    record_gain(results, base, mean_of(runs), "p", "n")
    by_metric = {str(r["metric"]): r["value"] for r in results.records}
    expected = np.mean([r["ndcg@10"] for r in runs]) - base["ndcg@10"]
    assert by_metric["ndcg@10 gain mean"] == pytest.approx(expected)
    low, high = by_metric["ndcg@10 gain low"], by_metric["ndcg@10 gain high"]
    assert low < expected < high
    assert {r["name"] for r in results.records} == {"two_tower"}


def test_bm25_reads_what_the_towers_read() -> None:
    found = tokens_of(["LED Lights", None], {"tokens": "ngrams", "ngram": [4, 4]})
    grams = {"<led", "led>", "<led>", "<lights>", "<lig", "ligh", "ight", "ghts", "hts>"}
    assert set(found[0]) == grams
    assert found[1] == []
