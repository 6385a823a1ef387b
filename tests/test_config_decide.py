"""The sections ``utility`` and ``rerank``: what they accept, and what they say when they do not."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from tfrec.config import ConfigError, load_config, parse_config

GOOD = {
    "name": "shop",
    "data": {"format": "synthetic"},
    "features": [
        {"name": "categories", "role": "item", "kind": "multi"},
        {"name": "style", "role": "item", "kind": "categorical"},
        {"name": "price", "role": "item", "kind": "numeric"},
        {"name": "age", "role": "user", "kind": "categorical"},
    ],
}


def test_without_the_sections_items_go_by_relevance() -> None:
    config = parse_config(GOOD)
    assert config.utility.weights == {"relevance": 1.0}
    assert config.rerank.method == "none"


def test_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text("""
name: shop
data: {format: synthetic}
features:
  - {name: categories, role: item, kind: multi}
utility:
  weights: {click: 0.05, profit: 1, freshness: 0.01}
  margin: margin
  released: released
  stock: stock
  low_stock: 5
  half_life: 14
  calibration: isotonic
rerank:
  method: dpp
  trade_off: 0.4
  window: 8
  max_per_group: {categories: 3}
  boosts:
    - {feature: categories, values: [toys], factor: 1.5, start: 2026-12-01, end: 2026-12-24T18:00}
    - {feature: item_id, values: [i7], factor: 0}
""")
    config = load_config(file)
    assert config.utility.weights == {"click": 0.05, "profit": 1.0, "freshness": 0.01}
    first, second = config.rerank.boosts
    start = datetime(2026, 12, 1, tzinfo=timezone.utc).timestamp()
    assert first.window == (start, start + 23 * 86400 + 18 * 3600)
    assert second.window == (-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"utility": {"weights": {"revenue": 1}}}, r"utility: weights\.revenue needs 'price'"),
        ({"utility": {"weights": {"profit": 1}}}, r"weights\.profit needs 'margin'"),
        ({"utility": {"weights": {"freshness": 1}}}, r"weights\.freshness needs 'released'"),
        ({"utility": {"weights": {"clicks": 1}}}, r"utility\.weights\.clicks.*: .*'click'"),
        ({"utility": {"weights": {}}}, r"utility\.weights: "),
        ({"utility": {"weights": {"click": float("nan")}}}, "click: .* finite number; got nan"),
        ({"utility": {"low_stock": 3}}, "'low_stock' needs 'stock'"),
        ({"utility": {"seller_boost": {"acme": 2}}}, "'seller_boost' needs 'seller'"),
        (
            {"utility": {"seller": "style", "seller_boost": {"acme": -1}}},
            "acme: a factor is at least 0; got -1",
        ),
        (
            {"utility": {"seller": "brand"}},
            r"utility\.seller names 'brand', .* \['item_id', 'categories', 'style'\]",
        ),
        ({"utility": {"half_life": 0}}, r"utility\.half_life: .*greater than 0"),
        ({"rerank": {"method": "mrm"}}, r"rerank\.method: .*'mmr'.* \(got 'mrm'\)"),
        ({"rerank": {"trade_off": 1.2}}, r"rerank\.trade_off: .*less than or equal to 1"),
        ({"rerank": {"window": 1}}, r"rerank\.window: .*2 \(got 1\)"),
        ({"rerank": {"tradeoff": 0.3}}, r"rerank\.tradeoff: no such key; did you mean 'trade_off'"),
        ({"rerank": {"method": "calibrated"}}, "method 'calibrated' needs 'categories'"),
        ({"rerank": {"max_per_group": {"style": 0}}}, "style: at most n .* n >= 1; got 0"),
        ({"rerank": {"max_per_group": {"age": 2}}}, r"max_per_group\.age names 'age'"),
        ({"rerank": {"vectors": ["price"]}}, r"rerank\.vectors\.0 names 'price'"),
        (
            {
                "rerank": {
                    "boosts": [
                        {
                            "feature": "style",
                            "values": ["a"],
                            "factor": 2,
                            "start": "2026-02-01",
                            "end": "2026-01-01",
                        }
                    ]
                }
            },
            r"rerank\.boosts\.0: a boost ends after it starts",
        ),
        (
            {"rerank": {"boosts": [{"feature": "style", "values": [], "factor": 2}]}},
            r"boosts\.0\.values: ",
        ),
    ],
)
def test_errors_name_key_value_and_rule(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({**GOOD, **change})
