"""Settings measured against a loop over users; searches cover what they say."""

from __future__ import annotations

import numpy as np
import pytest

from tests.builders import random_data
from tfrec.evaluation.protocol import held_out
from tfrec.evaluation.tradeoffs import Candidates, Tradeoffs, best_of, by_item
from tfrec.evaluation.weight_search import Front, search, spread

K = 3


def shop(method: str = "none") -> tuple[Tradeoffs, np.ndarray, np.ndarray]:
    """Tradeoffs over random users, the scores and the prices."""
    data = random_data(40, 25, seed=2)
    questions = held_out(data, "test")
    rng = np.random.default_rng(0)
    scores = rng.random((len(questions.users), 25)).astype(np.float32)
    price = np.concatenate([[0.0], np.exp(rng.normal(2, 1, 25))])
    vectors = np.concatenate([np.zeros((1, 4)), np.eye(4)[rng.integers(0, 4, 25)]])
    items, best = best_of(scores, questions, 12)
    parts = {"relevance": best, "p_purchase": best / 2, "price": by_item(price, items)}
    judge = Tradeoffs(Candidates(items, parts), questions, K, price, vectors, method)
    return judge, scores, price


def test_candidates_are_the_best_unseen() -> None:
    judge, scores, _ = shop()
    questions, items = judge.questions, judge.candidates.items
    for row, user in enumerate(questions.users):
        seen = set(questions.known.item[questions.known.user == user].tolist())
        want = [i + 1 for i in np.argsort(-scores[row], kind="stable") if i + 1 not in seen][:12]
        assert items[row].tolist() == want + [0] * (12 - len(want))


@pytest.mark.parametrize("setting", [{"relevance": 1.0}, {"relevance": 2.0, "revenue": 0.3}])
def test_figures_equal_a_loop(setting: dict[str, float]) -> None:
    judge, _, price = shop()
    got = judge.measure(setting)
    revenue, ndcg, precision, shown = [], [], [], set()
    for row, items in enumerate(judge.candidates.items):
        relevance = judge.candidates.parts["relevance"][row]
        worth = setting["relevance"] * relevance
        worth = worth + setting.get("revenue", 0) * relevance / 2 * price[items].astype(np.float32)
        worth = np.where(items > 0, worth, -np.inf)
        mine = [items[at] for at in np.argsort(-worth, kind="stable")[:K] if items[at] > 0]
        shown |= set(mine)
        start, stop = judge.questions.indptr[row : row + 2]
        held = set(judge.questions.item[start:stop].tolist())
        hits = [item in held for item in mine]
        revenue.append(sum(price[i] for i, hit in zip(mine, hits, strict=True) if hit))
        gain = sum(hit / np.log2(at + 2) for at, hit in enumerate(hits))
        ndcg.append(gain / sum(1 / np.log2(at + 2) for at in range(min(K, len(held)))))
        precision.append(sum(hits) / K)
    assert got["revenue@3"] == pytest.approx(np.mean(revenue), rel=1e-6)
    assert got["ndcg@3"] == pytest.approx(np.mean(ndcg))
    assert got["precision@3"] == pytest.approx(np.mean(precision))
    assert got["coverage@3"] == pytest.approx(len(shown) / 25)


def test_a_trade_off_buys_diversity() -> None:
    judge, _, _ = shop("mmr")
    plain = judge.measure({"relevance": 1.0})
    none = judge.measure({"relevance": 1.0, "trade_off": 0.0})
    diverse = judge.measure({"relevance": 1.0, "trade_off": 0.9})
    assert plain == none
    assert diverse["diversity@3"] > plain["diversity@3"] + 0.1
    np.testing.assert_array_equal(
        shop("none")[0].lists({"relevance": 1.0}), judge.lists({"relevance": 1.0})
    )


def test_grid_and_sobol_cover_the_simplex() -> None:
    for method in ("grid", "sobol"):
        settings = spread(["a", "b", "c"], (0.0, 0.5), 64, method)  # type: ignore[arg-type]
        weights = np.array([[s["a"], s["b"], s["c"]] for s in settings])
        np.testing.assert_allclose(weights.sum(1), 1)
        assert weights.min() >= 0
        offs = np.array([s["trade_off"] for s in settings])
        assert offs.min() < 0.1
        assert 0.4 < offs.max() <= 0.5
        for corner in range(3):
            assert weights[:, corner].max() > 0.7
        assert len({tuple(w) for w in weights.round(9)}) > 9
    assert spread(["a"], (0.2, 0.2), 5, "sobol") == [{"a": 1.0, "trade_off": 0.2}]
    assert len(spread(["a", "b"], (0.0, 0.0), 11, "grid")) == 11
    with pytest.raises(ValueError, match=r"within 0\.\.1"):
        spread(["a"], (0.5, 0.2), 5, "grid")


def test_nsga2_finds_a_better_front_than_its_start() -> None:
    def measure(setting: dict[str, float]) -> dict[str, float]:
        a = setting["a"] / (setting["a"] + setting["b"])
        return {"x": 1 - a**2, "y": 1 - (1 - a) ** 2}

    found = search(measure, ["a", "b"], ["x", "y"], n=60, method="nsga2", seed=1)  # type: ignore[arg-type]
    assert len(found.settings) == 60
    # Three further goals in vain: the curve is covered to 95% of its volume.
    grid = search(measure, ["a", "b"], ["x", "y"], n=200, method="grid")  # type: ignore[arg-type]
    assert grid.hypervolume() * 0.95 < found.hypervolume() <= grid.hypervolume() * 1.01


def test_scales_and_fixed_settings() -> None:
    asked = []

    def measure(setting: dict[str, float]) -> dict[str, float]:
        asked.append(setting)
        return {"x": setting["a"], "y": setting["b"]}

    found = search(
        measure,  # type: ignore[arg-type]
        ["a", "b"],
        ["x", "y"],
        n=3,
        method="grid",
        scales={"b": 0.1},
        also=[{"a": 5.0, "b": 0.0}],
    )
    assert asked[0] == {"a": 5.0, "b": 0.0}
    assert [round(s["b"], 3) for s in asked[1:]] == [0.1, 0.05, 0.0]
    assert isinstance(found, Front)
    assert found.best.tolist() == [True, True, True, False]
    with pytest.raises(ValueError, match=r"got \['z'\]"):
        search(measure, ["a", "b"], ["z"], n=3, method="grid")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'random'"):
        search(measure, ["a", "b"], ["x"], method="random")  # type: ignore[arg-type]
