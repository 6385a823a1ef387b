"""A reload reaches every process that answers on the port, or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorflow_serving.apis import model_management_pb2

from serving.calls import Calls
from serving.errors import Code, ServingError
from serving.metrics import Metrics
from serving.peers import Peers


class Others(Peers):
    """Processes that are told, and how they answer."""

    def __init__(self, error: ServingError | None = None) -> None:
        super().__init__()
        self.error = error
        self.told: list[Any] = []

    def reload(self, request: Any, timeout_s: float | None) -> Callable[[], None]:
        self.told.append(request)

        def wait() -> None:
            if self.error is not None:
                raise self.error

        return wait


class Here:
    """A manager that refuses a config, or takes it and cannot load a model of it."""

    def __init__(self, refuses: bool = False, fails: bool = False) -> None:
        self.refuses, self.fails, self.waited = refuses, fails, 0

    def apply(self, models: Any) -> int:
        if self.refuses:
            raise ServingError(Code.FAILED_PRECONDITION, "label on nothing")
        return 7

    def wait_for_config(self, generation: int, timeout_s: float | None) -> None:
        assert generation == 7
        self.waited += 1
        if self.fails:
            raise ServingError(Code.UNKNOWN, "1 servable(s) did not become available")


def reload(here: Here, others: Others, base: Path) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    model = request.config.model_config_list.config.add()
    model.name, model.base_path, model.model_platform = "m", str(base), "tensorflow"
    Calls(here, Metrics(), others).handle_reload_config_request(request)  # type: ignore[arg-type]


def test_a_config_that_is_taken_reaches_all_though_a_model_fails(tmp_path: Path) -> None:
    here, others = Here(fails=True), Others()
    with pytest.raises(ServingError, match="did not become available"):
        reload(here, others, tmp_path)
    assert len(others.told) == 1


def test_another_processs_refusal_is_told_when_all_are_settled(tmp_path: Path) -> None:
    here, others = Here(), Others(ServingError(Code.UNAVAILABLE, "another process: gone"))
    with pytest.raises(ServingError, match="another process: gone"):
        reload(here, others, tmp_path)
    assert here.waited == 1


def test_a_config_that_is_refused_goes_nowhere(tmp_path: Path) -> None:
    others = Others()
    with pytest.raises(ServingError, match="label on nothing"):
        reload(Here(refuses=True), others, tmp_path)
    assert others.told == []


def test_who_does_not_answer_is_unavailable_and_keeps_nobody_else_from_being_told(
    tmp_path: Path,
) -> None:
    peers = Peers(others=[str(tmp_path / "nobody.sock"), str(tmp_path / "nobody else.sock")])
    wait = peers.reload(model_management_pb2.ReloadConfigRequest(), 5.0)
    with pytest.raises(ServingError, match="another process") as caught:
        wait()
    assert caught.value.code is Code.UNAVAILABLE
