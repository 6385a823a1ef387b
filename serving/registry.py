"""The versions a server knows, as requests see them: borrowing, labels, status, waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from serving.config import ModelConfig
from serving.errors import missing_name, no_versions, servable_not_found, unknown_label
from serving.servable import Servable, State, Version


class Registry:
    """What is served now. :class:`~serving.manager.Manager` changes it; requests read it."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._models: dict[str, ModelConfig] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._stopping = False

    @contextmanager
    def borrow(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> Iterator[Servable]:
        """Lends a version for one request; it is not unloaded meanwhile.

        Args:
            name: model.
            version: its number; None for the largest available one.
            label: instead of a number.

        Raises:
            ServingError: INVALID_ARGUMENT for an empty name or an unknown label, NOT_FOUND for a
                model or version that is not available.
        """
        record = self.take(name, version, label)
        try:
            assert record.servable is not None
            yield record.servable
        finally:
            self.give_back(record)

    def give_back(self, record: Version) -> None:
        """Ends what :meth:`take` began."""
        with self._changed:
            record.in_flight -= 1
            if not record.in_flight and record.state is State.UNLOADING:
                self._changed.notify_all()

    def take(self, name: str, version: int | None = None, label: str | None = None) -> Version:
        """:meth:`borrow` without the context manager, for the path every request takes."""
        if not name:
            raise missing_name()
        with self._changed:
            if label is not None:
                version = self.resolve_label(name, label)
            known = self._versions.get(name, {})
            if version is None:
                ready = [v for v in known.values() if v.state is State.AVAILABLE]
                record = max(ready, key=lambda v: v.number, default=None)
            else:
                record = known.get(version)
            if record is None or record.state is not State.AVAILABLE:
                raise servable_not_found(name, version)
            record.in_flight += 1
            return record

    def resolve_label(self, name: str, label: str) -> int:
        """Version a label stands for, loaded or not.

        Raises:
            ServingError: INVALID_ARGUMENT for an unknown one.
        """
        with self._changed:
            model = self._models.get(name)
            if model is None or label not in model.labels:
                raise unknown_label(label)
            return model.labels[label]

    def status(self, name: str, version: int | None = None) -> list[Version]:
        """Records of a model's versions, newest first.

        Raises:
            ServingError: NOT_FOUND where there is none.
        """
        with self._changed:
            known = self._versions.get(name, {})
            found = [v for v in known.values() if version is None or v.number == version]
        if not found:
            raise no_versions(name, version)
        return sorted(found, key=lambda v: -v.number)

    def all_versions(self) -> list[Version]:
        """Records of every version of every model."""
        with self._changed:
            return [version for known in self._versions.values() for version in known.values()]

    def available(self) -> dict[str, list[int]]:
        """Model name to its available versions, ascending."""
        with self._changed:
            return {
                name: sorted(v.number for v in known.values() if v.state is State.AVAILABLE)
                for name, known in self._versions.items()
            }

    def wait_until_available(
        self, name: str, version: int | None = None, timeout_s: float | None = None
    ) -> int:
        """Waits for a version, or for any.

        Returns:
            The version that is available.

        Raises:
            TimeoutError: with what the status says by then.
        """

        def found() -> list[int]:
            ready = self.available().get(name, [])
            return [number for number in ready if version in (None, number)]

        with self._changed:
            if not self._changed.wait_for(lambda: found() or self._stopping, timeout_s):
                known = self._versions.get(name, {}).values()
                says = [
                    f"version {v.number}: {v.state.name} {v.error or v.note}".rstrip()
                    for v in known
                ]
                raise TimeoutError(
                    f"model {name} is not available after {timeout_s} s; "
                    f"{'; '.join(says) or 'no version was found'}"
                )
            ready = found()
        if not ready:
            raise TimeoutError(f"the server stopped before model {name} was available")
        return ready[-1]
