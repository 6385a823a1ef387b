"""The client against the embedded server with real SavedModels, over gRPC, asyncio and REST."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.batching import BatchingOptions
from serving.client import (
    BadInputError,
    Client,
    InvalidRequestError,
    NotFoundError,
    RestClient,
    ServingError,
    TensorSpec,
    tensors,
)
from serving.options import Options
from serving.server import Server

ITEMS = [f"i{n}" for n in range(30)]


def spec(name: str, dtype: Any, *shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)


def save_recommender(folder: Path, k_shape: tuple[None, ...] = (), city: bool = False) -> None:
    """Item n scores 30 - n, 100 more if in the history, and never comes if excluded."""
    module = tf.Module()
    module.ids = tf.Variable(ITEMS)
    module.base = tf.Variable(np.arange(30, 0, -1, dtype=np.float32))

    def best(scores: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        top, rows = tf.math.top_k(scores, tf.reduce_max(k))
        ids = tf.where(top > -1e9, tf.gather(module.ids, rows), "")
        return {"item_id": ids, "score": top}

    def has(rows: tf.Tensor) -> tf.Tensor:
        return tf.reduce_any(rows[:, tf.newaxis, :] == module.ids[tf.newaxis, :, tf.newaxis], -1)

    def recommend(user_id: Any, history: Any, exclude: Any, k: Any, **rest: Any) -> Any:
        scores = tf.repeat(module.base[tf.newaxis], tf.shape(user_id)[0], 0)
        age = tf.where(tf.math.is_nan(rest["age"]), 0.0, rest["age"])  # NaN: not given
        scores += tf.where(has(history), 100.0, 0.0) + 0.0 * age[:, tf.newaxis]
        if city:  # a version with one more input
            scores += tf.cast(tf.strings.length(rest["city"])[:, tf.newaxis], tf.float32)
        return best(tf.where(has(exclude), -1e10, scores), k)

    def similar(item_id: Any, k: Any) -> Any:
        return best(tf.where(has(item_id[:, tf.newaxis]), -1e10, module.base[tf.newaxis]), k)

    def rank(user_id: Any, item_id: Any, price: Any) -> Any:
        number = tf.strings.to_number(tf.strings.substr(item_id, 1, 9))
        return {"score": number - price + 0.0 * tf.cast(tf.strings.length(user_id), tf.float32)}

    ids = [spec("user_id", tf.string, None), spec("history", tf.string, None, None)]
    inputs = [*ids, spec("exclude", tf.string, None, None), spec("k", tf.int32, *k_shape)]
    extra = {"age": spec("age", tf.float32, None)}
    if city:
        extra["city"] = spec("city", tf.string, None)
    item = spec("item_id", tf.string, None)
    made = {
        "recommend": tf.function(recommend).get_concrete_function(*inputs, **extra),
        "similar": tf.function(similar).get_concrete_function(item, spec("k", tf.int64, *k_shape)),
        "rank": tf.function(rank).get_concrete_function(
            spec("user_id", tf.string, None), item, spec("price", tf.float32, None)
        ),
    }
    tf.saved_model.save(module, str(folder), signatures=made)


DTYPES = [name for name in tensors.KINDS if not name.startswith("complex")]


def save_echo(folder: Path) -> None:
    """A signature that answers every input of every dtype as it came."""
    names = [*DTYPES, "complex64", "complex128"]
    module = tf.Module()
    made = {}
    for name in names:
        call = tf.function(lambda x: {"y": tf.identity(x)})
        made[name] = call.get_concrete_function(spec("x", tf.as_dtype(name), None, None))
    tf.saved_model.save(module, str(folder), signatures=made)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_recommender(folder / "shop" / "1")
    save_recommender(folder / "rows" / "1", k_shape=(None,))
    save_echo(folder / "echo" / "1")
    config = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}\n'
        for name in ("shop", "rows", "echo")
    )
    (folder / "models.config").write_text(f"model_config_list {{\n{config}}}\n")
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    options = Options(
        model_config_file=str(models / "models.config"),
        rest_api_port=0,
        file_system_poll_wait_seconds=0.1,
    )
    with Server(options) as running:
        for name in ("shop", "rows", "echo"):
            running.wait_until_available(name, timeout=60)
        yield running


@pytest.fixture(params=["grpc", "asyncio", "rest"])
def client_of(request: pytest.FixtureRequest, server: Server) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []
    awaited = request.getfixturevalue("awaited")

    def build(model: str, **kwargs: Any) -> Any:
        kwargs = {"timeout": 30.0, **kwargs}
        if request.param == "rest":
            address = server.rest_address
            assert address is not None
            url = address if address.startswith("http") else f"http://{address}"
            made.append(RestClient(url, model, **kwargs))
        else:
            kind = Client if request.param == "grpc" else awaited
            made.append(kind(server.grpc_address, model, **kwargs))
        return made[-1]

    build.kind = request.param  # type: ignore[attr-defined]
    yield build
    for client in made:
        client.close()


def ids(items: list[Any]) -> list[str]:
    return [item.item_id for item in items]


@pytest.mark.parametrize("model", ["shop", "rows"])
def test_the_typed_calls(client_of: Any, model: str) -> None:
    client = client_of(model)
    best = client.recommend("u", 3, history=["i7", "i9", "i8"], exclude=["i0", "i8"])
    assert ids(best) == ["i7", "i9", "i1"]
    assert [one.score for one in best] == [123.0, 121.0, 29.0]
    assert {one.version for one in best} == {None if client_of.kind == "rest" else 1}
    lists = client.recommend(["a", "b"], 2, exclude=[["i0"], []], features={"age": [1.5, 2.5]})
    assert [ids(one) for one in lists] == [["i1", "i2"], ["i0", "i1"]]
    assert ids(client.recommend("u", 30, exclude=ITEMS[:-2])) == ["i28", "i29"]
    assert ids(client.similar("i1", 2)) == ["i0", "i2"]
    ranked = client.rank("u", ["i3", "i9", "i5"], item_features={"price": [0.5, 8, 0]})
    assert [(one.item_id, one.score) for one in ranked] == [("i5", 5.0), ("i3", 2.5), ("i9", 1.0)]


def test_metadata_and_status(client_of: Any) -> None:
    client = client_of("shop")
    found = client.metadata()
    assert found.version == 1
    assert found.signatures["recommend"].inputs == {
        "user_id": TensorSpec("string", (None,)),
        "history": TensorSpec("string", (None, None)),
        "exclude": TensorSpec("string", (None, None)),
        "k": TensorSpec("int32", ()),
        "age": TensorSpec("float32", (None,)),
    }
    status = client.status()
    assert status.available == (1,)
    assert status.versions[0].error_code == "OK"
    assert client.wait_ready(10) == status


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back_as_it_went(client_of: Any, name: str) -> None:
    sent: Any
    if name == "string":
        sent = [["Zoë", "", "a\x00"], ["plain", "b", "c"]]
        expected: Any = [[text.encode() for text in row] for row in sent]
    elif name == "bool":
        sent = expected = [[True, False, True], [False, False, True]]
    else:
        sent = expected = [[0, 1, 2], [3, 4, 100]]
    outputs = client_of("echo").predict({"x": sent}, name)
    assert outputs["y"].shape == (2, 3)
    assert outputs["y"].tolist() == expected
    if name not in ("string", "bfloat16"):
        assert outputs["y"].dtype == np.dtype(name)


def test_special_floats_come_back(client_of: Any) -> None:
    values = np.array([[np.nan, np.inf, -np.inf, -0.0, 1e-30]], np.float32)
    read = client_of("echo").predict({"x": values}, "float32")["y"]
    np.testing.assert_array_equal(read, values)


def test_complex_numbers_travel_by_grpc_only(client_of: Any) -> None:
    values = np.array([[1 + 2j, -3j]], np.complex64)
    client = client_of("echo")
    if client_of.kind == "rest":
        with pytest.raises(BadInputError, match="JSON cannot carry"):
            client.predict({"x": values}, "complex64")
    else:
        read = client.predict({"x": values}, "complex64")["y"]
        np.testing.assert_array_equal(read, values)


def test_the_servers_errors(client_of: Any) -> None:
    with pytest.raises(NotFoundError, match="none"):
        client_of("none").recommend("u", 2)
    with pytest.raises(NotFoundError):
        client_of("shop", version=77).recommend("u", 2)
    with pytest.raises(InvalidRequestError):
        client_of("echo").predict({"z": [[1]]}, "int32", cast=False)
    with pytest.raises(ServingError, match="none"):
        client_of("none").status()


def test_a_new_version_with_another_input_fails_no_call(tmp_path: Path, awaited: Any) -> None:
    save_recommender(tmp_path / "m" / "1")
    options = Options(
        model_name="m",
        model_base_path=str(tmp_path / "m"),
        rest_api_port=0,
        file_system_poll_wait_seconds=0.05,
    )
    with Server(options) as running:
        running.wait_until_available("m", timeout=60)
        address = running.rest_address
        assert address is not None
        url = address if address.startswith("http") else f"http://{address}"
        clients = [
            Client(running.grpc_address, "m", timeout=30),
            awaited(running.grpc_address, "m", timeout=30),
            RestClient(url, "m", timeout=30),
        ]
        for client in clients:
            assert client.recommend("u", 1)[0].score == 30.0
        save_recommender(tmp_path / "staged", city=True)
        (tmp_path / "staged").rename(tmp_path / "m" / "2")
        calls = 0
        while clients[0].status().available != (2,):
            for client in clients:
                assert ids(client.recommend("u", 1)) == ["i0"]
                calls += 1
        assert calls > 0
        for client in clients:
            best = client.recommend("u", 1, features={"city": "Bern"})
            assert best[0].score == 34.0
            client.close()


def test_batching_wants_k_by_row_and_the_client_gives_it(models: Path) -> None:
    """What the signature must look like for --enable_batching, here and on the official image."""
    batching = BatchingOptions(max_batch_size=8, batch_timeout_s=0.05, num_batch_threads=2)
    options = Options(model_config_file=str(models / "models.config"), batching=batching)
    with Server(options) as running:
        for name in ("shop", "rows"):
            running.wait_until_available(name, timeout=60)
        with Client(running.grpc_address, "rows", timeout=30) as client:
            assert ids(client.recommend("u", 2, exclude=["i0"])) == ["i1", "i2"]
        refused = pytest.raises(InvalidRequestError, match="dimension")
        with Client(running.grpc_address, "shop", timeout=30) as client, refused:
            client.recommend("u", 2)
