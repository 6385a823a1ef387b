"""tfrec: recommenders on TensorFlow, from a log of purchases to a served answer.

Importing the package starts nothing and imports neither TensorFlow, tfx nor beam; it only pins
Keras 2 (``tf_keras``), which TensorFlow Recommenders needs and which has to be said before
TensorFlow is first imported.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

__version__ = "0.1.0"

# The public API: name -> the module that holds it. Loaded on first use.
_PUBLIC = {
    "Config": "tfrec.config",
    "load_config": "tfrec.config",
    "Feature": "tfrec.schema",
    "FeatureTable": "tfrec.schema",
}

if TYPE_CHECKING:
    from tfrec.config import Config, load_config
    from tfrec.schema import Feature, FeatureTable

__all__ = ["Config", "Feature", "FeatureTable", "load_config"]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'tfrec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
