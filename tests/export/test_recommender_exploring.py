"""Exploration of the served recommender: what it logs is what it does, and judges others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from tests.export.objective_parts import Shop, ask, config
from tests.tables import small_tables
from tfrec import cli
from tfrec.config import ConfigError
from tfrec.evaluation.off_policy import ips
from tfrec.evaluation.policy_log import to_log
from tfrec.export.golden import compare, record
from tfrec.export.judge import judge
from tfrec.export.recommender.assemble import sampler, save_recommender

SMALL = {"retrieval": 6, "similar": 0, "popular": 3, "candidates": 6}
WEIGHTS = {"relevance": 1.0, "revenue": 0.0}
EPSILON = {"kind": "epsilon", "epsilon": 0.4}
SEEDS = 3000


def settings(exploration: dict[str, Any], **sections: Any) -> Any:
    return config(
        recommender={**SMALL, "exploration": exploration},
        **{"utility": {"weights": WEIGHTS}, **sections},
    )


@pytest.fixture(scope="module")
def made(shop: Shop) -> dict[str, Any]:
    """Recommenders as they are assembled: to save and to load one takes longer than to ask it."""
    limits = {"rerank": {"method": "mmr", "vectors": ["genres"], "max_per_group": {"genres": 1}}}
    return {
        "epsilon": shop.live(settings(EPSILON)),
        "limits": shop.live(settings({**EPSILON, "pool": 4}, **limits)),
        "thompson": shop.live(settings({"kind": "thompson", "draws": 200})),
        "plain": shop.live(settings({"kind": "none"})),
    }


@pytest.fixture(scope="module")
def saved(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the versions of ``epsilon``."""
    folder = tmp_path_factory.mktemp("epsilon")
    save_recommender(made["epsilon"].module, folder / "1")
    return folder


def seeds(n: int = SEEDS) -> tf.Tensor:
    return tf.range(1, n + 1, dtype=tf.int64)


def lists(answer: Any) -> list[tuple[bytes, ...]]:
    return [tuple(row) for row in answer["item_id"].tolist()]


@pytest.mark.parametrize("name", ["epsilon", "limits"])
def test_chances_of_lists_are_their_frequencies(made: dict[str, Any], name: str) -> None:
    got = ask(made[name], SEEDS, 2, seed=seeds())
    chance = dict(zip(lists(got), got["propensity"].prod(axis=1), strict=True))
    counts = Counter(lists(got))
    assert len(counts) > 5
    assert sum(chance.values()) == pytest.approx(1, abs=1e-3)
    for shown, p in chance.items():
        error = float(np.sqrt(p * (1 - p) / SEEDS))
        assert counts[shown] / SEEDS == pytest.approx(p, abs=5 * error), shown
    # The same list has the same chance whatever the seed, and the signature tells it, too.
    told = ask(made[name], 50, 2, "propensity", shown=tf.constant(got["item_id"][:50]))
    np.testing.assert_allclose(told["propensity"], got["propensity"][:50], atol=1e-6)


def test_limits_hold_where_chance_chooses(made: dict[str, Any]) -> None:
    genres = {r["item_id"].encode(): set(r["genres"]) for r in small_tables()[2].to_pylist()}
    got = ask(made["limits"], 200, 2, seed=seeds(200))
    candidates = set(lists(ask(made["limits"], 1, 6))[0])
    broken = got["relaxed"][:, got["rule"][0].tolist().index(b"max_per_group.genres")]
    for row, (first, second) in enumerate(lists(got)):
        assert bool(genres[first] & genres[second]) == bool(broken[row])
        # A limit gives way only where nothing keeps it.
        fine = [i for i in candidates - {first} if not genres[i] & genres[first]]
        assert bool(broken[row]) == (not fine)
    assert not broken.all()


def test_chance_chooses_from_the_pool_alone(made: dict[str, Any]) -> None:
    """Of the first place: four candidates share what is left to chance."""
    got = ask(made["limits"], 400, 1, seed=seeds(400))
    chances = sorted(set(got["propensity"].ravel().tolist()))
    np.testing.assert_allclose(chances, [0.1, 0.7], atol=1e-6)
    assert len(set(lists(got))) == 4


def test_thompson_counts_what_it_does(made: dict[str, Any]) -> None:
    n = 400
    got = ask(made["thompson"], n, 2, seed=seeds(n))
    frequency = Counter(got["item_id"][:, 0].tolist())
    assert len(frequency) > 1
    for item, count in frequency.items():
        here = got["item_id"][:, 0] == item
        p = count / n
        error = np.sqrt(p * (1 - p) / n) + np.sqrt(p * (1 - p) / 200)
        assert got["propensity"][here, 0].mean() == pytest.approx(p, abs=4 * error + 1 / 200)
    shown = tf.constant(got["item_id"][:n])
    told = ask(made["thompson"], n, 2, "propensity", shown=shown, seed=-seeds(n))
    # Draws that are not those of the lists: the same chances but for the draw that was served.
    np.testing.assert_allclose(told["propensity"].mean(), got["propensity"].mean(), atol=0.03)


