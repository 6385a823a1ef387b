"""Versions over time, with loads that the test controls; no TensorFlow graph is involved."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from serving.config import ModelConfig, VersionPolicy
from serving.errors import Code, ServingError
from serving.manager import Manager, ManagerSettings
from serving.servable import State


class Runner:
    """Stands for a loaded graph."""

    signatures: Mapping[str, Any] = MappingProxyType({})
    signature_defs: Mapping[str, Any] = MappingProxyType({})

    def __init__(self) -> None:
        self.closed = threading.Event()

    def run(self, *args: Any) -> list[Any]:
        return []

    def close(self) -> None:
        self.closed.set()


class Disk:
    """A base path and loads that fail or hang on command."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bad: set[int] = set()
        self.gates: dict[int, threading.Event] = {}
        self.runners: dict[int, Runner] = {}
        self.attempts: list[int] = []

    def add(self, version: int, complete: bool = True, name: str | None = None) -> Path:
        folder = self.root / (name or str(version))
        folder.mkdir(parents=True, exist_ok=True)
        if complete:
            (folder / "saved_model.pb").write_bytes(b"graph")
        return folder

    def load(self, name: str, version: int, path: Path) -> Runner:
        self.attempts.append(version)
        if version in self.gates:
            assert self.gates[version].wait(10)
        if version in self.bad:
            raise ValueError("broken graph")
        self.runners[version] = Runner()
        return self.runners[version]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "m")


@pytest.fixture
def start(disk: Disk) -> Iterator[Callable[..., Manager]]:
    """Starts managers on the disk and stops them afterwards."""
    started: list[Manager] = []

    def make(policy: VersionPolicy | None = None, **settings: Any) -> Manager:
        settings = {"poll_s": 0.02, "load_retry_s": 60.0, **settings}
        made = Manager(disk.load, ManagerSettings(**settings))
        made.start([config(disk, policy)])
        started.append(made)
        return made

    yield make
    for gate in disk.gates.values():
        gate.set()
    for manager in started:
        manager.stop(drain_s=0)


def config(
    disk: Disk, policy: VersionPolicy | None = None, labels: dict[str, int] | None = None
) -> ModelConfig:
    return ModelConfig("m", str(disk.root), policy or VersionPolicy(), labels or {})


def eventually(manager: Manager, version: int, state: State) -> Any:
    """Waits until a version is in a state; its record."""

    def found() -> Any:
        known = [v for v in manager.all_versions() if v.number == version and v.state is state]
        return known[0] if known else None

    with manager._changed:
        assert manager._changed.wait_for(found, 10), manager.all_versions()
        return found()


def code(call: Callable[[], Any]) -> Code:
    with pytest.raises(ServingError) as caught:
        call()
    return caught.value.code


def lent(manager: Manager, **which: Any) -> int:
    with manager.borrow("m", **which) as servable:
        return servable.version


def test_the_latest_is_served_and_names_are_integers(disk: Disk, start: Any) -> None:
    disk.add(3)
    disk.add(20, name="00000020")
    disk.add(100, name="100-tmp")
    (disk.root / "notes").mkdir()
    manager = start()
    assert manager.wait_until_available("m", timeout_s=10) == 20
    assert lent(manager) == 20
    assert code(lambda: lent(manager, version=3)) is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        (VersionPolicy(latest=2), [2, 3]),
        (VersionPolicy(all=True), [1, 2, 3]),
        (VersionPolicy(specific=(1, 3, 9)), [1, 3]),
    ],
)
def test_policies(disk: Disk, start: Any, policy: VersionPolicy, served: list[int]) -> None:
    for version in (1, 2, 3):
        disk.add(version)
    manager = start(policy)
    for version in served:
        manager.wait_until_available("m", version, timeout_s=10)
    assert manager.available() == {"m": served}


def test_the_new_version_loads_before_the_old_one_goes(disk: Disk, start: Any) -> None:
    disk.add(1)
    manager = start()
    manager.wait_until_available("m", timeout_s=10)
    disk.gates[2] = threading.Event()
    disk.add(2)
    eventually(manager, 2, State.LOADING)
    assert lent(manager) == 1  # still
    disk.gates[2].set()
    manager.wait_until_available("m", 2, timeout_s=10)
    eventually(manager, 1, State.END)
    assert disk.runners[1].closed.is_set()
    assert [v.number for v in manager.status("m")] == [2, 1]  # END stays listed
    assert lent(manager) == 2


def test_a_borrowed_version_is_not_unloaded(disk: Disk, start: Any) -> None:
    disk.add(1)
    manager = start()
    manager.wait_until_available("m", timeout_s=10)
    with manager.borrow("m") as servable:
        disk.add(2)
        eventually(manager, 1, State.UNLOADING)
        assert servable.version == 1
        assert not disk.runners[1].closed.is_set()
        assert lent(manager) == 2  # others already get the new one
        assert code(lambda: lent(manager, version=1)) is Code.NOT_FOUND
    eventually(manager, 1, State.END)
    assert disk.runners[1].closed.is_set()


def test_a_broken_version_leaves_the_old_one_in_service(disk: Disk, start: Any) -> None:
    disk.add(1)
    disk.bad.add(2)
    manager = start()
    manager.wait_until_available("m", timeout_s=10)
    disk.add(2)
    record = eventually(manager, 2, State.END)
    assert "broken graph" in record.error.message
    assert lent(manager) == 1
    disk.bad.clear()
    (disk.root / "2" / "more").write_bytes(b"x")  # the directory changed: tried again at once
    manager.wait_until_available("m", 2, timeout_s=10)
    assert manager.status("m", 2)[0].error is None
    eventually(manager, 1, State.END)


