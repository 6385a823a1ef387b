"""Inputs that a request leaves out, filled in before the graph runs.

Who knows them is somebody else's affair: a :class:`Filler`, made by a factory that a flag names
(``--input_filler=package.module:function``), so that a feature store can be put in front of the
models without this house knowing any. Where the filler fails, the request is answered all the same,
from the signature's own defaults, and the answer says so: metadata ``x-store`` (over REST a header)
is ``filled``, ``unknown`` (a key has nothing stored) or ``defaults``, with ``x-store-reason``.
"""

from __future__ import annotations

import importlib
import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.bundle import Signature
from serving.metrics import STORE_COUNT, STORE_LATENCY, Metrics
from serving.tensors import KINDS

log = logging.getLogger("serving")
OUTCOME, REASON = "x-store", "x-store-reason"
DEFAULTS = "defaults"
Arrays = Mapping[str, NDArray[Any]]
Note = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Spec:
    """An input that is missing: dtype, and sizes of its axes (None: any), or None for any shape."""

    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None


class Filler(Protocol):
    """Knows what requests leave out."""

    keys: frozenset[str]
    """Inputs by which it finds the others; a request with none of them is left alone."""

    def fill(
        self, given: Arrays, missing: Mapping[str, Spec], batch: int
    ) -> tuple[dict[str, NDArray[Any]], str, str]:
        """Values of missing inputs, [batch, ...] in the input's dtype, as far as it has them.

        Returns:
            The values; ``filled``, ``unknown`` or ``defaults``; and for the last why.
        """

    def close(self) -> None: ...


def open_filler(place: str, options: Mapping[str, Any]) -> Filler:
    """Calls the factory that ``package.module:function`` names.

    Raises:
        ValueError: there is no such factory, or it refuses the options.
    """
    module, colon, name = place.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name) if colon else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"input_filler {place!r}: {error}") from None
    if not callable(factory):
        raise ValueError(f"input_filler is package.module:function, not {place!r}")
    return factory(dict(options))


def specs(definition: Any, aliases: Any) -> dict[str, Spec]:
    """What a ``SignatureDef`` says of some of its inputs; those of unknown dtype are left out."""
    out = {}
    for alias in aliases:
        info = definition.inputs[alias]
        kind = KINDS.get(info.dtype)
        if kind is not None:
            dims = info.tensor_shape.dim
            shape = None
            if not info.tensor_shape.unknown_rank:
                shape = tuple(None if d.size < 0 else int(d.size) for d in dims)
            out[alias] = Spec(kind.dtype, shape)
    return out


def neutral(spec: Spec, batch: int) -> NDArray[Any]:
    """What stands for nothing: '' for text, NaN for decimal numbers, 0 or False else."""
    shape: tuple[int, ...] = (batch,)
    if spec.shape is not None:
        sizes = [1 if size is None else size for size in spec.shape[1:]]
        shape = (batch, *sizes) if spec.shape else ()
    if spec.dtype == object:
        return np.full(shape, b"", object)
    return np.full(shape, np.nan if spec.dtype.kind == "f" else 0, spec.dtype)


class Filling:
    """A filler and what it has done. Without one everything stays as it was.

    Args:
        filler: knows the values; None for none.
        metrics: takes the counts.
    """

    def __init__(self, filler: Filler | None = None, metrics: Metrics | None = None) -> None:
        self._filler = filler
        self._metrics = metrics
        self._thread = threading.local()

    @property
    def keys(self) -> frozenset[str]:
        """Inputs by which the others are found."""
        return frozenset() if self._filler is None else self._filler.keys

    def optional(self, signature: Signature) -> frozenset[str]:
        """Inputs that a request need not have."""
        return frozenset() if self._filler is None else frozenset(signature.inputs)

    def take_note(self) -> Note:
        """What this thread's last request should be told, as metadata; once."""
        note: Note = getattr(self._thread, "note", ())
        self._thread.note = ()
        return note

    def complete(self, definition: Any, defaults: Arrays, inputs: Arrays) -> Arrays:
        """Inputs with the missing ones added, where the request has a key to find them by.

        Args:
            definition: ``SignatureDef`` of what is called.
            defaults: values the signature itself brings.
            inputs: alias to value. Those that the signature does not have leave all as it is, for
                the usual error.
        """
        self._thread.note = ()
        filler = self._filler
        if filler is None:
            return inputs
        wanted = definition.inputs
        missing = [alias for alias in wanted if alias not in inputs]
        keys = [alias for alias in filler.keys if alias in inputs and inputs[alias].ndim]
        if not missing or not keys or any(alias not in wanted for alias in inputs):
            return inputs
        batch = len(inputs[keys[0]])
        began = time.perf_counter()
        lacking = specs(definition, missing)
        try:
            values, outcome, reason = filler.fill(inputs, lacking, batch)
        except Exception as error:  # an answer from defaults is better than none
            log.exception("the input filler failed")
            values, outcome, reason = {}, DEFAULTS, f"{type(error).__name__}: {error}"
        self._tell(outcome, reason, (time.perf_counter() - began) * 1e6)
        full = dict(inputs)
        for alias, spec in lacking.items():
            if alias in values:
                full[alias] = values[alias]
            elif alias in defaults:
                full[alias] = _repeated(defaults[alias], batch)
            else:
                full[alias] = neutral(spec, batch)
        return full

    def _tell(self, outcome: str, reason: str, micros: float) -> None:
        note = [(OUTCOME, outcome)]
        if reason:
            # metadata and headers are ASCII on one line
            note.append((REASON, json.dumps(reason)[1:-1][:200]))
        self._thread.note = tuple(note)
        if self._metrics is not None:
            self._metrics.count(STORE_COUNT, outcome)
            self._metrics.observe(STORE_LATENCY, outcome, micros=micros)

    def close(self) -> None:
        if self._filler is not None:
            self._filler.close()


def _repeated(value: NDArray[Any], batch: int) -> NDArray[Any]:
    """A default of one row for every row."""
    if not value.ndim or len(value) != 1:
        return value
    return np.ascontiguousarray(np.broadcast_to(value, (batch, *value.shape[1:])))