@pytest.mark.parametrize("name", ["epsilon", "limits", "thompson"])
def test_without_chance_it_is_the_plain_list(made: dict[str, Any], name: str) -> None:
    got = ask(made[name], 3, 4, seed=seeds(3), explore=tf.constant([0.0, 0.0, 1.0]))
    best = ask(made[name], 1, 4, "recommend", seed=seeds(1) + 9, explore=tf.constant([0.0]))
    assert lists(got)[0] == lists(got)[1] == lists(best)[0]
    np.testing.assert_array_equal(got["propensity"][:2], np.ones((2, 4), np.float32))
    assert (got["propensity"][2] < 1).any()
    if name != "limits":
        assert lists(best)[0] == lists(ask(made["plain"], 1, 4))[0]


@pytest.mark.parametrize("name", ["epsilon", "limits", "thompson"])
def test_what_must_be_in_the_list_is(made: dict[str, Any], name: str) -> None:
    """Whatever it is worth, and whatever chance does; what is excluded is not."""
    everything = {f"i{i}".encode() for i in range(20)}
    best = set(lists(ask(made[name], 1, 6, explore=tf.constant([0.0])))[0])
    must = sorted(everything - best)[:2]
    n = 60
    include = tf.constant([must] * n)
    got = ask(made[name], n, 4, seed=seeds(n), include=include)
    for row in lists(got):
        assert set(must) <= set(row)
    named = got["source"][np.isin(got["item_id"], must)]
    assert set(named.tolist()) == {b"include"}
    shown = tf.constant(got["item_id"])
    told = ask(made[name], n, 4, "propensity", shown=shown, include=include)["propensity"]
    if name != "thompson":
        np.testing.assert_allclose(told, got["propensity"], atol=1e-6)
        # The last places are owed to what is not there yet.
        owed = ~np.isin(got["item_id"][:, :2], must).any(axis=1)
        assert owed.any()
    barred = ask(made[name], 1, 4, include=include[:1], exclude=include[:1, :1])
    assert must[0] not in lists(barred)[0]
    assert must[1] in lists(barred)[0]
    narrowed = ask(made[name], 1, 4, include=include[:1], among_genres=tf.constant([["g9"]]))
    assert (narrowed["item_id"] != b"").all()


def test_an_answer_can_be_made_again_from_its_seed(made: dict[str, Any]) -> None:
    for name in ("epsilon", "thompson"):
        got = ask(made[name], 40, 3)
        assert len(set(got["seed"].tolist())) == 40
        assert (got["seed"] > 0).all()
        assert (got["seed"] < 2**53).all()
        again = ask(made[name], 40, 3, seed=tf.constant(got["seed"]))
        assert lists(again) == lists(got)
        np.testing.assert_array_equal(again["propensity"], got["propensity"])
        alone = ask(made[name], 1, 3, seed=tf.constant(got["seed"][7:8]))
        assert lists(alone)[0] == lists(got)[7]
    later = ask(made["epsilon"], 40, 3)
    assert not set(later["seed"].tolist()) & set(got["seed"].tolist())


def test_examples_are_answered_alike_live_and_saved(made: dict[str, Any], saved: Path) -> None:
    """Golden requests: an example's own bytes are its seed, or it names one."""

    def example(user: str, seed: int | None = None) -> bytes:
        text = tf.train.Feature(bytes_list=tf.train.BytesList(value=[user.encode()]))
        features = {"user_id": text}
        if seed is not None:
            features["seed"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[seed]))
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    live = made["epsilon"].signatures["recommend_examples"]
    batch = [example(f"u{i}") for i in range(12)] + [example("u1", 7)]

    def asked(call: Any) -> Any:
        return lambda rows: {n: v.numpy() for n, v in call(tf.constant(rows)).items()}

    (golden,) = record(asked(live), "recommend_examples", [batch])
    loaded = tf.saved_model.load(str(saved / "1"))
    call = loaded.signatures["recommend_examples"]
    answered = asked(lambda rows: call(examples=rows))(batch)
    assert compare("saved_model", 0, golden.answer, answered) == []
    assert answered["seed"][-1] == 7
    assert len(set(answered["seed"].tolist())) == 13
    named = ask(loaded, 1, 10, seed=tf.constant([7], tf.int64))
    assert lists(named)[0] == lists(answered)[-1]
    # The clock gives each request its own seed in the saved graph, too.
    given = np.concatenate([ask(loaded, 3, 2)["seed"] for _ in range(2)])
    assert len(set(given.tolist())) == 6


