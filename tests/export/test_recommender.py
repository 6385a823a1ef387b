"""The one-call recommender: as its parts called one by one, and its promises one by one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.client import Client
from serving.options import Options
from serving.server import Server
from tests.export.recommender_parts import (
    NUMBERS,
    Asked,
    Oracle,
    config,
    write_models,
    write_recommender,
)

REQUESTS = [
    Asked("u1", ["i1", "i3", "i7"], ["i5"], [], age="a1", device="desk"),
    Asked("nobody", [], [], ["g2"]),
    Asked("u2", ["i5", "not an item", "i9"], ["i2", "i4"], ["g1", "g0"], device="phone"),
    Asked("", [], [], []),
]
NAN = float("nan")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    return folder


@pytest.fixture(scope="module")
def folder(models: Path) -> Path:
    return write_recommender(models, config(), models / "recommender" / "1")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Any:
    return tf.saved_model.load(str(folder))


@pytest.fixture(scope="module")
def strict(models: Path) -> Path:
    """Searched by an inverted file, and its filters are strict: neither touches the other."""
    index = {"kind": "ivf", "cells": 3, "probes": 3, "at": 5}
    settings = config(retrieval={"index": index}, recommender={**NUMBERS, "strict": ["genres"]})
    return write_recommender(models, settings, models / "strict" / "1")


@pytest.fixture(scope="module")
def strictly(strict: Path) -> Any:
    return tf.saved_model.load(str(strict))


def ask(model: Any, requests: list[Asked], k: int, **more: Any) -> dict[str, np.ndarray]:
    def rows(values: list[list[str]]) -> tf.Tensor:
        width = max((len(v) for v in values), default=0) or 1
        return tf.constant([v + [""] * (width - len(v)) for v in values])

    given = {
        "user_id": tf.constant([r.user for r in requests]),
        "age": tf.constant([r.age for r in requests]),
        "device": tf.constant([r.device for r in requests]),
        "history": rows([r.history for r in requests]),
        "exclude": rows([r.exclude for r in requests]),
        "include": tf.fill([len(requests), 1], ""),
        "among_genres": rows([r.genres for r in requests]),
        "k": tf.constant(k),
        "weight_relevance": tf.fill([len(requests)], NAN),
        "weight_revenue": tf.fill([len(requests)], NAN),
        **more,
    }
    return {n: v.numpy() for n, v in model.signatures["recommend"](**given).items()}


@pytest.mark.parametrize("k", [1, 5, 9])
@pytest.mark.parametrize("revenue", [NAN, 0.5])
def test_equals_its_parts_called_one_by_one(
    models: Path, loaded: Any, k: int, revenue: float
) -> None:
    oracle = Oracle(models, config())
    weights = {"relevance": 1.0, "revenue": 0.0 if np.isnan(revenue) else revenue}
    asked = tf.fill([len(REQUESTS)], revenue)
    got = ask(loaded, REQUESTS, k, weight_revenue=asked)
    for row, request in enumerate(REQUESTS):
        want = oracle.recommend(request, k, weights)
        answered = len(want)
        more = oracle.allowed(request) - answered
        assert got["fallback"][row] == (answered < k and more > 0)
        own = [i.decode() for i in got["item_id"][row, :answered]]
        assert own == [r[0] for r in want]
        assert [s.decode() for s in got["source"][row, :answered]] == [r[1] for r in want]
        np.testing.assert_allclose(got["score"][row, :answered], [r[2] for r in want], rtol=1e-4)
        np.testing.assert_allclose(
            got["relevance"][row, :answered], [r[3] for r in want], rtol=1e-4
        )
    total = got["part_relevance"] + got["part_revenue"]
    there = got["item_id"] != b""
    np.testing.assert_allclose(total[there], got["score"][there], rtol=1e-5)


def test_never_answers_what_is_excluded_seen_or_not_allowed(models: Path, loaded: Any) -> None:
    oracle = Oracle(models, config())
    got = ask(loaded, REQUESTS, 20)
    for row, request in enumerate(REQUESTS):
        items = {i.decode() for i in got["item_id"][row]} - {""}
        assert not items & {*request.exclude, *request.history}
        for item in items:
            assert not request.genres or oracle.genres[item] & set(request.genres)
        assert len(items) == (got["item_id"][row] != b"").sum()  # none twice


def test_k_beyond_the_catalogue_answers_all_that_is_allowed(loaded: Any) -> None:
    got = ask(loaded, REQUESTS, 30)
    assert got["item_id"].shape == (4, 30)
    assert (got["item_id"] != b"").sum(axis=1).tolist()[0] == 20 - 4
    assert (got["item_id"] != b"").sum(axis=1).tolist()[3] == 20
    empty = got["item_id"] == b""
    assert np.isneginf(got["score"][empty]).all()
    assert (got["source"][empty] == b"").all()


def test_weights_move_the_order(loaded: Any) -> None:
    greedy = ask(
        loaded,
        REQUESTS[3:],
        10,
        weight_relevance=tf.constant([0.0]),
        weight_revenue=tf.constant([1.0]),
    )
    assert (np.diff(greedy["part_revenue"][0]) <= 1e-6).all()
    plain = ask(loaded, REQUESTS[3:], 10)
    assert greedy["part_revenue"][0].sum() > 0
    assert greedy["item_id"][0].tolist() != plain["item_id"][0].tolist()
    # Rows keep their own weights.
    both = ask(
        loaded,
        [REQUESTS[3]] * 2,
        10,
        weight_relevance=tf.constant([0.0, NAN]),
        weight_revenue=tf.constant([1.0, NAN]),
    )
    assert both["item_id"][0].tolist() == greedy["item_id"][0].tolist()
    assert both["item_id"][1].tolist() == plain["item_id"][0].tolist()


def test_falls_back_within_the_allowed_set_and_says_so(models: Path, tmp_path: Path) -> None:
    few = {**NUMBERS, "popular": 0, "similar": 0, "retrieval": 1, "candidates": 1}
    everything = [f"i{i}" for i in range(20)]
    model = tf.saved_model.load(
        str(write_recommender(models, config(recommender=few), tmp_path / "few"))
    )
    had_all_of_a_kind = Asked("u1", [i for i in everything if int(i[1:]) % 3 == 2], [], ["g2"])
    got = ask(model, [had_all_of_a_kind, REQUESTS[0]], 3)
    oracle = Oracle(models, config())
    # Everything allowed was seen: what is popular of it comes again, and nothing else.
    assert got["fallback"].tolist() == [True, False]
    assert set(got["source"][0]) == {b"fallback"}
    allowed = [i for i in oracle.popular if "g2" in oracle.genres[i]]
    assert [i.decode() for i in got["item_id"][0]] == allowed[:3]
    assert told(got, 0) == {"exclude_seen": 3}
    assert told(got, 1) == {}
    # What the request itself excludes never comes back.
    barred = ask(model, [Asked("u1", [], allowed[:1], ["g2"])], 3)
    assert allowed[0].encode() not in barred["item_id"][0]


def told(answer: dict[str, np.ndarray], row: int) -> dict[str, int]:
    """The rules that gave way and how many items break them."""
    pairs = zip(answer["rule"][row], answer["relaxed"][row], strict=True)
    return {rule.decode(): int(count) for rule, count in pairs if count}


def test_a_filter_that_nothing_passes_gives_way_last_of_all(models: Path, loaded: Any) -> None:
    oracle = Oracle(models, config())
    everything = [f"i{i}" for i in range(20)]
    nowhere = Asked("u1", ["i1", "i3"], ["i5"], ["no such genre"], age="a1")
    got = ask(loaded, [nowhere, REQUESTS[2]], 3)
    # It is answered as if it had no filter: the same ranked list, without what was seen.
    plain = ask(loaded, [Asked("u1", ["i1", "i3"], ["i5"], [], age="a1")], 3)
    assert got["item_id"][0].tolist() == plain["item_id"][0].tolist()
    assert got["fallback"].tolist() == [True, False]
    assert (told(got, 0), told(got, 1)) == ({"among_genres": 3}, {})
    # Excluding all of a category makes its filter give way as well, to what is not excluded.
    kind = [i for i in everything if "g2" in oracle.genres[i]]
    got = ask(loaded, [Asked("u1", [], kind, ["g2"])], 20)
    assert {i.decode() for i in got["item_id"][0]} - {""} == set(everything) - set(kind)
    assert told(got, 0) == {"among_genres": 20 - len(kind)}
    # Seen comes before filters: all of the category was had, and it comes again.
    got = ask(loaded, [Asked("u1", kind, [], ["g2"])], 20)
    assert {i.decode() for i in got["item_id"][0]} - {""} == set(kind)
    assert told(got, 0) == {"exclude_seen": len(kind)}
    # Everything was had and nothing passes: both give way.
    got = ask(loaded, [Asked("u1", everything, [], ["no such genre"])], 3)
    assert [i.decode() for i in got["item_id"][0]] == oracle.popular[:3]
    assert told(got, 0) == {"exclude_seen": 3, "among_genres": 3}
    # Only a catalogue that is wholly blocked leaves nothing.
    got = ask(loaded, [Asked("u1", [], everything, ["g2"])], 3)
    assert (got["item_id"] == b"").all()
    assert (told(got, 0), got["fallback"].tolist()) == ({}, [False])


def test_a_strict_filter_never_gives_way(strictly: Any) -> None:
    got = ask(strictly, [Asked("u1", [], [], ["no such genre"])], 3)
    assert (got["item_id"] == b"").all()
    assert got["rule"].tolist() == [[b"exclude_seen"]]


def test_rows_do_not_depend_on_their_batch(loaded: Any) -> None:
    together = ask(loaded, REQUESTS, 5)
    for row, request in enumerate(REQUESTS):
        alone = ask(loaded, [request], 5)
        assert alone["item_id"][0].tolist() == together["item_id"][row].tolist()
        np.testing.assert_allclose(alone["score"][0], together["score"][row], rtol=1e-5)


def test_inverted_file_inside_gives_the_same_lists(
    models: Path, strict: Path, strictly: Any
) -> None:
    assert (strict / "assets.extra" / "index.json").is_file()
    oracle, got = Oracle(models, config()), ask(strictly, REQUESTS, 5)
    for row, request in enumerate(REQUESTS):
        want = [r[0] for r in oracle.recommend(request, 5, {"relevance": 1.0})]
        assert [i.decode() for i in got["item_id"][row, : len(want)]] == want


def test_a_model_without_vectors_is_asked_for_its_lists(tmp_path: Path) -> None:
    write_models(tmp_path, "ease", l2=1.0)
    with pytest.raises(ValueError, match=r"recommender.similar needs item vectors"):
        write_recommender(tmp_path, config(), tmp_path / "refused")
    settings = config(recommender={**NUMBERS, "similar": 0})
    got = ask(
        tf.saved_model.load(str(write_recommender(tmp_path, settings, tmp_path / "1"))), REQUESTS, 5
    )
    assert (got["item_id"][:, 0] != b"").all()
    assert {"retrieval", "popular"} >= {s.decode() for s in got["source"].ravel()} - {
        "",
        "fallback",
    }


def test_diverse_lists_and_limits(models: Path, tmp_path: Path) -> None:
    rerank = {
        "method": "mmr",
        "trade_off": 0.5,
        "vectors": ["genres"],
        "max_per_group": {"genres": 2},
    }
    model = tf.saved_model.load(
        str(write_recommender(models, config(rerank=rerank), tmp_path / "1"))
    )
    oracle = Oracle(models, config())
    got = ask(model, REQUESTS[3:], 3, trade_off=tf.constant([NAN]))
    counted: dict[str, int] = {}
    for item in got["item_id"][0]:
        for genre in oracle.genres[item.decode()]:
            counted[genre] = counted.get(genre, 0) + 1
    assert max(counted.values()) <= 2
    assert got["rule"].tolist() == [[b"max_per_group.genres", b"exclude_seen", b"among_genres"]]
    assert told(got, 0) == {}
    # All twenty: places of a genre run out, and what is beyond is counted, whoever put it there.
    got = ask(model, REQUESTS[3:], 20, trade_off=tf.constant([NAN]))
    counted, over = {}, 0
    for item in got["item_id"][0]:
        own = oracle.genres[item.decode()]
        over += any(counted.get(genre, 0) >= 2 for genre in own)
        counted |= {genre: counted.get(genre, 0) + 1 for genre in own}
    assert told(got, 0) == {"max_per_group.genres": over}
    plain = ask(model, REQUESTS[3:], 3, trade_off=tf.constant([0.0]))
    assert (plain["item_id"][0] != b"").all()


def test_served_with_a_user_alone_over_grpc(folder: Path, loaded: Any) -> None:
    want = ask(loaded, [Asked("u1", [], [], [])], 10)
    with Server(Options(port=0, model_name="rec", model_base_path=str(folder.parent))) as server:
        server.wait_until_available("rec", timeout=60)
        with Client(server.grpc_address, "rec", timeout=60) as client:
            got = client.predict({"user_id": np.array(["u1"], object)}, "recommend")
    assert [_text(i) for i in got["item_id"][0]] == [i.decode() for i in want["item_id"][0]]
    assert got["fallback"].tolist() == [False]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def test_examples_take_the_defaults(loaded: Any) -> None:
    def text(*values: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    features = {"user_id": text(b"u1"), "history": text(b"i1", b"i3"), "age": text(b"a1")}
    example = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    got = loaded.signatures["recommend_examples"](examples=tf.constant([example]))
    want = ask(loaded, [Asked("u1", ["i1", "i3"], [], [], age="a1")], 10)
    assert got["item_id"].numpy().tolist() == want["item_id"].tolist()
    # The request's own inputs may be in there, too.
    numbers = tf.train.Feature(float_list=tf.train.FloatList(value=[0.5]))
    features |= {"exclude": text(b"i5", b"i6"), "among_genres": text(b"g2")}
    features["weight_revenue"] = numbers
    asked = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    got = loaded.signatures["recommend_examples"](examples=tf.constant([asked, example]))
    requests = [
        Asked("u1", ["i1", "i3"], ["i5", "i6"], ["g2"], age="a1"),
        Asked("u1", ["i1", "i3"], [], [], age="a1"),
    ]
    want = ask(loaded, requests, 10, weight_revenue=tf.constant([0.5, NAN]))
    assert got["item_id"].numpy().tolist() == want["item_id"].tolist()
    np.testing.assert_allclose(got["score"], want["score"], rtol=1e-5)


def test_loads_with_tensorflow_alone(folder: Path) -> None:
    code = """