def test_retries_are_counted(disk: Disk, start: Any) -> None:
    disk.add(1)
    disk.bad.add(1)
    manager = start(max_load_retries=2, load_retry_s=0.0)
    with manager._changed:
        assert manager._changed.wait_for(lambda: len(disk.attempts) == 3, 10)
        assert not manager._changed.wait_for(lambda: len(disk.attempts) > 3, 0.2)
    assert manager.status("m")[0].state is State.END


def test_a_half_copied_version_is_waited_for(disk: Disk, start: Any) -> None:
    disk.add(1)
    manager = start()
    manager.wait_until_available("m", timeout_s=10)
    disk.add(2, complete=False)
    record = eventually(manager, 2, State.START)
    assert record.note == "waiting for saved_model.pb"
    assert lent(manager) == 1
    assert disk.attempts == [1]
    disk.add(2)
    manager.wait_until_available("m", 2, timeout_s=10)


def test_a_base_path_that_vanishes_unloads_nothing(disk: Disk, start: Any) -> None:
    disk.add(1)
    manager = start()
    manager.wait_until_available("m", timeout_s=10)
    away = disk.root.with_name("away")
    disk.root.rename(away)
    with manager._changed:
        manager._changed.wait_for(lambda: False, 0.2)  # several looks
    assert lent(manager) == 1
    away.rename(disk.root)
    disk.add(2)
    manager.wait_until_available("m", 2, timeout_s=10)


def test_a_rollback_by_config_and_back(disk: Disk, start: Any) -> None:
    disk.add(1)
    disk.add(2)
    manager = start()
    manager.wait_until_available("m", 2, timeout_s=10)
    for wanted in (1, 2, 1):
        generation = manager.apply([config(disk, VersionPolicy(specific=(wanted,)))])
        manager.wait_for_config(generation, 10)
        assert lent(manager) == wanted
        eventually(manager, 3 - wanted, State.END)


def test_a_config_without_the_model_unloads_it(disk: Disk, start: Any) -> None:
    disk.add(1)
    manager = start()
    manager.wait_until_available("m", timeout_s=10)
    manager.wait_for_config(manager.apply([]), 10)
    eventually(manager, 1, State.END)
    assert code(lambda: lent(manager)) is Code.NOT_FOUND
    manager.wait_for_config(manager.apply([config(disk)]), 10)
    assert lent(manager) == 1


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (lambda disk: disk.bad.add(1) or disk.add(1), "version: 1} due to error: UNKNOWN: broken"),
        (lambda disk: None, "Could not find base path"),
        (lambda disk: disk.add(1, complete=False), "waiting for saved_model.pb"),
        (lambda disk: disk.root.mkdir(), "No wanted version under base path"),
    ],
)
def test_waiting_for_a_config_says_what_is_missing(
    disk: Disk, start: Any, prepare: Any, text: str
) -> None:
    prepare(disk)
    manager = start()
    with pytest.raises(ServingError) as caught:
        manager.wait_for_config(1, 10)
    assert caught.value.code is Code.UNKNOWN
    assert caught.value.message.startswith("1 servable(s) did not become available: {{{name: m")
    assert text in caught.value.message
    with pytest.raises(TimeoutError, match="m is not available after"):
        manager.wait_until_available("m", timeout_s=0.05)


def test_labels(disk: Disk, start: Any) -> None:
    disk.add(1)
    disk.add(2)
    both = VersionPolicy(all=True)
    manager = start(both)
    for version in (1, 2):
        manager.wait_until_available("m", version, timeout_s=10)
    manager.apply([config(disk, both, {"stable": 1, "canary": 2})])
    assert (lent(manager, label="stable"), lent(manager, label="canary")) == (1, 2)
    with pytest.raises(ServingError, match="Request to assign label to version 3 of model m") as e:
        manager.apply([config(disk, both, {"canary": 3})])
    assert e.value.code is Code.FAILED_PRECONDITION
    assert lent(manager, label="stable") == 1  # the old config stays in force
    manager.apply([config(disk, both, {"stable": 2})])
    assert lent(manager, label="stable") == 2
    with pytest.raises(ServingError, match="Unrecognized servable version label: canary"):
        lent(manager, label="canary")


def test_labels_for_versions_not_yet_loaded(disk: Disk, start: Any) -> None:
    disk.add(1)
    manager = start(allow_labels_for_unavailable=True)
    manager.wait_until_available("m", timeout_s=10)
    manager.apply([config(disk, None, {"next": 2, "now": 1})])
    assert code(lambda: lent(manager, label="next")) is Code.NOT_FOUND
    with pytest.raises(ServingError, match="not currently available"):
        manager.apply([config(disk, None, {"now": 2})])  # a label in use may not move there


def test_no_polling(disk: Disk, start: Any) -> None:
    disk.add(1)
    manager = start(poll_s=0)
    manager.wait_until_available("m", timeout_s=10)
    disk.add(2)
    with pytest.raises(TimeoutError):
        manager.wait_until_available("m", 2, timeout_s=0.2)
    manager.wait_for_config(manager.apply([config(disk)]), 10)  # a reload looks again
    assert lent(manager) == 2
