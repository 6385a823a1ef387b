"""The typed calls over gRPC, asyncio and REST against the fake recommender of conftest.py."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from serving.client import AsyncClient, BadAnswerError, BadInputError, TensorSpec


def ids(items: list[Any]) -> list[str]:
    return [item.item_id for item in items]


def test_recommend_for_one_user(connect: Any, fake: Any) -> None:
    client = connect()
    best = client.recommend("u1", 3)
    assert ids(best) == ["i0", "i1", "i2"]
    assert [one.score for one in best] == [10.0, 9.0, 8.0]
    assert [one.rank for one in best] == [0, 1, 2]
    assert {one.version for one in best} == {None if connect.kind == "rest" else 1}
    assert not any(one.from_fallback for one in best)
    name, inputs = fake.asked[-1]
    assert name == "recommend"
    assert inputs["user_id"].tolist() == [b"u1"]
    assert inputs["k"].dtype == np.int32
    # What was left out is filled in: the fake refuses a request that lacks an input.
    np.testing.assert_array_equal(inputs["age"], [np.nan])
    np.testing.assert_array_equal(inputs["taste"], [[np.nan, np.nan]])
    assert inputs["history"].tolist() == [[b""]]


def test_recommend_with_history_exclusions_and_features(connect: Any, fake: Any) -> None:
    best = connect().recommend(
        "u1",
        3,
        history=["i7", "i9"],
        exclude=["i0", "i7", "i1"],
        features={"age": 30, "taste": [0.5, -1]},
    )
    assert ids(best) == ["i9", "i2", "i3"]
    inputs = fake.asked[-1][1]
    assert inputs["age"].tolist() == [30.0]
    assert inputs["taste"].tolist() == [[0.5, -1.0]]
    assert inputs["exclude"].tolist() == [[b"i0", b"i7", b"i1", b""]]  # width: a power of two


def test_recommend_for_several_users(connect: Any, fake: Any) -> None:
    lists = connect().recommend(
        ["a", "b", "c"],
        2,
        history=[["i5"], [], ["i6", "i8", "i9"]],
        exclude=[[], ["i0"], []],
        features={"age": np.array([1.0, 2.0, 3.0])},
    )
    assert [ids(one) for one in lists] == [["i5", "i0"], ["i1", "i2"], ["i6", "i8"]]
    assert fake.asked[-1][1]["age"].tolist() == [1.0, 2.0, 3.0]
    assert connect().recommend([], 2) == []


def test_empty_ids_that_fill_up_a_list_are_dropped(connect: Any) -> None:
    exclude = [f"i{n}" for n in range(8)]
    assert ids(connect().recommend("u", 5, exclude=exclude)) == ["i8", "i9"]


def test_titles_come_along_where_the_model_answers_them(connect: Any, fake: Any) -> None:
    assert [one.title for one in connect().recommend("u", 2)] == ["", ""]
    shout = np.vectorize(lambda item: "Thé ".encode() + item if item else b"", otypes=[object])
    fake.mangle = lambda out: {**out, "title": shout(out["item_id"])}
    exclude = [f"i{n}" for n in range(8)]
    best = connect().recommend("u", 5, exclude=exclude)
    assert [one.title for one in best] == ["Thé i8", "Thé i9"]


def test_similar(connect: Any, fake: Any) -> None:
    client = connect()
    assert ids(client.similar("i1", 3)) == ["i0", "i2", "i3"]
    assert [ids(one) for one in client.similar(["i0", "i2"], 2)] == [["i1", "i2"], ["i0", "i1"]]
    assert fake.asked[-1][1]["k"].dtype == np.int64


def test_rank_orders_by_score(connect: Any, fake: Any) -> None:
    best = connect().rank(
        "u", ["i3", "i1", "i2"], features={"age": 5}, item_features={"price": [0.0, 9.0, 0.5]}
    )
    assert ids(best) == ["i2", "i3", "i1"]
    assert [one.score for one in best] == [2.5, 2.0, -5.0]
    assert fake.asked[-1][1]["user_id"].tolist() == [b"u"] * 3
    assert fake.asked[-1][1]["age"].tolist() == [5.0] * 3
    assert connect().rank("u", []) == []


def test_rank_keeps_the_given_order_of_equal_scores(connect: Any) -> None:
    best = connect().rank("u", ["i2", "i1", "i0"], item_features={"price": [0, 1, 2]})
    assert ids(best) == ["i2", "i1", "i0"]


def test_rank_may_ask_another_model(connect: Any, fake: Any) -> None:
    client = connect(rank_model="ranker")
    client.recommend("u", 1)
    client.rank("u", ["i1"])
    asked = [s if isinstance(s, str) else s.name for s in fake.specs]
    assert asked[1].endswith(("m", "/m:predict"))
    assert asked[-1].endswith(("ranker", "/ranker:predict"))


def test_predict_casts_to_the_signature(connect: Any, fake: Any) -> None:
    client = connect()
    outputs = client.predict({"x": [1, 2, 5]})
    assert list(outputs) == ["y"]
    assert outputs["y"].dtype == np.float32
    assert outputs["y"].tolist() == [2.5, 3.0, 4.5]
    assert fake.asked[-1][1]["x"].dtype == np.float32


def test_predict_without_cast_sends_what_it_gets_and_asks_nothing(connect: Any, fake: Any) -> None:
    outputs = connect().predict({"x": np.array([4], np.float32)}, cast=False)
    assert [one.tolist() for one in outputs.values()] == [[4.0]]
    assert fake.metadata_asked == 0


def test_predict_with_an_output_filter(connect: Any) -> None:
    request: dict[str, Any] = {"item_id": ["i1"], "k": 2}
    outputs = connect().predict(request, "similar", outputs=["score"])
    assert {name: value.tolist() for name, value in outputs.items()} == {"score": [[10.0, 8.0]]}


def test_status_and_wait_ready(connect: Any, fake: Any) -> None:
    fake.version = 4
    status = connect().status()
    assert [(v.version, v.state, v.error_code) for v in status.versions] == [
        (4, "AVAILABLE", "OK"),
        (1, "END", "NOT_FOUND"),
    ]
    assert status.versions[1].error_message == "gone"
    assert status.available == (4,)
    assert connect().wait_ready(5.0) == status


def test_metadata(connect: Any, fake: Any) -> None:
    fake.version = 12
    found = connect().metadata()
    assert (found.model, found.version) == ("m", 12)
    assert set(found.signatures) == {"recommend", "similar", "rank", "serving_default"}
    recommend = found.signatures["recommend"]
    assert recommend.inputs["user_id"] == TensorSpec("string", (None,))
    assert recommend.inputs["k"] == TensorSpec("int32", ())
    assert recommend.inputs["taste"] == TensorSpec("float32", (None, 2))
    assert recommend.outputs["score"] == TensorSpec("float32", (None, None))
    assert recommend.method == "tensorflow/serving/predict"


def test_metadata_is_asked_once_a_version(connect: Any, fake: Any) -> None:
    client = connect()
    for _ in range(3):
        client.recommend("u", 2)
    client.similar("i1", 2)
    assert fake.metadata_asked == 1
    fake.version = 2
    for _ in range(3):
        client.recommend("u", 2)
    # gRPC's answers say their version; REST's do not, so it goes on with what it knows.
    assert fake.metadata_asked == (1 if connect.kind == "rest" else 2)
    fake.version = 1  # rolled back: that one is known already
    for _ in range(3):
        client.recommend("u", 2)
    assert fake.metadata_asked == (1 if connect.kind == "rest" else 2)


def test_a_version_with_other_inputs_fails_no_call(connect: Any, fake: Any) -> None:
    client = connect()
    client.recommend("u", 2)
    fake.version = 2
    fake.signatures["recommend"]["city"] = fake.signatures["recommend"]["user_id"]
    assert ids(client.recommend("u", 2)) == ["i0", "i1"]
    assert fake.asked[-1][1]["city"].tolist() == [b""]
    assert ids(client.recommend("u", 2, features={"city": "Bern"})) == ["i0", "i1"]
    assert fake.asked[-1][1]["city"].tolist() == [b"Bern"]
    fake.version = 3
    del fake.signatures["recommend"]["taste"]
    assert ids(client.recommend("u", 2)) == ["i0", "i1"]


def test_a_feature_that_only_the_new_version_has_is_found_at_once(connect: Any, fake: Any) -> None:
    client = connect()
    client.recommend("u", 2)
    fake.version = 2
    fake.signatures["recommend"]["city"] = fake.signatures["recommend"]["user_id"]
    assert ids(client.recommend("u", 2, features={"city": "Bern"})) == ["i0", "i1"]
    assert fake.asked[-1][1]["city"].tolist() == [b"Bern"]
    asked = fake.metadata_asked
    with pytest.raises(BadInputError, match="town"):  # a real mistake costs one more question
        client.recommend("u", 2, features={"town": "Bern"})
    assert fake.metadata_asked == asked + 1


def test_the_models_own_defaults_are_used(connect: Any, fake: Any) -> None:
    fake.defaults = {
        "age": np.array([35.0], np.float32),
        "taste": np.array([[1.0, 2.0]], np.float32),
    }
    connect().recommend(["a", "b"], 2)
    assert fake.asked[-1][1]["age"].tolist() == [35.0, 35.0]
    assert fake.asked[-1][1]["taste"].tolist() == [[1.0, 2.0]] * 2


def test_k_goes_per_row_where_the_signature_wants_that(connect: Any, fake: Any) -> None:
    fake.signatures["recommend"]["k"] = (fake.signatures["similar"]["k"][0], [None])
    assert ids(connect().recommend("u", 2)) == ["i0", "i1"]
    connect().recommend(["a", "b"], 3)
    assert fake.asked[-1][1]["k"].tolist() == [3, 3]


def test_a_fixed_history_keeps_the_newest_and_a_fixed_exclude_refuses(
    connect: Any, fake: Any
) -> None:
    for name in ("history", "exclude"):
        fake.signatures["recommend"][name] = (fake.signatures["recommend"][name][0], [None, 2])
    client = connect()
    client.recommend("u", 2, history=["i1", "i2", "i3"], exclude=["i0"])
    assert fake.asked[-1][1]["history"].tolist() == [[b"i2", b"i3"]]
    assert fake.asked[-1][1]["exclude"].tolist() == [[b"i0", b""]]
    with pytest.raises(BadInputError, match="at most 2 ids a user; got 3"):
        client.recommend("u", 2, exclude=["i0", "i1", "i2"])


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda c: c.recommend("u", 0), "k must be an integer of at least 1; got 0"),
        (lambda c: c.recommend("u", 2.5), "k must be an integer"),
        (lambda c: c.recommend(7, 2), "object is not iterable|not iterable|has no len"),
        (lambda c: c.recommend([1, 2], 2), "user_id must be text; got int 1"),
        (lambda c: c.recommend(["a"], 2, exclude=[["x"], []]), "one list a user, 1; got 2"),
        (lambda c: c.recommend(["a"], 2, exclude=["x"]), "list of ids; got the text 'x'"),
        (lambda c: c.recommend("u", 2, history=[3]), "history must be text; got int 3"),
        (lambda c: c.recommend("u", 2, features={"agee": 1}), r"got also \['agee'\]"),
        (lambda c: c.recommend("u", 2, features={"k": 1}), "arguments of their own"),
        (lambda c: c.recommend("u", 2, features={"user_id": "v"}), "arguments of their own"),
        (lambda c: c.recommend("u", 2, features={"age": "old"}), "'age' must be float32"),
        (lambda c: c.recommend("u", 2, features={"taste": [1]}), r"shape \(any, 2\); got \(1, 1\)"),
        (lambda c: c.recommend(["a", "b"], 2, features={"age": [1.0]}), "each of the 2 users"),
        (lambda c: c.rank("u", ["i1"], item_features={"price": [1.0, 2.0]}), "each of the 1 items"),
        (
            lambda c: c.rank("u", ["i1"], features={"price": 1}, item_features={"price": [1]}),
            "once",
        ),
        (lambda c: c.predict({"x": [1.0]}, "nope"), "signatures .*'similar'.*; got 'nope'"),
        (lambda c: c.predict({"z": [1.0]}), r"inputs \['x'\]; got also \['z'\]"),
        (lambda c: c.predict({"x": [[1.0]]}), r"shape \(any\); got \(1, 1\)"),
        (lambda c: c.predict({"x": ["a"]}), "'x' must be float32; got dtype"),
        (lambda c: c.predict({"item_id": ["i1"], "k": 1.5}, "similar"), "'k' must be int64"),
        (lambda c: c.predict({"item_id": [3], "k": 1}, "similar"), "'item_id' must be text"),
        (lambda c: c.recommend("u", 1 << 40), "must fit int32"),
        (lambda c: c.recommend("u", 2, timeout=0), "more than 0 seconds"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(
    connect: Any, fake: Any, call: Any, rule: str
) -> None:
    with pytest.raises((BadInputError, TypeError), match=rule):
        call(connect())
    assert fake.asked == []


@pytest.mark.parametrize("missing", ["exclude", "history"])
def test_lists_are_never_dropped_silently(connect: Any, fake: Any, missing: str) -> None:
    del fake.signatures["recommend"][missing]
    client = connect()
    assert ids(client.recommend("u", 1)) == ["i0"]
    with pytest.raises(BadInputError, match=rf"got also \['{missing}'\]"):
        client.recommend("u", 1, **{missing: ["i0"]})


@pytest.mark.parametrize(
    ("mangle", "rule"),
    [
        (lambda out: {"item_id": out["item_id"]}, "output 'score'"),
        (lambda out: {**out, "score": out["score"][:, :1]}, "both have shape"),
        (lambda out: {k: v[:0] for k, v in out.items()}, "both have shape"),
    ],
)
def test_an_answer_that_breaks_the_promise_is_an_error(
    connect: Any, fake: Any, mangle: Any, rule: str
) -> None:
    fake.mangle = mangle
    with pytest.raises(BadAnswerError, match=rule):
        connect().recommend("u", 2)


def test_a_fixed_version_or_a_label_is_asked_for(connect: Any, fake: Any) -> None:
    connect(version=3).predict({"x": np.array([1], np.float32)}, cast=False)
    connect(version_label="stable").predict({"x": np.array([1], np.float32)}, cast=False)
    if connect.kind == "rest":
        assert fake.specs == [
            "/v1/models/m/versions/3:predict",
            "/v1/models/m/labels/stable:predict",
        ]
    else:
        assert fake.specs[0].version.value == 3
        assert fake.specs[1].version_label == "stable"
    with pytest.raises(BadInputError, match="version or by label"):
        connect(version=3, version_label="stable")


def test_one_client_serves_many_threads(grpc_server: Any, rest_server: Any) -> None:
    from serving.client import Client, RestClient

    for client in (
        Client(grpc_server.address, "m", timeout=30),
        RestClient(rest_server.url, "m", timeout=30),
    ):
        with client, ThreadPoolExecutor(8) as pool:
            users = [f"u{n}" for n in range(40)]
            jobs = [
                pool.submit(client.recommend, u, 2, exclude=[f"i{n % 3}"])
                for n, u in enumerate(users)
            ]
            for n, job in enumerate(jobs):
                assert ids(job.result()) == [f"i{m}" for m in range(3) if m != n % 3]


def test_asyncio_calls_run_together(grpc_server: Any, fake: Any) -> None:
    async def all_at_once() -> list[list[Any]]:
        async with AsyncClient(grpc_server.address, "m", timeout=30) as client:
            await client.metadata()
            return await asyncio.gather(
                *(client.recommend(f"u{n}", 1, exclude=["i0"] * (n % 2)) for n in range(20))
            )

    lists = asyncio.run(all_at_once())
    assert [ids(one) for one in lists] == [["i0"], ["i1"]] * 10
