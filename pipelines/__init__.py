"""The TFX pipeline: orchestration only; what it calls lives in ``tfrec``.

Importing this package installs the stand-in of ``pipelines.compat`` and nothing else; Beam's worker
processes import it first (``--beam_plugins``), so that they unpickle TFDV's code too.
"""

from __future__ import annotations

import tfrec  # noqa: F401  (pins Keras 2 before TensorFlow is imported)
from pipelines import compat

compat.install()
