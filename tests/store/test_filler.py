"""Fillers and the circuit breaker by themselves, and the flags that put them in front."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.filling import Filling, Spec, neutral
from serving.options import Options, OptionsError
from tests.store.servers import until
from tfrec.config.store import StoreConfig
from tfrec.store import (
    StoreUnavailable,
    open_store,
)
from tfrec.store.base import BaseStore
from tfrec.store.breaker import Breaker

FILLER = "tfrec.store.front:open_filler"


def test_breaker_counts_failures_in_a_row() -> None:
    down = threading.Event()
    down.set()

    def ask() -> str:
        if down.is_set():
            raise StoreUnavailable("refused")
        return "fine"

    breaker = Breaker(ask, failures=2, every_s=0.01)

    def fails() -> bool:
        with pytest.raises(StoreUnavailable):
            breaker.call(ask)
        return breaker.is_open

    assert not fails()
    down.clear()
    assert breaker.call(ask) == "fine"
    down.set()
    assert not fails()  # the success between began the count anew
    assert fails()
    with pytest.raises(StoreUnavailable, match="not asked, as it does not answer: refused"):
        breaker.call(lambda: pytest.fail("asked"))
    with pytest.raises(KeyError):  # other errors are no matter of the store's health
        Breaker(ask).call(lambda: {}["x"])
    down.clear()
    until(lambda: not breaker.is_open)
    breaker.close()


def test_a_filler_that_breaks_is_told_and_answered_from_defaults() -> None:
    class Broken:
        keys = frozenset({"user_id"})

        def fill(self, *_: Any) -> Any:
            raise RuntimeError("müde\n")

        def close(self) -> None: ...

    signature = tf.compat.v1.saved_model.build_signature_def(
        {
            "user_id": _info(tf.string, [None]),
            "age": _info(tf.string, [None]),
            "size": _info(tf.float32, [None, 3]),
        }
    )
    filling = Filling(Broken())
    given = {"user_id": np.array([b"a", b"b"], object)}
    full = filling.complete(signature, {"age": np.array([b"?"], object)}, given)
    assert full["age"].tolist() == [b"?", b"?"]
    assert full["size"].shape == (2, 3)
    assert dict(filling.take_note()) == {
        "x-store": "defaults",
        "x-store-reason": "RuntimeError: m\\u00fcde\\n",
    }
    assert filling.take_note() == ()
    assert neutral(Spec(np.dtype(np.int64), ()), 2).shape == ()
    assert neutral(Spec(np.dtype(np.int64), None), 2).tolist() == [0, 0]


def _info(dtype: Any, shape: list[int | None]) -> Any:
    from tensorflow.core.protobuf import meta_graph_pb2

    proto = tf.TensorShape(shape).as_proto()
    return meta_graph_pb2.TensorInfo(name="x:0", dtype=dtype.as_datatype_enum, tensor_shape=proto)


def test_a_filler_that_cannot_be_made_is_refused_at_the_start(tmp_path: Path) -> None:
    def options(place: str, **given: Any) -> Options:
        return Options(model_base_path="/m", input_filler=place, input_filler_options=given)

    for place, text in [
        ("nonsense", "is package.module:function, not 'nonsense'"),
        ("nonsense:x", "No module named 'nonsense'"),
        ("tfrec.store.front:missing", "has no attribute 'missing'"),
    ]:
        with pytest.raises(OptionsError, match=text):
            options(place).filler()
    with pytest.raises(OptionsError, match="the store's folder is there"):
        options(FILLER, store={"path": str(tmp_path / "no" / "s.lmdb")}).filler()
    assert Options(model_base_path="/m").filler() is None


def test_flags_of_the_command(tmp_path: Path) -> None:
    import json

    from serving import flags
    from tfrec.cli.store import server_flags

    words = server_flags(["--port=1", "--store", "redis://h:1/0", "--store_timeout_ms=7"])
    given = flags.parse(words)
    assert given["input_filler"] == FILLER
    assert given["input_filler_options"]["store"]["url"] == "redis://h:1/0"
    assert given["input_filler_options"]["store"]["timeout_ms"] == 7
    assert given["port"] == 1
    config = tmp_path / "c.yaml"
    config.write_text("name: t\ndata: {format: synthetic}\nstore: {path: s.lmdb}\n")
    words = server_flags([f"--store_config={config}", "--store_k=5"])
    options = json.loads(words[-1].partition("=")[2])
    assert options["store"]["path"] == str(tmp_path / "s.lmdb")
    assert options["k"] == 5
    assert "exclude_history" not in options
    config.write_text(config.read_text() + "gate: {exclude_seen: false}\n")
    options = json.loads(server_flags([f"--store_config={config}"])[-1].partition("=")[2])
    assert options["exclude_history"] is False
    assert server_flags(["--model_name=m"]) == ["--model_name=m"]
    for bad in (["--store"], ["--store="], ["--store_k=3"], ["--store=a", "--store_config=b"]):
        with pytest.raises(ValueError, match=r"takes a value|exactly one of"):
            server_flags(bad)


def test_the_store_base_is_what_the_front_expects(config: StoreConfig) -> None:
    store = open_store(config)
    assert isinstance(store, BaseStore)
    store.ping()
    store.close()
