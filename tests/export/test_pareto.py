"""From an exported model to a chosen configuration; comments stay where they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from tests.tables import FEATURES, small_tables
from tfrec.cli import app
from tfrec.config import TrainConfig, load_config, parse_config
from tfrec.data.tables import Tables
from tfrec.evaluation.pareto import hypervolume
from tfrec.export.pareto import goals_of, run_pareto, write_choice
from tfrec.export.retrieval import export_retrieval
from tfrec.features.fit import fit_encoder, retrieval_data
from tfrec.training.fit import fit_retrieval

CONFIG = """\
# A shop.
name: small
data: {format: canonical, path: tables}
features:
  - {name: genres, role: item, kind: multi, max_length: 3}  # what makes items alike
utility:
  price: price
  # which goals
  weights: {revenue: 1.0}
# where it works
pipeline:
  root: runs
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tables]:
    splits, users, items = small_tables(users=60)
    folder = tmp_path_factory.mktemp("shop")
    encoder = fit_encoder(splits["train"], users, items, FEATURES, folder / "vocabularies", 0)
    data = retrieval_data(splits, users, items, encoder)
    model = fit_retrieval("ease", {"l2": 5.0}, TrainConfig(), data).model
    export_retrieval(model, data, encoder, folder / "model" / "1")
    log = pa.concat_tables([splits[name] for name in ("train", "eval", "test")])
    return folder, Tables(log, users, items)


def test_a_search_ends_in_a_configuration(shop: tuple[Path, Tables], tmp_path: Path) -> None:
    folder, tables = shop
    source = tmp_path / "shop.yaml"
    source.write_text(CONFIG)
    config = load_config(source)
    found = run_pareto(
        config,
        folder / "model",
        tables,
        tmp_path / "out",
        k=5,
        candidates=15,
        settings=8,
        rule="max revenue@5 with ndcg@5 >= 50%",
        say=lambda _: None,
    )
    assert found.front.objectives == ("revenue@5", "ndcg@5", "diversity@5")
    assert len(found.front.settings) == 2 + 1 + 8  # each goal alone, the configured one, the search
    points = found.front.points()
    assert found.front.hypervolume() == pytest.approx(hypervolume(points, [0, 0, 0]))
    allowed = points[:, 1] >= 0.5 * points[:, 1].max()
    assert points[found.at, 0] == points[allowed, 0].max()
    assert set(found.test) == {"chosen", "configured", "purchase alone", "revenue alone"}
    assert found.test["configured"] == found.test["revenue alone"]
    kept = json.loads((tmp_path / "out/front.json").read_text())
    assert kept["chosen"] == found.at
    assert [r["non_dominated"] for r in kept["settings"]] == found.front.best.tolist()
    assert (tmp_path / "out/front.png").read_bytes()[:4] == b"\x89PNG"
    assert "<- chosen" in (tmp_path / "out/front.txt").read_text() or not found.front.best[found.at]

    new = load_config(write_choice(source, found.setting, tmp_path / "new.yaml"))
    ratio = new.utility.weights["revenue"] * found.setting["purchase"]
    assert ratio == pytest.approx(
        new.utility.weights["purchase"] * found.setting["revenue"], rel=1e-4
    )
    if found.setting["trade_off"] > 0:
        assert (new.rerank.method, new.rerank.normalise) == ("mmr", True)
        assert new.rerank.trade_off == pytest.approx(found.setting["trade_off"], rel=1e-4)


def test_the_revenue_that_is_measured_is_that_of_the_lists(
    shop: tuple[Path, Tables], tmp_path: Path
) -> None:
    """By revenue alone the lists are those of a loop over chance x price."""
    folder, tables = shop
    config = parse_config(yaml.safe_load(CONFIG))
    found = run_pareto(
        config,
        folder / "model",
        tables,
        tmp_path,
        k=20,
        candidates=20,
        settings=2,
        objectives=["revenue@20"],
        say=lambda _: None,
    )
    # Lists as long as the catalogue show all that was taken, whatever the weights.
    prices = dict(
        zip(
            tables.items["item_id"].to_pylist(),
            np.nan_to_num(np.array(tables.items["price"].to_pylist(), float)),
            strict=True,
        )
    )
    log = tables.interactions.to_pandas().sort_values("timestamp", kind="stable")
    known = log.groupby("user_id").nth(list(range(10)))
    seen = set(zip(known.user_id, known.item_id, strict=True))
    last = log.groupby("user_id").nth(10)
    taken = {(u, i) for u, i in zip(last.user_id, last.item_id, strict=True) if (u, i) not in seen}
    want = sum(prices[i] for _, i in taken) / len({u for u, _ in taken})
    for figures in found.front.figures:
        assert figures["revenue@20"] == pytest.approx(want, rel=1e-5)


def test_comments_outside_the_sections_stay(tmp_path: Path) -> None:
    source = tmp_path / "a.yaml"
    source.write_text(CONFIG)
    text = write_choice(
        source, {"purchase": 3.0, "revenue": 1.5, "trade_off": 0.0}, tmp_path / "b.yaml"
    ).read_text()
    for comment in ("# A shop.", "# what makes items alike", "# where it works"):
        assert comment in text
    assert "# which goals" not in text
    assert yaml.safe_load(text) == {
        **yaml.safe_load(CONFIG),
        "utility": {"price": "price", "weights": {"purchase": 1.0, "revenue": 0.5}},
    }
    assert text.index("# where it works") < text.index("pipeline:")


def test_goals_need_their_columns() -> None:
    values = yaml.safe_load(CONFIG)
    assert goals_of(parse_config(values)) == ["purchase", "revenue"]
    with pytest.raises(ValueError, match=r"\['profit'\]"):
        goals_of(parse_config(values), ["profit"])
    bare = {**values, "utility": {"weights": {"relevance": 1.0}}}
    with pytest.raises(ValueError, match=r"utility\.price"):
        goals_of(parse_config(bare))


def test_ope_prints_estimates_and_doubts(tmp_path: Path) -> None:
    table = pa.table(
        {
            "propensity": [[0.5, 0.5]] * 100,
            "reward": [[1.0, 0.0], [0.0, 0.0]] * 50,
            "target": [[0.05, 0.5]] * 100,
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    done = CliRunner().invoke(app, ["ope", str(tmp_path / "log.parquet")])
    assert done.exit_code == 0, done.output
    assert "0.50000" in done.output  # logged, and snips: all weights are alike
    assert "0.05000" in done.output  # ips
    assert "mean weight at place 1 is 0.100" in done.output
    wrong = CliRunner().invoke(app, ["ope", str(tmp_path / "log.parquet"), "--dependence", "x"])
    assert wrong.exit_code == 2
    assert "'cascade'" in wrong.output
