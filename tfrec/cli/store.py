"""``tfrec store``: filling the feature store and looking into it."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tfrec.cli.common import ConfigFile, load, out, say, told

store_app = typer.Typer(no_args_is_help=True, help="The feature store.")
Vectors = Annotated[Path | None, typer.Option(help="Parquet: ids and vectors.")]


@store_app.command("load")
def store_load(
    config: ConfigFile,
    tables: Annotated[Path, typer.Option("--data", help="Canonical tables.")],
    version: Annotated[str | None, typer.Option(help="Its name; the time by default.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a load that was killed.")] = False,
    restart: Annotated[bool, typer.Option(help="Start a load that was killed over.")] = False,
    user_vectors: Vectors = None,
    item_vectors: Vectors = None,
) -> None:
    """Loads canonical tables as a new version and makes it live, all or nothing."""
    with told():
        from tfrec.store.tables import load_tables

        if (resume or restart) and (version is None or (resume and restart)):
            raise ValueError("one of --resume and --restart, with the --version that was begun")
        settings = load(config).store
        name = version or dt.datetime.now(dt.timezone.utc).strftime("%Y%m%d-%H%M%S")
        store = _open(settings)
        try:
            counts = load_tables(
                store,
                tables,
                name,
                user_vectors=user_vectors,
                item_vectors=item_vectors,
                history_length=settings.history_length,
                mode="resume" if resume else "restart" if restart else "new",
                say=say,
            )
        except ConnectionError as error:
            hint = f"go on with: --version {name} --resume"
            raise ValueError(f"{error}; {hint}") from None
        finally:
            store.close()
        out.print_json(json.dumps({"version": name, "rows": counts}))


@store_app.command("status")
def store_status(config: ConfigFile) -> None:
    """Live versions, their columns and rows, and loads that were begun and not ended."""
    with told():
        store = _open(load(config).store)
        try:
            status = store.status()
        except ConnectionError as error:
            raise ValueError(str(error)) from None
        finally:
            store.close()
        out.print(status.place, highlight=False, soft_wrap=True)
        table = Table("namespace", "version", "rows", "columns")
        for namespace, name in status.live.items():
            columns = ", ".join(f"{c.name} {c.kind}" for c in status.columns[namespace])
            rows = (status.rows or {}).get(namespace)
            table.add_row(namespace, name, "" if rows is None else f"{rows:,}", columns)
        out.print(table)
        for name, namespaces in status.loading.items():
            out.print(f"loading, or killed meanwhile: {name} ({', '.join(namespaces)})")


@store_app.command("get")
def store_get(
    config: ConfigFile,
    namespace: Annotated[str, typer.Argument(help="users, items, histories ...")],
    keys: Annotated[list[str], typer.Argument(help="Ids.")],
) -> None:
    """Prints rows as JSON, one a line; null for an id that has none."""
    with told():
        store = _open(load(config).store)
        try:
            rows = store.get_many(namespace, keys)
        except ConnectionError as error:
            raise ValueError(str(error)) from None
        finally:
            store.close()
        for i, key in enumerate(keys):
            found = {n: _plain(c[i].as_py()) for n, c in rows.columns.items()}
            row = found if rows.found[i] else None
            line = json.dumps({key: row}, ensure_ascii=False)
            out.print(line, highlight=False, soft_wrap=True, markup=False)


def _plain(value: Any) -> Any:
    """As JSON knows it: a number that is not known is null."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _open(settings: Any) -> Any:
    from tfrec.store import open_store

    return open_store(settings)


FLAGS = ("store", "store_config", "store_k", "store_timeout_ms", "store_namespace")


def server_flags(arguments: Sequence[str]) -> list[str]:
    """Arguments of ``tfrec serve`` with ``--store`` and its companions as the server's own flags.

    ``--store=PATH|URL`` or ``--store_config=CONFIG.yaml`` (its section ``store``) names the store;
    ``--store_timeout_ms``, ``--store_namespace`` and ``--store_k`` (list length where a request
    does not say) change what differs from the defaults.

    Raises:
        ValueError: a flag without its value, or a companion without a store.
    """
    given, rest = {}, []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in FLAGS:
            rest.append(word)
            continue
        found = value if equals else next(words, None)
        if not found:
            raise ValueError(f"--{name} takes a value, as --{name}=VALUE; got none")
        given[name] = found
    if not given:
        return rest
    if ("store" in given) == ("store_config" in given):
        raise ValueError(f"exactly one of --store and --store_config; got {sorted(given)}")
    from tfrec.config import StoreConfig

    loaded: Any = None
    changes: dict[str, Any] = {}
    for flag, field in (("store_timeout_ms", "timeout_ms"), ("store_namespace", "namespace")):
        if flag in given:
            changes[field] = given[flag]
    if "store" in given:
        settings = StoreConfig.at(given["store"], **changes)
    else:
        loaded = load(Path(given["store_config"]))
        settings = StoreConfig.model_validate({**loaded.store.model_dump(), **changes})
    options: dict[str, Any] = {"store": settings.model_dump()}
    if loaded is not None and not loaded.gate.exclude_seen:
        options["exclude_history"] = False  # buying again is what is predicted
    if "store_k" in given:
        options["k"] = int(given["store_k"])
    filler = "tfrec.store.front:open_filler"
    return [*rest, f"--input_filler={filler}", f"--input_filler_options={json.dumps(options)}"]
