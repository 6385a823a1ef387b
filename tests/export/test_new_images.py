"""Images of new items: bytes or paths give the vectors that prepared images give; bad ones none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from tests.export.test_index_add import ask
from tests.pictures import LOOK, picture, shop
from tfrec import cli
from tfrec.data.quarantine import BadDataError
from tfrec.data.synthetic_images import encode_png
from tfrec.data.tables import DataError, Tables
from tfrec.export import feature_table
from tfrec.export.explain import Explainer
from tfrec.export.index_add import Added, add_items
from tfrec.export.retrieval import export_retrieval
from tfrec.features.image_prepare import prepare_items
from tfrec.models.registry import build
from tfrec.schema import FeatureTable

runner = CliRunner()
LARGE = np.kron(picture(0, 99), np.ones((3, 5, 1), np.uint8))  # of another size and shape
PICTURES = {"red": encode_png(LARGE), "blue": encode_png(picture(1, 77))}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 1 of a model that sees nothing of items but their looks."""
    folder = tmp_path_factory.mktemp("looks")
    data, encoder = shop(folder, n_users=8, n_items=12, n_cold=4)
    built = build("two_tower", data, {"dim": 8, "use_item_id": False, "history_length": 4})
    rng = np.random.default_rng(0)
    for variable in built.trainable_variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    export_retrieval(built, data, encoder, folder / "models" / "1")
    return folder / "models"


def vectors(folder: Path, *items: str) -> np.ndarray:
    return ask(tf.saved_model.load(str(folder)), "embed_item", item_id=list(items))["embedding"]


def wanted(model: Path, looks: list[bytes | None], folder: Path) -> np.ndarray:
    """By the long way: prepared as training data is, then given to the exported tower."""
    table = pa.table(
        {"item_id": [str(i) for i in range(len(looks))], "look": pa.array(looks, pa.binary())}
    )
    features = FeatureTable.model_validate({"features": [LOOK]})
    ready, _ = prepare_items(table, features, folder)
    given = [v or b"" for v in ready.column("look").to_pylist()]
    return ask(tf.saved_model.load(str(model / "1")), "embed_item_features", look=given)[
        "embedding"
    ]


def lines(added: Added) -> list[dict[str, Any]]:
    assert added.quarantine is not None
    return [json.loads(line) for line in added.quarantine.read_text().splitlines()]


def test_bytes_are_decoded_as_preparation_does(model: Path, tmp_path: Path) -> None:
    looks = [PICTURES["red"], None, PICTURES["blue"], b"no image", PICTURES["red"][:-40], b""]
    ids = ["red", "none", "blue", "text", "short", "empty"]
    table = pa.table({"item_id": ids, "look": pa.array(looks, pa.binary())})
    added = add_items(model, table, tmp_path / "out")
    got = vectors(added.folder, *ids)
    want = wanted(model, [PICTURES["red"], None, PICTURES["blue"]], tmp_path / "prepared")
    np.testing.assert_allclose(got[:3], want, atol=1e-5)
    assert np.abs(want[0] - want[1]).max() > 1e-2
    for row in (3, 4, 5):  # kept, with the vector of an item without an image
        np.testing.assert_allclose(got[row], want[1], atol=1e-5)
    assert added.images == {
        "look": {"bad:truncated": 1, "bad:unknown_format": 1, "decoded": 2, "missing": 2}
    }
    assert [(e["line"], e["reason"]) for e in lines(added)] == [
        (4, "unknown_format"),
        (5, "truncated"),
    ]
    assert "item text" in lines(added)[0]["raw"]
    # The next version has nothing to complain of, and does not carry the old complaints along.
    fine = table.slice(0, 1).set_column(0, "item_id", pa.array(["more"]))
    second = add_items(added.folder, fine)
    assert second.quarantine is None
    assert not list(second.folder.rglob("quarantine.jsonl"))


def test_a_csv_names_files(model: Path, tmp_path: Path) -> None:
    base = tmp_path / "images"
    base.mkdir()
    (base / "a.png").write_bytes(PICTURES["red"])
    (base / "bad.png").write_bytes(b"nonsense")
    (tmp_path / "secret.png").write_bytes(PICTURES["blue"])
    (tmp_path / "new.csv").write_text(
        "item_id,look\na,a.png\nb,bad.png\nc,gone.png\nd,../secret.png\ne,\n"
    )
    words = ["index", "add", "--model", model, "--items", tmp_path / "new.csv"]
    words += ["--out", tmp_path / "out", "--images", base]
    result = runner.invoke(cli.app, [str(w) for w in words])
    assert result.exit_code == 0, result.output
    assert "5 items added" in result.output
    for told in ("1 bad:no_such_file", "1 bad:outside_data_path", "1 bad:unknown_format"):
        assert told in result.output
    assert "1 decoded, 1 missing" in result.output
    assert "quarantine.jsonl" in result.output
    folder = tmp_path / "out" / "2"
    got = vectors(folder, "a", "b", "c", "d", "e")
    want = wanted(model, [PICTURES["red"], None], tmp_path / "prepared")
    np.testing.assert_allclose(got, want[[0, 1, 1, 1, 1]], atol=1e-5)


def test_a_limit_and_wrong_columns(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = pa.array([PICTURES["red"], b"bad", b"worse"], pa.binary())
    table = pa.table({"item_id": ["a", "b", "c"], "look": looks})
    with pytest.raises(BadDataError, match=r"50.00%.*2 of 3"):
        add_items(model, table, tmp_path / "out", max_bad=0.5)
    with pytest.raises(DataError, match="the bytes of files, or paths"):
        add_items(model, pa.table({"item_id": ["a"], "look": [1.5]}), tmp_path / "out")
    monkeypatch.setattr(feature_table, "FILE", Path("nowhere.json"))
    with pytest.raises(DataError, match="does not say how to prepare images"):
        add_items(model, table, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_explanations_see_the_image(model: Path, tmp_path: Path) -> None:
    """What the picture carries is the score with it less that of the item without one."""
    looks = [encode_png(picture(i % 2, i)) for i in range(12)]
    tables = Tables(
        pa.table(
            {
                "user_id": ["u0", "u0"],
                "item_id": ["i0", "i2"],
                "event": ["purchase"] * 2,
                "weight": pa.array([1.0, 1.0], pa.float32()),
                "timestamp": pa.array([1, 2], pa.int64()),
            }
        ),
        pa.table({"user_id": ["u0"]}),
        pa.table({"item_id": [f"i{i}" for i in range(12)], "look": pa.array(looks, pa.binary())}),
    )
    found = Explainer(model / "1", tables).explain("u0", "i5")
    told = found.of("item")
    assert [(c.name, c.shown) for c in told] == [("look", "image")]
    blind = add_items(model, pa.table({"item_id": ["blind"]}), tmp_path / "out")
    without = Explainer(blind.folder, tables).explain("u0", "blind", history=["i0", "i2"]).score
    assert told[0].value == pytest.approx(found.score - without, abs=1e-4)
    assert abs(told[0].value) > 1e-3
