"""The command: what each subcommand prints, writes and answers with."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from serving.options import Options
from serving.server import Server
from tests.tables import FEATURES, small_data, small_tables
from tfrec import cli
from tfrec.data.tables import Tables, write_tables
from tfrec.export.retrieval import export_retrieval, title_table
from tfrec.models.registry import build

runner = CliRunner()
# Wide, so that no cell of a table is broken over two lines.
cli.out.width = cli.err.width = 400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables, a retrieval model with versions, and a configuration."""
    folder = tmp_path_factory.mktemp("cli")
    splits, users, items = small_tables()
    events = pa.concat_tables(splits.values())
    events = events.append_column("event", pa.array(["buy"] * events.num_rows))
    data, encoder = small_data(folder / "statistics")
    for name, dim in (("one", 4), ("two", 8)):
        model = build("two_tower", data, {"dim": dim, "history_length": 8})
        titles = title_table(data.item_ids, {f"i{i}": f"Thing {i}" for i in range(20)})
        export_retrieval(model, data, encoder, folder / name / "1", titles)
    write_tables(Tables(events, users, items), folder / "tables")
    rows = "\n".join(
        "  - " + json.dumps(f.model_dump(exclude_defaults=True)) for f in FEATURES if f.kind != "id"
    )
    (folder / "shop.yaml").write_text(
        f"name: shop\ndata: {{format: canonical, path: tables}}\nfeatures:\n{rows}\n"
        "retrieval: {params: {dim: 8, history_length: 8}, train: {epochs: 1, batch_size: 16}}\n"
        "ranking: {train: {epochs: 1}, params: {hidden: [8]}}\npipeline: {root: runs}\n"
    )
    return folder


def run(*words: object, code: int = 0) -> str:
    result = runner.invoke(cli.app, [str(w) for w in words])
    assert result.exit_code == code, result.output + str(result.exception)
    return " ".join(result.output.split())


def test_config_check(made: Path, tmp_path: Path) -> None:
    assert "fine" in run("config", "check", made / "shop.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: shop\ndata: {format: synthetic, rows: none}\n")
    printed = run("config", "check", bad, code=2)
    assert "data.rows" in printed
    assert "'none'" in printed


def test_models_are_listed() -> None:
    printed = run("models")
    assert "two_tower (retrieval)" in printed
    assert "retrieval: {model: ease" in printed


def test_data_prepare(tmp_path: Path, made: Path) -> None:
    printed = run("data", "prepare", "--config", made / "shop.yaml", "--out", tmp_path / "t")
    assert '"rows_out": 360' in printed
    assert (tmp_path / "t" / "items.parquet").exists()


def test_train_exports_both_models(made: Path, tmp_path: Path) -> None:
    run("train", "--config", made / "shop.yaml", "--out", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    for name in ("retrieval", "ranking"):
        assert (Path(report[name]["folder"]) / "saved_model.pb").exists()
    assert 0 <= report["retrieval"]["recall@10"] <= 1


def test_tune_searches_the_declared_ranges(made: Path, tmp_path: Path) -> None:
    config = made / "tune.yaml"
    config.write_text(
        "name: tune\ndata: {format: canonical, path: tables}\n"
        "retrieval: {model: ease, params: {l2: 100.0}, search: {trials: 3, "
        "space: {l2: {low: 1.0, high: 1000.0, log: true}}}}\n"
    )
    printed = run("tune", "--config", config, "--out", tmp_path / "search")
    assert "best recall@10" in printed
    assert "l2" in (tmp_path / "search" / "best.yaml").read_text()


def test_recommend_writes_parquet(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    words = ("recommend", "--model", made / "one", "--data", made / "tables", "--out", out)
    assert "150 rows for 30 users" in run(*words, "-k", 5)
    (tmp_path / "users.txt").write_text("u1\nu2\n")
    run(*words, "-k", 3, "--users", tmp_path / "users.txt")
    assert pq.read_table(out).column("user_id").to_pylist() == ["u1"] * 3 + ["u2"] * 3


def test_evaluate_and_compare(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    words = ("--data", made / "tables", "--report", page)
    assert "recall@10" in run("evaluate", "--model", made / "one", *words)
    assert "<html" in page.read_text().lower()
    printed = run("compare", made / "one", made / "two", *words)
    assert "95% interval" in printed
    assert "ndcg@10" in printed
    alone = run("compare", made / "one", made / "one", *words, code=2)
    assert "two SavedModels or more" in alone


def test_evaluate_by_metric_and_by_the_features_of_a_configuration(
    made: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    words = ("--model", made / "one", "--data", made / "tables", "--config", made / "shop.yaml")
    whole = run("evaluate", *words, "--report", page)
    assert "diversity@10" in whole
    html = page.read_text()
    assert "By age" in html
    assert "<td>a3</td>" in html  # values by their names
    assert "Exposure by genres" in html
    assert "<td>g2</td>" in html
    printed = run("evaluate", *words, "--metric", "mrr@5", "--metric", "map@7", "--batch-size", 7)
    assert "mrr@5" in printed
    assert "map@7" in printed
    assert "recall@10" not in printed
    assert "write e.g. 'ndcg@10'" in run("evaluate", *words, "--metric", "mrr", code=2)
    several = ("compare", made / "one", made / "two", "--data", made / "tables")
    assert run(*several, "--metric", "hr@3").count("hr@3") == 2


def test_doctor(made: Path, tmp_path: Path) -> None:
    words = ("doctor", "--config", made / "shop.yaml", "--work", tmp_path)
    # An untrained model gives everybody the same list: a critical finding, told by the status.
    with_model = run(*words, "--model", made / "one", code=3)
    assert "same list for everybody" in with_model
    data_alone = run(*words)
    assert "same list for everybody" not in data_alone
    # The walks of the small tables come round again.
    for printed in (with_model, data_alone):
        assert "10 of 30 test events are pairs the user trained on" in printed
        assert "data.repeats: first" in printed


def test_query_over_grpc(made: Path) -> None:
    options = Options(port=0, model_name="retrieval", model_base_path=str(made / "one"))
    with Server(options) as server:
        server.wait_until_available("retrieval", timeout=60)
        printed = run(
            "query", "--address", server.grpc_address, "--user", "u1", "--user", "stranger",
            "-k", 3, "--data", made / "tables", "--timeout", 20,
        )  # fmt: skip
        alone = run("query", "--address", server.grpc_address, "-u", "u1", "--timeout", 20)
        words = (
            "query",
            "-a",
            server.grpc_address,
            "-u",
            "u1",
            "-k",
            20,
            "--data",
            made / "tables",
        )
        again = made / "again.yaml"
        text = (made / "shop.yaml").read_text()
        again.write_text(text + "gate: {exclude_seen: false}\n")
        new, every, bought, asked = (
            run(*words, *more).count("Thing")
            for more in ((), ("--include-seen",), ("-c", again), ("-c", again, "--exclude-seen"))
        )
    assert new == asked < every == bought
    assert "Thing" in alone  # the model knows the titles itself
    assert "user u1: had 12" in printed
    assert "user stranger: new here" in printed
    assert "Thing" in printed


def test_query_without_a_server_says_so(made: Path) -> None:
    printed = run("query", "--address", "localhost:1", "--user", "u", "--timeout", 0.3, code=2)
    assert "error:" in printed


def test_wrong_model_folder_is_explained(made: Path, tmp_path: Path) -> None:
    printed = run("evaluate", "--model", tmp_path, "--data", made / "tables", code=2)
    assert "holds no SavedModel" in printed