import sys, tensorflow as tf
m = tf.saved_model.load(sys.argv[1])
example = tf.train.Example().SerializeToString()
out = m.signatures["recommend_examples"](examples=tf.constant([example]))
assert not [n for n in sys.modules if n.split(".")[0] in ("tfrec", "tensorflow_recommenders")]
print(out["item_id"].shape, bool((out["item_id"].numpy() != b"").all()))
"""
    run = subprocess.run(
        [sys.executable, "-I", "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "(1, 10) True"


def test_each_graph_is_written_once(folder: Path) -> None:
    """Writing and loading take as long as there are operations."""
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    sizes = {f.signature.name: len(f.node_def) for f in functions}
    # Of the retrieval model the user's vector alone is asked for.
    assert [n for n in sizes if "query_vector" in n]
    assert not [n for n in sizes if "fold_in" in n or "score_features" in n or "similar_" in n]
    # The signatures share what they have in common.
    assert len([n for n in sizes if "value_candidates" in n]) == 1
    assert sum(sizes.values()) < 6000  # 18,000 where each has its own


def test_wrong_models_are_refused(models: Path, folder: Path) -> None:
    with pytest.raises(FileExistsError, match="name a new version"):
        write_recommender(models, config(), folder)
    (models / "swapped").mkdir()
    (models / "swapped" / "retrieval").symlink_to(models / "retrieval")
    (models / "swapped" / "ranking").symlink_to(models / "retrieval")
    with pytest.raises(ValueError, match="no signature 'rank'"):
        write_recommender(models / "swapped", config(), models / "other")
