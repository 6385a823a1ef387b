"""The page over HTTP: what each path answers, and what it refuses."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import uvicorn
from typer.testing import CliRunner

from tests.explore.conftest import serving
from tests.explore.fake import FakeRecommender, FakeRetrieval
from tfrec import cli
from tfrec.data.tables import Tables
from tfrec.explore.explorer import Explorer
from tfrec.explore.shop import Shop

Serve = Callable[[Explorer], str]


@pytest.fixture(scope="module")
def url(tables: Tables, shop: Shop) -> Iterator[str]:
    with serving(Explorer([FakeRecommender(tables)], shop)) as address:
        yield address


def get(url: str, path: str, **params: Any) -> requests.Response:
    return requests.get(url + path, params=params, timeout=20)


def test_the_page_and_its_files_load_nothing_from_elsewhere(url: str) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/item/i3", "text/html"),
        ("/static/explore.js", "javascript"),
        ("/static/explore.css", "text/css"),
        ("/static/icon.png", "image/png"),
    ):
        answer = get(url, path)
        assert answer.status_code == 200, path
        assert kind in answer.headers["content-type"]
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
        assert answer.headers["referrer-policy"] == "no-referrer"
        if "png" not in kind:
            assert not re.search(r"(https?:)?//[a-z0-9]", answer.text)


def test_another_name_for_this_machine_is_refused(url: str) -> None:
    answer = requests.get(url + "/api/about", headers={"host": "evil.example"}, timeout=20)
    assert answer.status_code == 400


def test_recommend_answers_the_list_of_the_model(url: str, tables: Tables, shop: Shop) -> None:
    body = get(url, "/api/recommend", user_id="u4", k=5).json()
    had = {event["item_id"] for event in shop.history("u4")}
    fake = FakeRecommender(tables)
    score = fake.chance * (20 + fake.price)
    best = [fake.ids[r] for r in np.argsort(-score) if fake.ids[r] not in had][:5]
    (model,) = body["models"]
    assert [row["item_id"] for row in model["rows"]] == best
    first = model["rows"][0]
    assert first["parts"]["purchase"] + first["parts"]["revenue"] == pytest.approx(first["score"])
    assert first["title"] == shop.title(best[0])
    assert (first["source"], model["fallback"], model["defaults"]) == ("retrieval", False, None)
    assert "was" not in first


@pytest.mark.parametrize(
    ("params", "rule"),
    [
        ({"k": "0"}, "k is a whole number from 1 to 100; got '0'"),
        ({"k": "ten"}, "k is a whole number"),
        ({"weight_revenue": "nan"}, "weight_revenue is a finite number"),
        ({"weight_revenue": "much"}, "got 'much'"),
        ({"trade_off": "1.5"}, "trade_off lies from 0 to 1; got 1.5"),
        ({"seen": "yes"}, "seen is 0 or 1"),
        ({"by": "colour"}, "diversity is counted by one of the columns"),
        ({"colour": "red"}, "a parameter is one of the model's inputs"),
        ({"user_id": ["u1", "u2"]}, "user_id is given once"),
        ({"history": [f"i{n}" for n in range(1001)]}, "history: at most 1000 values"),
        ({"query": "x" * 1001}, "at most 1000 characters"),
        ({"query": "refuse this"}, "the query is refused"),
    ],
)
def test_bad_input_is_400_with_the_rule(url: str, params: dict[str, object], rule: str) -> None:
    answer = get(url, "/api/recommend", **params)
    assert answer.status_code == 400
    assert rule in answer.json()["error"]


def test_what_is_not_there_is_404(url: str) -> None:
    for path in ("/image/nothing", "/api/item?item_id=nothing"):
        answer = get(url, path)
        assert answer.status_code == 404
        assert "'nothing'" in answer.json()["error"]


def test_a_server_that_is_away_is_502(tables: Tables, shop: Shop, serve: Serve) -> None:
    class Away(FakeRetrieval):
        def ask(self, signature: str, inputs: object) -> dict[str, np.ndarray]:
            raise ConnectionError("recommender: UNAVAILABLE")

    answer = get(serve(Explorer([Away(tables)], shop)), "/api/recommend")
    assert (answer.status_code, answer.json()) == (502, {"error": "recommender: UNAVAILABLE"})


def test_images_come_from_the_tables_and_are_cached(url: str, tables: Tables) -> None:
    row = tables.items.column("item_id").to_pylist().index("i7")
    answer = get(url, "/image/i7")
    assert answer.content == tables.items.column("image")[row].as_py()
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "max-age" in answer.headers["cache-control"]
    again = requests.get(
        url + "/image/i7", headers={"if-none-match": answer.headers["etag"]}, timeout=20
    )
    assert (again.status_code, again.content) == (304, b"")


def test_searches_user_and_item(url: str, shop: Shop) -> None:
    assert get(url, "/api/users", q="u12").json()[0]["user_id"] == "u12"
    title = shop.title("i9")
    assert get(url, "/api/items", q=title).json()[0]["item_id"] == "i9"
    person = get(url, "/api/user", user_id="u12").json()
    assert [e["item_id"] for e in reversed(person["history"])] == [
        e["item_id"] for e in shop.history("u12")
    ]
    assert person["facts"]["region"]
    item = get(url, "/api/item", item_id="i9").json()
    assert item["about"]["category"]
    assert all(row["item_id"] != "i9" for row in item["similar"][0]["rows"])
    assert get(url, "/api/users", q="x" * 300).status_code == 400


@pytest.mark.parametrize(
    ("host", "told", "other_names"),
    [
        ("127.0.0.1", "Only this machine can open it", False),
        ("0.0.0.0", "Careful: whoever reaches 0.0.0.0 sees users", True),
    ],
)
def test_the_command_says_where_it_is_and_who_can_come(
    monkeypatch: pytest.MonkeyPatch,
    tables: Tables,
    folder: Path,
    host: str,
    told: str,
    other_names: bool,
) -> None:
    """The whole command, but for the loading of a model and the endless loop at its end."""
    seen: dict[str, Any] = {}

    class Once(uvicorn.Server):
        def run(self, sockets: Any = None) -> None:
            """Serves one request under a foreign name, then ends."""
            thread = threading.Thread(target=super().run, kwargs={"sockets": sockets})
            thread.start()
            while not self.started:
                time.sleep(0.01)
            url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/api/about"
            answer = requests.get(url, headers={"host": "elsewhere.example"}, timeout=20)
            seen.update(url=url, status=answer.status_code)
            self.should_exit = True
            thread.join(20)

    monkeypatch.setattr(
        "tfrec.explore.source.SavedModelSource", lambda path: FakeRecommender(tables, str(path))
    )
    monkeypatch.setattr("uvicorn.Server", Once)
    words = ["explore", "--model", "m/1", "--data", str(folder), "--port", "0", "--host", host]
    result = CliRunner().invoke(cli.app, words)
    printed = " ".join(result.output.split())
    assert result.exit_code == 0, printed
    assert told in printed
    assert f":{seen['url'].split(':')[2].split('/')[0]}" in printed
    # Under another name only a page that is open to others answers.
    assert seen["status"] == (200 if other_names else 400)
