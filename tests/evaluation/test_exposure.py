"""Exposure of a model's lists, by popularity and features, and on the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.builders import random_data
from tests.evaluation.stub import Fixed
from tfrec.evaluation import evaluate
from tfrec.evaluation.exposure import exposures
from tfrec.evaluation.report import write_html

DATA = random_data(40, 20)
# Item i belongs to seller 1 (odd) or 2 (even).
SELLER = np.where(np.arange(DATA.n_items + 1) % 2, 1, 2)
SELLER[0] = 0
WITH = replace(DATA, items={**DATA.items, "seller": SELLER})
FOUND = evaluate(Fixed.random(WITH, 0), WITH, ks=(5,), name="plain")


def test_shares_are_those_of_the_lists() -> None:
    popularity, seller = exposures(FOUND, WITH, 3, ["seller"], {"seller": ["", "odd", "even"]})
    looks = 1 / np.log2(np.arange(2, 5))
    lists = FOUND.lists[:, :3]
    odd = (looks * (lists % 2 == 1)).sum() / (looks * (lists > 0)).sum()
    assert seller.names == ("", "odd", "even")
    np.testing.assert_allclose(seller.shown, [0, odd, 1 - odd])
    np.testing.assert_allclose(seller.catalogue, [0, 0.5, 0.5])
    assert popularity.names == ("(none)", "head", "middle", "tail")
    np.testing.assert_allclose(popularity.demand[1:], 1 / 3, atol=0.1)
    assert popularity.shown.sum() == pytest.approx(1.0)


def test_errors_say_the_rule_and_what_came() -> None:
    with pytest.raises(ValueError, match="lists have 5 places, exposure looks at 6"):
        exposures(FOUND, WITH, 6)
    with pytest.raises(KeyError, match="no item feature 'brand'"):
        exposures(FOUND, WITH, 5, ["brand"])
    numbers = replace(WITH, items={**WITH.items, "price": np.ones(DATA.n_items + 1, np.float32)})
    with pytest.raises(ValueError, match="take 'price_bucket' for a number"):
        exposures(FOUND, numbers, 5, ["price"])


def test_the_page_has_a_table_for_each_grouping(tmp_path: Path) -> None:
    other = evaluate(Fixed.random(WITH, 1), WITH, ks=(5,), name="other")
    page = write_html(
        {"plain": FOUND, "other": other},
        tmp_path / "report.html",
        data=WITH,
        item_features=["seller"],
        item_words={"seller": ["", "odd & co", "even"]},
    ).read_text()
    assert "<td>odd &amp; co</td>" in page
    popularity, seller = exposures(other, WITH, 5, ["seller"])
    assert "Exposure by popularity" in page
    assert "Exposure by seller" in page
    for share in (*popularity.shown[1:], *seller.shown[1:], seller.disparity("demand")):
        assert f"<td>{100 * share:.1f}%</td>" in page
