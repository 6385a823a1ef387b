"""``tfrec explore``: the explorer page over one or two models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tfrec.cli.common import load, say, told

Models = Annotated[
    list[Path] | None,
    typer.Option("--model", "-m", help="SavedModel, or its versions; twice to compare."),
]
Names = Annotated[
    list[str] | None,
    typer.Option("--name", help="Served model, NAME or NAME@VERSION; twice to compare."),
]


def explore(
    tables: Annotated[Path, typer.Option("--data", help="Canonical tables.")],
    models: Models = None,
    address: Annotated[
        str | None, typer.Option("--address", "-a", help="host:port (gRPC) of a running server.")
    ] = None,
    names: Names = None,
    similar: Annotated[
        Path | None, typer.Option(help="Retrieval model for the page of an item, if others cannot.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any.")] = 8090,
    host: Annotated[str, typer.Option(help="127.0.0.1: this machine alone.")] = "127.0.0.1",
    image: Annotated[str | None, typer.Option(help="Item column of images.")] = None,
    price: Annotated[str | None, typer.Option(help="Item column of the price.")] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Of the model: where the sliders begin."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for one call of a server.")] = 5.0,
) -> None:
    """A page to see whom a model shows what, and why; compares two models or versions."""
    with told():
        if (address is None) == (not models) or (address is None and names):
            raise ValueError(
                "either --model FOLDER (once or twice), or --address HOST:PORT with --name NAME "
                f"(once or twice); got model={[str(m) for m in models or []]}, "
                f"address={address}, name={names or []}"
            )
        from tfrec.explore.explorer import Explorer
        from tfrec.explore.shop import Shop

        try:
            from tfrec.explore.server import address_of, bind, is_loopback, make_server
        except ModuleNotFoundError as error:
            raise ValueError(f"the page needs {error.name}: pip install 'tfrec[explore]'") from None
        defaults: dict[str, float] = {}
        if config:
            loaded = load(config)
            defaults = {f"weight_{goal}": w for goal, w in loaded.utility.weights.items()}
            defaults["trade_off"] = loaded.rerank.trade_off
        sources = (
            [_saved(folder) for folder in models or []]
            if address is None
            else [ServedSource(address, name, timeout) for name in names or ["recommender"]]
        )
        alike = _saved(similar) if similar else None
        explorer = Explorer(sources, Shop(tables, image, price), defaults, alike)
        taken = bind(host, port)
        say(f"explorer: {address_of(taken)}  (Ctrl-C ends it)")
        if is_loopback(host):
            say("Only this machine can open it. It loads and sends nothing elsewhere.")
        else:
            say(f"Careful: whoever reaches {host} sees users and their histories; no password.")
        make_server(explorer, host).run(sockets=[taken])


def _saved(folder: Path) -> Any:
    from tfrec.explore.source import SavedModelSource

    return SavedModelSource(folder)


class ServedSource:
    """A model of a running server; see ``tfrec.explore.source.Source``.

    Args:
        address: ``host:port`` of gRPC.
        name: the served model's, with ``@VERSION`` for a fixed version.
        timeout: seconds for one call.

    Raises:
        ValueError: a version that is no number, or a server that does not answer.
    """

    def __init__(self, address: str, name: str, timeout: float) -> None:
        from serving.client import Client, ServingError

        model, at, version = name.partition("@")
        if at and not version.isdigit():
            raise ValueError(f"--name is NAME or NAME@VERSION with a whole number; got {name!r}")
        self.label = name
        self._client = Client(address, model, version=int(version) if at else None, timeout=timeout)
        try:
            self.signatures: Mapping[str, Any] = self._client.metadata().signatures
        except ServingError as error:
            raise ValueError(f"{address}: {error}") from None

    def ask(self, signature: str, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        from serving.client import ServingError
        from serving.client.errors import DeadlineExceededError, UnavailableError

        try:
            return self._client.predict(inputs, signature)
        except (UnavailableError, DeadlineExceededError) as error:
            raise ConnectionError(f"{self.label}: {error}") from None
        except ServingError as error:
            raise ValueError(f"{self.label}: {error}") from None
