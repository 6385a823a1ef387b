"""Makes the pictures of docs/explorer.md from a synthetic shop, in headless Chromium.

    python -m tests.explore.screenshots [FOLDER]

Trains a small recommender, assembles it a second time with other weights, and photographs the page.
FOLDER, where it is given, keeps the shop, so that a second call trains nothing.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

from tests.explore.conftest import serving
from tests.explore.fake import FakeRecommender
from tests.explore.test_page import Page, chromium
from tfrec.config import Config, parse_config
from tfrec.data.tables import read_tables
from tfrec.explore.explorer import Explorer
from tfrec.explore.shop import Shop
from tfrec.explore.source import SavedModelSource
from tfrec.export.batch import latest_version
from tfrec.export.recommender.assemble import assemble, save_recommender
from tfrec.export.train import train_models

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
COLOURS = 128  # of the palette; the page has few
USER = "u7"


def config(weights: dict[str, float]) -> Config:
    """300 items with images; money counts; lists are made diverse by style."""
    features = [
        {"name": "age", "role": "user", "kind": "categorical", "dim": 8},
        {"name": "region", "role": "user", "kind": "categorical", "dim": 4},
        {"name": "category", "role": "item", "kind": "categorical", "dim": 8},
        {"name": "style", "role": "item", "kind": "categorical", "dim": 8},
        {"name": "price", "role": "item", "kind": "numeric", "transform": "log"},
    ]
    shop = {"rows": 12_000, "users_count": 400, "items_count": 300, "images": True, "seed": 1}
    return parse_config(
        {
            "name": "pictures",
            "data": {"format": "synthetic", **shop},
            "features": features,
            "retrieval": {"model": "als", "params": {"dim": 32}},
            "ranking": {
                "params": {"hidden": [64, 32], "dots": True, "unknown_rate": 0.01},
                "train": {"epochs": 3, "batch_size": 1024, "learning_rate": 0.02},
            },
            "recommender": {"enabled": True, "retrieval": 60, "similar": 20, "popular": 20},
            "utility": {
                "weights": weights,
                "price": "price",
                "calibration": "platt",
                "undo_sampling": "auto",
            },
            "rerank": {"method": "mmr", "trade_off": 0.2, "vectors": ["style"]},
        }
    )


def make(folder: Path) -> None:
    """The shop's tables and two recommenders of the same models, below ``folder``."""
    train_models(config({"purchase": 5.0, "revenue": 1.0}), folder)
    tables = read_tables(folder / "tables")
    parts = latest_version(folder / "retrieval"), latest_version(folder / "ranking")
    other = assemble(
        config({"purchase": 20.0, "revenue": 0.2}), *parts, tables.items, tables.interactions
    )
    save_recommender(other, folder / "other" / "2")


@contextmanager
def page(browser: webdriver.Chrome, models: list[Any], folder: Path) -> Iterator[Page]:
    with serving(Explorer(models, Shop(folder / "tables"))) as url:
        yield Page(browser, url)


def photograph(shown: Page, path: str, name: str) -> None:
    """Opens a path, waits for the list, and keeps what the window shows."""
    shown.open(path)
    shown.items()
    # Images below are loaded when they come into sight; those in sight are waited for.
    shown.until(
        lambda: shown.read(
            "[...document.images].filter(i => i.getBoundingClientRect().top < innerHeight)"
            ".every(i => i.complete)"
        )
    )
    image = Image.open(io.BytesIO(shown.browser.get_screenshot_as_png())).convert("RGB")
    image.quantize(COLOURS).save(IMAGES / f"{name}.png", optimize=True)
    print(f"{IMAGES / name}.png {image.size}")


def scheme(browser: webdriver.Chrome, name: str) -> None:
    """Light or dark."""
    features = [{"name": "prefers-color-scheme", "value": name}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def main(folder: Path) -> None:
    if not (folder / "other").is_dir():
        make(folder)
    first, second = SavedModelSource(folder / "recommender"), SavedModelSource(folder / "other")
    with chromium(folder / "browser") as browser:
        scheme(browser, "light")
        with page(browser, [first], folder) as shown:
            photograph(shown, f"/?user_id={USER}&weight_revenue=4", "explorer")
        stand_in = FakeRecommender(read_tables(folder / "tables"))
        with page(browser, [stand_in], folder) as shown:
            photograph(shown, f"/?user_id={USER}&among_category=furniture&k=6", "explorer-relaxed")
        scheme(browser, "dark")
        with page(browser, [first, second], folder) as shown:
            photograph(shown, f"/?user_id={USER}&k=8", "explorer-compare")


if __name__ == "__main__":
    if sys.argv[1:]:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as work:
            main(Path(work))
