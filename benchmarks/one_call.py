"""One call against its parts called one by one, over gRPC: 100,000 items, 500 candidates, 50 shown.

The models are not trained: time does not depend on what they know. Every request asks for one user
with 20 items of history. *Parts one by one* is what a caller does without the recommender: ask the
retrieval model for 300 items and for 20 similar to each of the last five of the history, add 100
popular ones from a list in memory, drop repetitions, ask the ranker about each candidate, sort.

A recommender that explores is asked the same with exploration on and off (``explore`` 0).

Server and caller share this process and its core; calls go through real sockets. So the processor
time of this process is that of both, and what else the machine does is not in it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from benchmarks.common import Results, arguments
from serving.client import Client
from serving.options import Options
from serving.server import Server
from tfrec.config import Config, parse_config
from tfrec.export.ranking import export_ranking
from tfrec.export.recommender.assemble import assemble, save_recommender
from tfrec.export.retrieval import export_retrieval
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.models.last_layer import fit_last_layer
from tfrec.models.registry import build
from tfrec.training.ranking import build_ranker
from tfrec.training.ranking_rows import RankingRows

USERS, HISTORY, CANDIDATES, SHOWN = 1000, 20, 500, 50
EPSILON: dict[str, Any] = {"kind": "epsilon", "epsilon": 0.1}
THOMPSON: dict[str, Any] = {"kind": "thompson", "draws": 64}
RETRIEVED, SIMILAR, POPULAR, RECENT = 300, 100, 100, 5
TURN = 10  # calls of one way before the next


def config(index: str, method: str, exploration: dict[str, Any] | None = None) -> Config:
    """The recommender; two item features, a price, a ranker of usual size."""
    return parse_config(
        {
            "name": "one_call",
            "data": {"format": "synthetic"},
            "features": [
                {"name": "age", "role": "user", "kind": "categorical", "dim": 8},
                {"name": "category", "role": "item", "kind": "categorical", "dim": 16},
                {"name": "price", "role": "item", "kind": "numeric", "transform": "log"},
            ],
            "retrieval": {"index": {"kind": index, "sample": 128}},
            "ranking": {
                "history_length": 10,
                "last_layer_prior": 1.0,
                "params": {"hidden": [128, 64], "dots": True},
            },
            "recommender": {
                "retrieval": RETRIEVED,
                "similar": SIMILAR,
                "popular": POPULAR,
                "recent": RECENT,
                "candidates": CANDIDATES,
                "exploration": exploration or {"kind": "none"},
            },
            "utility": {"weights": {"relevance": 1.0, "revenue": 0.01}, "price": "price"},
            "rerank": {"method": method},
        }
    )


def write(folder: Path, items: int) -> tuple[pa.Table, pa.Table]:
    """Exports both models below ``folder``; returns the item table and the events."""
    rng = np.random.default_rng(0)
    n = 4 * items
    events = pa.table(
        {
            "user_id": [f"u{u}" for u in rng.integers(0, USERS, n)],
            "item_id": [
                f"i{i}"
                for i in np.concatenate([np.arange(items), rng.integers(0, items, n - items)])
            ],
            "timestamp": pa.array(np.arange(n)),
            "weight": pa.array(np.ones(n, np.float32)),
        }
    )
    users = pa.table(
        {"user_id": [f"u{i}" for i in range(USERS)], "age": [f"a{i % 6}" for i in range(USERS)]}
    )
    table = pa.table(
        {
            "item_id": [f"i{i}" for i in range(items)],
            "category": [f"c{i % 200}" for i in range(items)],
            "price": pa.array(rng.lognormal(2, 1, items), pa.float32()),
        }
    )
    settings = config("brute_force", "none")
    encoder = fit_encoder(events, users, table, settings.feature_table, folder / "statistics", 20)
    few = events.slice(0, USERS)
    data = retrieval_data({"train": events, "eval": few, "test": few}, users, table, encoder)
    model = build("two_tower", data, {"dim": 64, "history_length": HISTORY})
    export_retrieval(model, data, encoder, folder / "retrieval" / "1")
    ranker = build_ranker(settings.ranking, data)
    rows = RankingRows(data, "validation", settings.ranking).dataset(1024, 0, shuffle=False)
    ranker.posterior = fit_last_layer(ranker, rows, 1.0)
    export_ranking(ranker, data, encoder, folder / "ranking" / "1")
    return table, events


def milliseconds(
    ways: dict[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median wall time and mean processor time of a call of each way.

    The ways take turns, ``TURN`` calls each, so that what else the machine does meets all of them.
    """
    wall: dict[str, list[float]] = {name: [] for name in ways}
    spent = dict.fromkeys(ways, 0.0)
    for call in ways.values():
        for _ in range(3):
            call()
    for _ in range(rounds):
        for name, call in ways.items():
            began = time.process_time()
            for _ in range(TURN):
                start = time.perf_counter()
                call()
                wall[name].append(1000 * (time.perf_counter() - start))
            spent[name] += 1000 * (time.process_time() - began)
    p50 = {name: float(np.median(taken)) for name, taken in wall.items()}
    return p50, {name: total / (TURN * rounds) for name, total in spent.items()}


