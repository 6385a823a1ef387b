"""Three costs of TFX and Beam on one machine that have nothing to do with the data.

All were found by sampling stacks (docs/pipeline.md):

- For every Beam component TFX copies its own installation and packs it for remote workers. Workers
  on this machine import what is installed.
- Beam builds an ``argparse`` parser whenever it looks at its options, and each asks gettext for
  translations of its headings, that is, the disk, several times. With the language ``C`` gettext
  does not look.
- Every pickled function is compressed by bzip2 at level 9, whose tables alone take longer than most
  of the functions. Level 1 writes the same format.
"""

from __future__ import annotations

import bz2
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import apache_beam.internal.cloudpickle_pickler as pickler
from tfx.utils import dependency_utils


def _compress(data: bytes, compresslevel: int = 9) -> bytes:
    del compresslevel
    return bz2.compress(data, compresslevel=1)


def _nothing_to_pack(beam_pipeline_args: list[str]) -> list[str]:
    return beam_pipeline_args


@contextmanager
def lean_beam(local_workers: bool) -> Iterator[None]:
    """Spares these costs inside the block; results are the same.

    Args:
        local_workers: Beam's workers run on this machine (``DirectRunner``).
    """
    language = os.environ.get("LANGUAGE")
    compression: Any = pickler.bz2
    packing: Any = dependency_utils.make_beam_dependency_flags
    os.environ["LANGUAGE"] = "C"
    pickler.bz2 = SimpleNamespace(compress=_compress, decompress=bz2.decompress)
    if local_workers:
        dependency_utils.make_beam_dependency_flags = _nothing_to_pack
    try:
        yield
    finally:
        dependency_utils.make_beam_dependency_flags = packing
        pickler.bz2 = compression
        if language is None:
            del os.environ["LANGUAGE"]
        else:
            os.environ["LANGUAGE"] = language
