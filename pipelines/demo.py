"""``make demo``: the pipeline on the sample, a server on what it pushed, a real gRPC query."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines import local
from serving.client import Client
from serving.options import Options
from serving.server import Server
from tfrec.config import Config
from tfrec.data.prepare import prepare
from tfrec.export.ask import Answer, UserFacts, example_users, recommend_rows

USERS = 3
UNKNOWN_USER = "somebody-new"
LIST = 5
WAIT_S = 120


class DemoError(RuntimeError):
    """The pipeline pushed no retrieval model, so there is nothing to serve."""


def run_demo(
    config: Config,
    say: Callable[[str], None],
    show: Callable[[Answer], None],
    report: Callable[[local.RunReport], None],
) -> None:
    """Runs all of it; nothing is left running.

    Args:
        config: the sample's.
        say: is given progress lines.
        show: is given each user's list.
        report: is given the pipeline's report.

    Raises:
        DemoError: see the class.
    """
    root = Path(config.pipeline.root)
    say(f"1 of 3: the pipeline, below {root} (a second run takes it from the cache)")
    run = local.run(config, say=say)
    report(run)
    serving = Path(config.pipeline.serving or root / "serving")
    model = serving / "retrieval"
    if not any(p.name.isdigit() for p in model.glob("*")):
        raise DemoError(f"no retrieval model was pushed to {model}: {run.refused}")
    say(f"2 of 3: a server on {model}")
    options = Options(port=0, model_name="retrieval", model_base_path=str(model))
    facts = UserFacts.open(_tables(config, root))
    with Server(options) as server:
        server.wait_until_available("retrieval", timeout=WAIT_S)
        say(f"3 of 3: gRPC queries to {server.grpc_address}")
        with Client(server.grpc_address, "retrieval", timeout=30) as client:
            users = [*example_users(facts, USERS), UNKNOWN_USER]
            seen = config.gate.exclude_seen
            for answer in recommend_rows(client, users, LIST, facts, configured=seen):
                show(answer)


def _tables(config: Config, root: Path) -> Path:
    """Canonical tables of the sample, for histories and titles."""
    folder = root / "tables"
    prepare(config, folder)
    return folder
