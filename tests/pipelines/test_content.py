"""The automated pipeline on images and queries: decoded in Beam, trained on, served, grown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tests.export.test_index_add import ask
from tests.pipelines.apart import run_script
from tests.pipelines.content_run import FEATURES, ITEMS
from tfrec.data.tables import read_tables
from tfrec.export.golden import load_golden
from tfrec.export.index import index_report
from tfrec.export.index_add import add_items
from tfrec.features.image_prepare import prepare_items
from tfrec.schema import FeatureTable
from tfrec.training.transformed import read_records, split_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run left."""
    folder = tmp_path_factory.mktemp("content")
    (folder / "printed.txt").write_text(run_script("content_run.py", folder))
    return folder


def artifact(root: Path, node: str, key: str) -> Path:
    return next((root / "run/artifacts" / node / key).glob("*"))


def pushed(root: Path, name: str) -> Path:
    found = json.loads((root / "found.json").read_text())
    assert found["refused"] == {}
    return Path(found["pushed"][name])


def test_images_are_decoded_once_and_reach_the_catalogue_alone(root: Path) -> None:
    examples = artifact(root, "ExampleGen", "examples")
    assert json.loads((examples / "images.json").read_text()) == {"image": {"decoded": ITEMS}}
    tables = read_tables(artifact(root, "TablesGen", "tables"))
    features = FeatureTable.model_validate({"features": FEATURES})
    ready, _ = prepare_items(tables.items, features, root / "again")
    by_id = dict(zip(*(ready.column(c).to_pylist() for c in ("item_id", "image")), strict=True))
    spec = {
        "item_id": tf.io.FixedLenFeature([], tf.string),
        "image": tf.io.FixedLenFeature([], tf.string, ""),
    }
    for split, expected in (("items", True), ("train", False)):
        rows = tf.io.parse_example(
            next(iter(read_records(split_files(examples, split), 10_000))), spec
        )
        images = dict(zip(rows["item_id"].numpy(), rows["image"].numpy(), strict=True))
        for item, image in images.items():
            assert image == (by_id[item.decode()] if expected else b"")
    kept = json.loads(
        (artifact(root, "RetrievalTrainer", "model_run") / "features.json").read_text()
    )
    counted = {c["feature"]: c for c in kept}
    assert counted["image"]["missing"] == 0
    assert counted["image"]["rows"] == ITEMS
    assert 0 < counted["query"]["missing"] < counted["query"]["rows"]  # most buy without a search


def test_the_served_model_reads_query_and_image(root: Path) -> None:
    folder = pushed(root, "retrieval")
    model = tf.saved_model.load(str(folder))
    words = ["", "oak mug", "oak mug", "zzz"]
    asked = {"user_id": ["u1"] * 4, "exclude": [[""]] * 4, "k": 10, "query": words}
    scores = ask(model, "recommend", **asked)["score"]
    np.testing.assert_allclose(scores[1], scores[2], rtol=1e-6)
    assert np.abs(scores[0] - scores[1]).max() > 1e-4
    examples = artifact(root, "RetrievalTrainer", "model_run") / "golden.json"
    for request in load_golden(examples):
        answer = model.signatures[request.signature](examples=tf.constant(list(request.examples)))
        np.testing.assert_array_equal(answer["item_id"], request.answer["item_id"])
    ranker = tf.saved_model.load(str(pushed(root, "ranking")))
    item = model.item_ids.numpy()[1].decode()
    given = {"user_id": ["u1"] * 2, "item_id": [item] * 2, "query": ["oak mug", ""]}
    ranked = ask(ranker, "rank", **given)["score"]
    assert ranked[0] != ranked[1]


def test_an_item_with_an_image_joins_the_pushed_model(root: Path) -> None:
    """Twins of an item, with its picture and without: the picture is part of the vector."""
    folder = pushed(root, "retrieval")
    items = read_tables(artifact(root, "TablesGen", "tables")).items
    twin = items.slice(0, 1)
    one, other = (twin.set_column(0, "item_id", pa.array([i])) for i in ("twin", "blind"))
    at = other.column_names.index("image")
    blank = pa.array([None], items.column("image").type)
    added = add_items(folder, pa.concat_tables([one, other.set_column(at, "image", blank)]))
    assert added.images == {"image": {"decoded": 1, "missing": 1}}
    report = index_report(added.folder)
    assert report is not None
    assert (report.n_items, report.grown) == (ITEMS + 2, 2)
    grown = tf.saved_model.load(str(added.folder))
    vectors = ask(grown, "item_vector", item_id=["twin", "blind"])["vector"]
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    title = items.column("title").to_pylist()[0]
    found = ask(grown, "recommend", user_id=["u1"], query=[title], exclude=[[""]], k=ITEMS + 2)
    assert {b"twin", b"blind"} < set(found["item_id"][0].tolist())
