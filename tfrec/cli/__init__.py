"""The command ``tfrec``: thin, and the only file of the library that reaches pipelines and serving.

Heavy imports happen inside the command that needs them, so that ``tfrec --help`` is quick.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import typer
from rich.table import Table

from tfrec.cli.common import (
    ConfigFile,
    IncludeSeen,
    ModelFolder,
    err,
    load,
    out,
    say,
    start_tensorflow,
    told,
)
from tfrec.cli.content import explain, index_app
from tfrec.cli.explore import explore
from tfrec.cli.ope import ope
from tfrec.cli.pareto import pareto
from tfrec.cli.store import server_flags, store_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Recommenders on TensorFlow: from a log of purchases to a served answer.",
)
config_app = typer.Typer(no_args_is_help=True, help="Configurations.")
data_app = typer.Typer(no_args_is_help=True, help="Raw logs and canonical tables.")
pipeline_app = typer.Typer(no_args_is_help=True, help="The TFX pipeline.")
app.add_typer(config_app, name="config")
app.add_typer(data_app, name="data")
app.add_typer(pipeline_app, name="pipeline")
app.add_typer(store_app, name="store")
app.command("pareto")(pareto)
app.command("ope")(ope)
app.command()(explore)
app.command()(explain)
app.add_typer(index_app, name="index")


@config_app.command("check")
def config_check(file: Path) -> None:
    """Checks a configuration, its models and their parameters, and prints what it comes to."""
    with told():
        start_tensorflow()
        from tfrec.training.checks import check_models

        config = load(file)
        check_models(config)
        out.print_json(config.model_dump_json())
        err.print(f"[green]{file}: fine[/green]")


@data_app.command("prepare")
def data_prepare(config: ConfigFile, to: Annotated[Path, typer.Option("--out")]) -> None:
    """Reads a raw log into canonical tables; bad rows go to a quarantine file with reasons."""
    with told():
        from dataclasses import asdict

        from tfrec.data.prepare import prepare

        out.print_json(json.dumps(asdict(prepare(load(config), to))))


@app.command()
def models() -> None:
    """All models: kind, paper, and the configuration to train each."""
    from tfrec.models.registry import MODELS

    for spec in MODELS.values():
        section = "ranking" if spec.kind == "ranking" else "retrieval"
        params = f", params: {json.dumps(spec.example)}" if spec.example else ""
        out.print(f"[bold]{spec.name}[/bold] ({spec.kind}): {spec.paper}", highlight=False)
        out.print(f"    {section}: {{model: {spec.name}{params}}}", soft_wrap=True)


@app.command()
def train(
    config: ConfigFile,
    to: Annotated[Path, typer.Option("--out", help="Folder of models and report.")],
) -> None:
    """Trains and exports without TFX, in this process; for a first look and for notebooks."""
    with told():
        start_tensorflow()
        from tfrec.export.train import train_models

        report = train_models(load(config), to, say=say)
        out.print_json(json.dumps(report))


@app.command()
def tune(
    config: ConfigFile,
    to: Annotated[Path, typer.Option("--out", help="Folder of trials and of best.yaml.")],
) -> None:
    """Searches the ranges of retrieval.search, on the validation split alone; resumable."""
    with told():
        start_tensorflow()
        from tfrec.training.tune import tune as search
        from tfrec.training.workspace import open_workspace

        loaded = load(config)
        found = search(loaded, open_workspace(loaded, to / "data").data, to)
        columns = list(dict.fromkeys(key for trial in found.trials for key in trial))
        table = Table(*columns)
        for trial in found.trials:
            table.add_row(*(str(trial.get(c, "")) for c in columns))
        out.print(table)
        out.print(f"best {found.metric} {found.value:.4f}: {to / 'best.yaml'}", soft_wrap=True)


@pipeline_app.command("run")
def pipeline_run(
    config: ConfigFile,
    span: Annotated[
        int | None, typer.Option(help="Span of the data; the newest by default.")
    ] = None,
    cache: Annotated[bool, typer.Option(help="Reuse what earlier runs made.")] = True,
) -> None:
    """Runs the pipeline on this machine: raw log to pushed models."""
    with told():
        loaded = load(config)
        err.print("loading TFX (10 to 30 seconds)")
        start_tensorflow()
        from pipelines import local

        report = local.run(loaded, span=span, cache=cache, say=say)
        _print_report(report)
        if report.refused:
            raise typer.Exit(3)


def _print_report(report: Any) -> None:
    table = Table("component", "seconds", "from cache")
    for component in report.components:
        table.add_row(component.name, f"{component.seconds:.1f}", "yes" if component.cached else "")
    table.add_row("all", f"{report.seconds:.1f}", "")
    out.print(table)
    for name, folder in report.pushed.items():
        out.print(f"[green]pushed[/green] {name}: {folder}", soft_wrap=True)
    for name, reasons in report.refused.items():
        out.print(f"[red]refused[/red] {name}: {'; '.join(reasons)}", soft_wrap=True)


@pipeline_app.command("compile")
def pipeline_compile(
    config: ConfigFile, to: Annotated[Path, typer.Option("--out", help="Job file to write.")]
) -> None:
    """Writes the Kubeflow v2 / Vertex job of the same configuration."""
    with told():
        start_tensorflow()
        from pipelines import kubeflow

        kubeflow.compile(load(config), to)
        out.print(f"wrote {to}")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def serve(context: typer.Context) -> None:
    """Serves models; takes tensorflow_model_server's flags. 'serve plan MODEL' estimates memory.

    With --store=PATH|URL a request may leave out what the feature store knows of its user.
    """
    arguments = list(context.args)
    if arguments[:1] == ["plan"]:
        from serving.plan import plan_main

        raise typer.Exit(plan_main(arguments[1:]))
    from serving.__main__ import serve_main

    with told():
        arguments = server_flags(arguments)
    raise typer.Exit(serve_main(arguments))


@app.command()
def query(
    user: Annotated[list[str], typer.Option("--user", "-u", help="User id; may be repeated.")],
    address: Annotated[str, typer.Option("--address", "-a")] = "localhost:8500",
    model: Annotated[str, typer.Option("--model", "-m", help="Served name.")] = "retrieval",
    k: Annotated[int, typer.Option("-k")] = 10,
    tables: Annotated[
        Path | None,
        typer.Option("--data", help="Canonical tables: history and features of the users."),
    ] = None,
    text: Annotated[str | None, typer.Option("--query", "-q", help="What they search for.")] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Its gate.exclude_seen says whether that may come."),
    ] = None,
    seen: IncludeSeen = None,
    timeout: Annotated[float, typer.Option(help="Seconds.")] = 5.0,
) -> None:
    """Asks a server over gRPC and prints recommendations with titles.

    What a user had is excluded, unless the configuration or --include-seen says otherwise; a
    one-call recommender goes by its own configuration.
    """
    with told():
        from serving.client import Client, ServingError
        from tfrec.export.ask import UserFacts, recommend_rows

        facts = UserFacts.open(tables) if tables else None
        exclude = None if seen is None else not seen
        configured = load(config).gate.exclude_seen if config else True
        try:
            with Client(address, model, timeout=timeout) as client:
                for row in recommend_rows(
                    client, user, k, facts, text, exclude_seen=exclude, configured=configured
                ):
                    _print_list(row)
        except ServingError as error:
            raise ValueError(str(error)) from None


def _print_list(row: Any) -> None:
    out.print(f"\n[bold]{row.heading}[/bold]", highlight=False, soft_wrap=True)
    table = Table("rank", "item", "title", "score")
    for place, (item, title, score) in enumerate(row.items, 1):
        table.add_row(str(place), item, title, f"{score:.3f}")
    out.print(table)


@app.command()
def recommend(
    model: ModelFolder,
    tables: Annotated[Path, typer.Option("--data", help="Canonical tables.")],
    to: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
    users: Annotated[
        Path | None, typer.Option(help="User ids, one a line (or Parquet with user_id); all.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k")] = 10,
    include_seen: IncludeSeen = None,
    batch_size: Annotated[int, typer.Option()] = 1024,
) -> None:
    """Writes the best items of many users to a Parquet file.

    What a user had is left out where gate.exclude_seen said so when the model was exported.
    """
    with told():
        start_tensorflow()
        from tfrec.data.tables import read_tables
        from tfrec.export.batch import BatchRecommender, read_users

        canonical = read_tables(tables)
        wanted = read_users(users) if users else canonical.users.column("user_id").to_pylist()
        recommender = BatchRecommender(model, canonical.interactions, canonical.users)
        exclude = None if include_seen is None else not include_seen
        rows = recommender.write(wanted, k, to, exclude_seen=exclude, batch_size=batch_size)
        out.print(f"wrote {rows:,} rows for {len(wanted):,} users to {to}", soft_wrap=True)


SplitOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Its split, gate.exclude_seen and features; else each user's last event tests.",
    ),
]
ReportOption = Annotated[Path | None, typer.Option("--report", help="HTML report to write.")]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="Column of the table, as mrr@5; repeat it. Recall and NDCG at 10, 20 and 100, and "
        "figures beyond accuracy, where none is named.",
    ),
]
BatchOption = Annotated[
    int, typer.Option("--batch-size", min=1, help="Most users asked at once: bounds memory.")
]


def _measure(
    named: dict[str, Path],
    tables: Path,
    config: Path | None,
    metrics: list[str] | None,
    batch_size: int,
) -> tuple[Any, Any]:
    """Evaluations by name, and the data they were made on."""
    start_tensorflow()
    from tfrec.config import SplitConfig
    from tfrec.data.splits import split_events
    from tfrec.data.tables import read_tables
    from tfrec.evaluation.metrics import parse_metric
    from tfrec.export.measure import described, evaluate_saved
    from tfrec.schema import FeatureTable

    ks = {10, 20, 100} | {parse_metric(metric)[1] for metric in metrics or ()}
    canonical = read_tables(tables)
    loaded = load(config) if config else None
    splits = split_events(canonical.interactions, loaded.split if loaded else SplitConfig())
    features = loaded.feature_table if loaded else FeatureTable()
    on = described(canonical, splits, features)
    seen = loaded.gate.exclude_seen if loaded else True
    return {
        name: evaluate_saved(
            folder,
            canonical,
            splits,
            sorted(ks),
            data=on.data,
            batch_size=batch_size,
            exclude_seen=seen,
            name=name,
        )
        for name, folder in named.items()
    }, on


@app.command()
def evaluate(
    model: ModelFolder,
    tables: Annotated[Path, typer.Option("--data", help="Canonical tables.")],
    config: SplitOption = None,
    report: ReportOption = None,
    metric: MetricOption = None,
    batch_size: BatchOption = 1024,
) -> None:
    """Measures an exported model on the test split: the whole catalogue is ranked."""
    with told():
        measured = _measure({model.name: model}, tables, config, metric, batch_size)
        _report(*measured, report, metric)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="SavedModels; the first is the base.")],
    tables: Annotated[Path, typer.Option("--data", help="Canonical tables.")],
    config: SplitOption = None,
    report: ReportOption = None,
    metric: MetricOption = None,
    batch_size: BatchOption = 1024,
) -> None:
    """Compares exported models on the same users, with paired intervals."""
    with told():
        if len({f.resolve() for f in folders}) < 2:
            raise ValueError(
                f"compare takes two SavedModels or more; got {', '.join(map(str, folders))}; "
                f"'tfrec evaluate' measures one"
            )
        short = len({f.name for f in folders}) == len(folders)
        named = {f.name if short else str(f): f for f in folders}
        evaluations, on = _measure(named, tables, config, metric, batch_size)
        _report(evaluations, on, report, metric)
        _print_comparisons(evaluations, metric or ["recall@10", "ndcg@10"])


def _report(evaluations: Any, on: Any, report: Path | None, metrics: list[str] | None) -> None:
    from tfrec.evaluation.report import print_table, write_html

    print_table(evaluations, metrics)
    if report is not None:
        page = write_html(
            evaluations,
            report,
            data=on.data,
            metrics=metrics,
            features=on.groups("user"),
            user_words=on.words,
            item_features=on.groups("item"),
            item_words=on.words,
        )
        out.print(f"wrote {page}", soft_wrap=True)


def _print_comparisons(evaluations: Any, metrics: list[str]) -> None:
    from tfrec.evaluation.bootstrap import compare as compare_pair

    base, *others = evaluations
    table = Table("model", "against", "metric", "difference", "95% interval", "p")
    for name in others:
        for metric in metrics:
            found = compare_pair(evaluations[base], evaluations[name], metric)
            low, high = found.difference.low, found.difference.high
            table.add_row(
                name,
                base,
                metric,
                f"{found.difference.mean:+.4f}",
                f"{low:+.4f} .. {high:+.4f}",
                f"{found.p:.3f}",
            )
    out.print(table)


@app.command()
def doctor(
    config: ConfigFile,
    model: Annotated[Path | None, typer.Option("--model", "-m")] = None,
    work: Annotated[Path | None, typer.Option(help="Where tables are kept; pipeline.root.")] = None,
) -> None:
    """Looks for the usual illnesses of data and lists; each finding names its cure."""
    with told():
        start_tensorflow()
        from tfrec.export.checkup import checkup

        findings = checkup(load(config), model, work)
        table = Table("check", "", "found", "cure")
        colours = {"ok": "green", "warning": "yellow", "critical": "red"}
        for f in findings:
            colour = colours[f.severity]
            table.add_row(f.check, f"[{colour}]{f.severity}[/{colour}]", f.found, f.cure)
        out.print(table)
        if any(f.severity == "critical" for f in findings):
            raise typer.Exit(3)


@app.command()
def demo(
    config: Annotated[Path, typer.Option("--config", "-c")] = Path("configs/sample.yaml"),
) -> None:
    """Pipeline on the bundled sample, server, a real gRPC query, printed recommendations."""
    with told():
        loaded = load(config)
        err.print("loading TFX (10 to 30 seconds)")
        start_tensorflow()
        from pipelines.demo import run_demo

        run_demo(loaded, say=say, show=_print_list, report=_print_report)


def main() -> None:
    """Entry point of the command."""
    app()