class Caller:
    """A client of the models, and what it does without the recommender."""

    def __init__(self, clients: dict[str, Client], popular: list[str]) -> None:
        self.clients, self.popular = clients, popular
        rng = np.random.default_rng(1)
        self.history = np.array([[f"i{i}" for i in rng.integers(0, 1000, HISTORY)]], object)
        self.user = {"user_id": np.array(["u7"], object), "age": np.array(["a1"], object)}

    def one_call(self, name: str, explore: float | None = None) -> Any:
        asked = {**self.user, "history": self.history, "k": np.array([SHOWN], np.int32)}
        if explore is not None:
            asked["explore"] = np.array([explore], np.float32)
        return self.clients[name].predict(asked, "recommend")

    def retrieve(self) -> list[str]:
        asked = {**self.user, "history": self.history, "exclude": self.history}
        asked["k"] = np.array([RETRIEVED], np.int32)
        return list(self.clients["retrieval"].predict(asked, "recommend")["item_id"][0])

    def similar(self) -> list[str]:
        asked = {"item_id": self.history[0, -RECENT:], "k": np.array([SIMILAR // RECENT], np.int32)}
        return list(self.clients["retrieval"].predict(asked, "similar")["item_id"].ravel())

    def rank(self, items: list[str]) -> np.ndarray:
        rows = len(items)
        asked = {name: np.repeat(value, rows) for name, value in self.user.items()}
        asked["history"] = np.repeat(self.history[:, -10:], rows, axis=0)
        asked["item_id"] = np.array(items, object)
        return self.clients["ranking"].predict(asked, "rank")["score"]

    def one_by_one(self) -> list[str]:
        seen = set(self.history[0])
        found = dict.fromkeys(
            [*self.retrieve(), *self.similar(), *self.popular[: POPULAR + HISTORY]]
        )
        items = [i for i in found if i not in seen][:CANDIDATES]
        order = np.argsort(-self.rank(items), kind="stable")[:SHOWN]
        return [items[i] for i in order]


def main() -> None:
    given = arguments(__doc__ or "").parse_args()
    items, rounds = (5_000, 1) if given.quick else (100_000, 10)
    results = Results("one_call", given.quick)
    protocol = f"{items:,} items/{CANDIDATES} candidates/list of {SHOWN}"
    kinds = {
        "brute force": config("brute_force", "none"),
        "inverted file": config("ivf", "none"),
        "inverted file, dpp": config("ivf", "dpp"),
    }
    exploring = {
        "epsilon": config("ivf", "none", EPSILON),
        "thompson, 64 draws": config("ivf", "none", THOMPSON),
        "dpp, thompson, 64 draws": config("ivf", "dpp", THOMPSON),
    }
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        table, events = write(folder, items)
        for name, settings in (kinds | exploring).items():
            module = assemble(
                settings, folder / "retrieval" / "1", folder / "ranking" / "1", table, events
            )
            save_recommender(module, folder / name / "1")
            order = tf.gather(module.catalogue.item_ids, module.catalogue.popular[:1000])
            popular = [i.decode() for i in order.numpy()]
            del module
        names = ["retrieval", "ranking", *kinds, *exploring]
        servers = [
            Server(Options(port=0, model_name="m", model_base_path=str(folder / name)))
            for name in names
        ]
        clients: dict[str, Client] = {}
        try:
            for name, server in zip(names, servers, strict=True):
                server.start()
                server.wait_until_available("m", timeout=120)
                clients[name] = Client(server.grpc_address, "m", timeout=60)
            caller = Caller(clients, popular)
            candidates = [f"i{i}" for i in range(CANDIDATES)]
            timed: dict[str, Callable[[], Any]] = {
                "parts one by one": caller.one_by_one,
                f"part: recommend {RETRIEVED}": caller.retrieve,
                f"part: similar to {RECENT}": caller.similar,
                f"part: rank {CANDIDATES}": lambda: caller.rank(candidates),
                **{f"one call, {name}": _asking(caller, name) for name in kinds},
                **{
                    f"{name}, {word}": _asking(caller, name, explore)
                    for name in exploring
                    for word, explore in (("off", 0.0), ("on", None))
                },
            }
            wall, processor = milliseconds(timed, rounds)
            for note in timed:
                for metric, value in (("p50", wall[note]), ("processor", processor[note])):
                    results.add("one_call", metric, value, protocol=protocol, unit="ms", note=note)
            pairs = {f"parts / {name}": ("parts one by one", f"one call, {name}") for name in kinds}
            pairs |= {f"{name}, on / off": (f"{name}, on", f"{name}, off") for name in exploring}
            for note, (above, below) in pairs.items():
                for metric, found in (("p50 ratio", wall), ("processor ratio", processor)):
                    ratio = found[above] / found[below]
                    results.add("one_call", metric, ratio, protocol=protocol, note=note)
        finally:
            for client in clients.values():
                client.close()
            for server in servers:
                server.stop()
    print(f"wrote {results.write()}")


def _asking(caller: Caller, name: str, explore: float | None = None) -> Callable[[], Any]:
    return lambda: caller.one_call(name, explore)


if __name__ == "__main__":
    main()
