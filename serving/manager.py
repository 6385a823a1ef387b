"""Versions over time: which are wanted, loading, serving, draining; and why one is not.

One thread compares the disk with the config and starts loads. A new version is loaded and warmed up
before the old one goes; a version goes when the last request that borrowed it has returned.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from serving import versions
from serving.config import ModelConfig
from serving.errors import Code, ServingError, failed_precondition
from serving.memory import give_back
from serving.registry import Registry
from serving.servable import Runner, Servable, State, Version

log = logging.getLogger("serving")
Loader = Callable[[str, int, Path], Runner]
"""``load(name, version, path)`` -> a warmed-up runner; raises if it cannot be served."""


@dataclass(frozen=True)
class ManagerSettings:
    """How the manager polls and retries.

    Attributes:
        poll_s: seconds between looks at the disk; 0 looks once, below 0 never again after that.
        load_threads: versions loaded at the same time.
        max_load_retries: further attempts after the first one.
        load_retry_s: seconds between them; a directory that changed is tried again at once.
        allow_labels_for_unavailable: whether a new label may name a version not yet loaded.
    """

    poll_s: float = 1.0
    load_threads: int = 2
    max_load_retries: int = 5
    load_retry_s: float = 60.0
    allow_labels_for_unavailable: bool = False


@dataclass
class _Disk:
    """What one look at the disk found."""

    listed: dict[str, dict[int, Path]] = field(default_factory=dict)  # model -> versions
    complete: set[Path] = field(default_factory=set)  # wanted ones that have their graph file
    prints: dict[Path, versions.Fingerprint] = field(default_factory=dict)  # of failed ones


class Manager(Registry):
    """Keeps the served versions in step with the config and the disk.

    Args:
        load: makes a version ready, warm-up included; runs on a loading thread.
        settings: see :class:`ManagerSettings`.
    """

    def __init__(self, load: Loader, settings: ManagerSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or ManagerSettings()
        self._load = load
        self._listed: dict[str, dict[int, Path]] = {}  # last listing; absent until there was one
        self._wanted: dict[str, list[int]] = {}
        self._generation = 0
        self._scanned = 0  # config generation that the last look at the disk belongs to
        self._kick = threading.Event()
        self._pool = ThreadPoolExecutor(self.settings.load_threads, "serving-load")
        self._thread = threading.Thread(target=self._watch, name="serving-manager", daemon=True)

    def start(self, models: Sequence[ModelConfig]) -> None:
        """Takes the first config and starts looking at the disk.

        Raises:
            ServingError: FAILED_PRECONDITION for a label on a version not loaded, which at the
                start is every label, unless the settings allow it.
        """
        self.apply(models)
        self._thread.start()

    def apply(self, models: Sequence[ModelConfig]) -> int:
        """Replaces the whole config; what it omits is unloaded. An error leaves the old in force.

        Returns:
            The config's generation, for :meth:`wait_for_config`.

        Raises:
            ServingError: FAILED_PRECONDITION for a label on a version that is not available.
        """
        with self._changed:
            for model in models:
                self._check_labels(model)
            self._models = {model.name: model for model in models}
            self._generation += 1
            generation = self._generation
        self._kick.set()
        return generation

    def _check_labels(self, model: ModelConfig) -> None:
        known = self._models.get(model.name)
        for label, number in model.labels.items():
            moved = known is not None and known.labels.get(label, number) != number
            if self.settings.allow_labels_for_unavailable and not moved:
                continue
            version = self._versions.get(model.name, {}).get(number)
            if version is None or version.state is not State.AVAILABLE:
                raise failed_precondition(
                    f"Request to assign label to version {number} of model {model.name}, "
                    "which is not currently available for inference"
                )

    def wait_for_config(self, generation: int, timeout_s: float | None) -> None:
        """Waits until all that this config wants is available or failed, and the rest is gone.

        Raises:
            ServingError: UNKNOWN naming each model that ended up with nothing to serve and why;
                DEADLINE_EXCEEDED if loading takes longer than ``timeout_s``.
        """

        def settled() -> bool:
            if self._stopping or self._generation > generation:
                return True
            if self._scanned < generation:
                return False
            loading = any(
                version.pending and not version.note
                for name in self._models
                for version in self._wanted_versions(name)
            )
            return not loading and not any(map(self._is_leaving, self.all_versions()))

        with self._changed:
            if not self._changed.wait_for(settled, timeout_s):
                raise ServingError(Code.DEADLINE_EXCEEDED, "models are still loading")
            failures = [text for name in self._models if (text := self._why_absent(name))]
        if failures:
            raise ServingError(
                Code.UNKNOWN,
                f"{len(failures)} servable(s) did not become available: {{{', '.join(failures)}}}",
            )

    def _is_leaving(self, version: Version) -> bool:
        """Whether a version still answers though the config has replaced or removed it."""
        if version.state is not State.AVAILABLE:
            return False
        if version.name not in self._models:
            return True
        wanted = self._wanted_versions(version.name)
        if any(v is version or v.pending for v in wanted):
            return False  # wanted, or kept until what replaces it is there
        return not wanted or any(v.state is State.AVAILABLE for v in wanted)

    def _wanted_versions(self, name: str) -> list[Version]:
        known = self._versions.get(name, {})
        return [known[number] for number in self._wanted.get(name, []) if number in known]

    def _why_absent(self, name: str) -> str:
        """Why nothing of a model is available; empty where something is."""
        known = self._versions.get(name, {}).values()
        if any(version.state is State.AVAILABLE for version in known):
            return ""
        for version in self._wanted_versions(name):
            reason = version.error or version.note
            if reason:
                return f"{{{{name: {name} version: {version.number}}} due to error: {reason}}}"
        base = self._models[name].base_path
        if name not in self._listed:
            return f"{{{{name: {name}}} due to error: Could not find base path {base}}}"
        return f"{{{{name: {name}}} due to error: No wanted version under base path {base}}}"

    def _watch(self) -> None:
        while not self._stopping:
            try:
                self._look()
            except Exception:
                log.exception("looking for model versions failed; trying again")
            poll_s = self.settings.poll_s
            self._kick.wait(poll_s if poll_s > 0 else None)
            self._kick.clear()

    def _look(self) -> None:
        """One comparison of disk and config; the disk is read without holding up requests."""
        with self._changed:
            models, generation = dict(self._models), self._generation
            failed = [version for version in self.all_versions() if version.failed]
        scan = self.settings.poll_s > 0 or self._scanned < generation
        disk = _Disk()
        for name, model in models.items():
            found = versions.list_versions(model.base_path) if scan else None
            if found is not None:
                disk.listed[name] = found
            paths = self._listed.get(name, {}) if found is None else found
            wanted = [paths[number] for number in model.policy.choose([*paths])]
            disk.complete.update(path for path in wanted if versions.is_complete(path))
        for version in failed:
            disk.prints[version.path] = versions.fingerprint(version.path)
        with self._changed:
            if generation != self._generation:
                return  # the config changed meanwhile; its kick brings us back
            for model in models.values():
                self._adopt(model, disk.listed.get(model.name))
            self._scanned = generation
            for name in list(self._versions):
                self._advance(name, disk)
            self._changed.notify_all()

    def _adopt(self, model: ModelConfig, listed: dict[int, Path] | None) -> None:
        """Notes what a model wants; a base path that cannot be listed changes nothing."""
        if listed is not None:
            if model.name not in self._listed:
                log.info("model %s: versions %s in %s", model.name, [*listed], model.base_path)
            self._listed[model.name] = listed
        paths = self._listed.get(model.name, {})
        known = self._versions.setdefault(model.name, {})
        wanted = self._wanted[model.name] = model.policy.choose([*paths])
        for number in wanted:
            old = known.get(number)
            ended = old is not None and old.state is State.END
            if old is None or (ended and (old.error is None or old.path != paths[number])):
                known[number] = Version(model.name, number, paths[number])

    def _advance(self, name: str, disk: _Disk) -> None:
        """Starts the loads and unloads that are due for one model."""
        removed = name not in self._models
        if removed:
            self._wanted.pop(name, None)
            self._listed.pop(name, None)
        wanted = set(self._wanted.get(name, []))
        known = self._versions[name]
        for version in known.values():
            if version.number in wanted:
                self._load_if_due(version, disk)
        covered = not wanted or any(known[number].state is State.AVAILABLE for number in wanted)
        waiting = any(known[number].pending for number in wanted)
        for version in known.values():
            if version.number in wanted or (not removed and (waiting or not covered)):
                continue
            if version.state is State.AVAILABLE:
                version.state = State.UNLOADING
                threading.Thread(
                    target=self._unload, args=(version,), name="serving-unload", daemon=True
                ).start()
            elif version.state is State.START or version.failed:
                version.state, version.note = State.END, ""

    def _load_if_due(self, version: Version, disk: _Disk) -> None:
        if version.failed:
            # failed since the disk was read: next time
            changed = disk.prints.get(version.path, version.tried) != version.tried
            retries_left = version.attempts <= self.settings.max_load_retries
            if not changed and not (retries_left and time.monotonic() >= version.next_attempt):
                return
            if changed:
                version.attempts = 0
        elif version.state is not State.START:
            return
        if version.path not in disk.complete:
            if version.state is State.START:
                version.note = "waiting for saved_model.pb"
            return
        version.state, version.note = State.LOADING, ""
        self._pool.submit(self._load_one, version)

    def _load_one(self, version: Version) -> None:
        version.tried = versions.fingerprint(version.path)
        began = time.monotonic()
        try:
            runner = self._load(version.name, version.number, version.path)
        except Exception as error:
            with self._changed:
                version.attempts += 1
                version.next_attempt = time.monotonic() + self.settings.load_retry_s
                version.error = _as_serving_error(error)
                version.state = State.END
                self._changed.notify_all()
            reason = " ".join(str(error).split())  # TensorFlow's texts run over several lines
            log.error("%s version %d cannot be loaded: %s", version.name, version.number, reason)
            return
        with self._changed:
            version.servable = Servable(version.name, version.number, runner)
            version.state, version.error = State.AVAILABLE, None
            self._changed.notify_all()
        took = time.monotonic() - began
        log.info("loaded %s version %d in %.2f s", version.name, version.number, took)
        self._kick.set()  # the version it replaces may go now

    def _unload(self, version: Version) -> None:
        """Waits for the last borrower, then frees the session."""
        with self._changed:
            self._changed.wait_for(lambda: version.in_flight == 0)
            servable, version.servable = version.servable, None
        if servable is not None:
            servable.runner.close()
            del servable
            give_back()
        with self._changed:
            version.state = State.END
            self._changed.notify_all()
        log.info("unloaded %s version %d", version.name, version.number)
        self._kick.set()  # it may be wanted again

    def stop(self, drain_s: float = 10.0) -> None:
        """Stops watching, waits for borrowers up to ``drain_s`` seconds, frees every session."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._kick.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        deadline = time.monotonic() + drain_s
        for version in self.all_versions():
            self._free(version, deadline)
        give_back()

    def _free(self, version: Version, deadline: float) -> None:
        with self._changed:
            left = max(0.0, deadline - time.monotonic())
            if not self._changed.wait_for(lambda: version.in_flight == 0, left):
                return  # a graph is still running in it; the process's end will free it
            servable, version.servable = version.servable, None
            version.state = State.END
        if servable is not None:
            servable.runner.close()


def _as_serving_error(error: Exception) -> ServingError:
    if isinstance(error, ServingError):
        return error
    code = getattr(error, "error_code", None)
    text = getattr(error, "message", None) or str(error) or type(error).__name__
    return ServingError(Code(code) if isinstance(code, int) else Code.UNKNOWN, str(text).strip())