@pytest.mark.parametrize("had", [18, 20])
def test_places_behind_the_candidates_are_sure(made: dict[str, Any], had: int) -> None:
    """Two candidates and then nothing; or none at all, and what is popular comes back."""
    history = tf.constant([[f"i{i}" for i in range(had)]] * 5)
    got = ask(made["epsilon"], 5, 4, seed=seeds(5), history=history)
    own = 20 - had
    assert ((got["source"] == b"fallback").sum(axis=1) == (0 if own else 4)).all()
    behind = got["propensity"][:, own:]
    np.testing.assert_array_equal(behind, np.ones_like(behind))
    shown = got["item_id"].copy()
    told = ask(made["epsilon"], 5, 4, "propensity", shown=tf.constant(shown), history=history)
    np.testing.assert_allclose(told["propensity"], got["propensity"], atol=1e-6)
    shown[:, [-1, -2]] = [b"i0", b"i1"]
    told = ask(made["epsilon"], 5, 4, "propensity", shown=tf.constant(shown), history=history)
    sure = (got["item_id"][:, -2:] == shown[:, -2:]).astype(np.float32)
    np.testing.assert_array_equal(told["propensity"][:, -2:], sure)


def test_what_a_policy_cannot_show_has_no_chance(made: dict[str, Any]) -> None:
    best = lists(ask(made["plain"], 1, 2))[0]
    shown = np.array([[*best], [b"no such item", best[0]], [best[1], best[0]], [b"", b""]], object)
    told = ask(made["plain"], 4, 2, "propensity", shown=tf.constant(shown))["propensity"]
    np.testing.assert_array_equal(told, [[1, 1], [0, 1], [0, 1], [1, 1]])


def test_a_log_of_one_policy_judges_another(
    made: dict[str, Any], saved: Path, tmp_path: Path
) -> None:
    """Served, rewarded, written, judged: the estimate holds what the other policy really earns."""
    n = 4000
    got = ask(made["epsilon"], n, 2, seed=seeds(n))
    worth = {f"i{i}".encode(): (i * 7 % 20) / 20 for i in range(20)}
    reward = np.vectorize(worth.__getitem__)(got["item_id"])
    log = pa.table(
        {
            "user_id": ["u1"] * n,
            "seed": got["seed"],
            "item_id": [[i.decode() for i in row] for row in got["item_id"]],
            "propensity": got["propensity"].tolist(),
            "reward": reward.tolist(),
        }
    )
    # The policy that wrote it: every weight is 1.
    own = judge(log.slice(0, 60), saved)
    np.testing.assert_allclose(
        np.array(own.column("target").to_pylist()), got["propensity"][:60], atol=1e-6
    )
    # Another: what is spent counts against an item, nothing is explored; its own list is known.
    other = {"weight_relevance": 0.0, "weight_revenue": -1.0, "explore": 0.0}
    live = ask(made["epsilon"], 1, 2, **{n: tf.constant([v]) for n, v in other.items()})
    truth = sum(worth[i] for i in live["item_id"][0])
    assert lists(live)[0] != lists(ask(made["plain"], 1, 2))[0]
    pq.write_table(log, tmp_path / "log.parquet")
    out = str(tmp_path / "out.parquet")
    turned = [f"--set={name}={value}" for name, value in other.items()]
    told = ["ope", str(tmp_path / "log.parquet"), "-m", str(saved), *turned]
    run = CliRunner().invoke(cli.app, [*told, "--dependence", "list", "--out", out])
    assert run.exit_code == 0, run.output
    found = ips(to_log(pq.read_table(out)), dependence="list")
    assert abs(found.value.mean - truth) < 4 * found.error
    assert found.error < 0.5
    assert f"{found.value.mean:.5f}" in run.output


class Stub(tf.Module):
    """What ``judge`` reads of a recommender before it asks it."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "user_id"),
            tf.TensorSpec([None, None], tf.string, "shown"),
            tf.TensorSpec([None], tf.float32, "explore"),
        ]
    )
    def propensity(self, user_id: tf.Tensor, shown: tf.Tensor, explore: tf.Tensor) -> Any:
        del user_id, explore
        return {"propensity": tf.ones_like(shown, tf.float32)}


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    stub = Stub()
    for name in ("propensity", "recommend"):
        tf.saved_model.save(stub, str(tmp_path / name / "1"), signatures={name: stub.propensity})
    log = pa.table({"user_id": ["u1"], "item_id": [["i1"]]})
    with pytest.raises(ValueError, match=r"settings are .*'explore'.*; got \['explode'\]"):
        judge(log, tmp_path / "propensity", {"explode": 1.0})
    with pytest.raises(ValueError, match="no signature 'propensity'"):
        judge(log, tmp_path / "recommend")
    with pytest.raises(ValueError, match="'item_id', a list of ids"):
        judge(pa.table({"user_id": ["u1"]}), tmp_path / "propensity")
    thompson = {"enabled": True, "exploration": {"kind": "thompson"}}
    with pytest.raises(ConfigError, match=r"give ranking\.last_layer_prior"):
        config({"last_layer_prior": None}, recommender=thompson)
    blank = SimpleNamespace(signatures={"rank": None})
    with pytest.raises(ValueError, match="no signature 'rank_sample'"):
        sampler(settings({"kind": "thompson"}), blank, "ranking")
