"""Item utility, diversity and calibration of a ranked list; the names load on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

# Name -> the module that holds it. ``tfrec.rerank.exposure`` needs no TensorFlow.
_PUBLIC = {
    "Constraints": "constraints",
    "Limit": "constraints",
    "Selection": "greedy",
    "boost_factor": "boost",
    "boosted": "boost",
    "expected_value": "utility",
    "request_weights": "utility",
    "rerank": "select",
    "unit_range": "select",
}

if TYPE_CHECKING:
    from tfrec.rerank.boost import boost_factor, boosted
    from tfrec.rerank.constraints import Constraints, Limit
    from tfrec.rerank.greedy import Selection
    from tfrec.rerank.select import rerank, unit_range
    from tfrec.rerank.utility import expected_value, request_weights

__all__ = [
    "Constraints",
    "Limit",
    "Selection",
    "boost_factor",
    "boosted",
    "expected_value",
    "request_weights",
    "rerank",
    "unit_range",
]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"tfrec.rerank.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'tfrec.rerank' has no attribute {name!r}")
