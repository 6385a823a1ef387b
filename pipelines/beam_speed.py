"""Four costs of TFX and Beam on one machine that have nothing to do with the data.

All were found by sampling stacks (docs/pipeline.md):

- For every Beam component TFX copies its own installation and packs it for remote workers. Workers
  on this machine import what is installed.
- Beam builds an ``argparse`` parser whenever it looks at its options, and each asks gettext for
  translations of its headings, that is, the disk, several times. With the language ``C`` gettext
  does not look.
- Every pickled function is compressed by bzip2 at level 9, whose tables alone take longer than most
  of the functions. Level 1 writes the same format.
- Transformed examples are gzipped at level 6 by one thread of Python; level 1 takes a third of that
  time for files a little larger.
"""

from __future__ import annotations

import bz2
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import apache_beam.internal.cloudpickle_pickler as pickler
from apache_beam.io import filesystem
from tfx.utils import dependency_utils


class _Like:
    """A module with some of its functions replaced."""

    def __init__(self, module: ModuleType, **replaced: Any) -> None:
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _compress(data: bytes, compresslevel: int = 9) -> bytes:
    del compresslevel
    return bz2.compress(data, compresslevel=1)


def _quick_gzip(level: int = -1, *layout: Any) -> Any:
    del level
    return zlib.compressobj(1, *layout)


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
    gzip: Any = filesystem.zlib
    packing: Any = dependency_utils.make_beam_dependency_flags
    os.environ["LANGUAGE"] = "C"
    pickler.bz2 = _Like(bz2, compress=_compress)
    filesystem.zlib = _Like(zlib, compressobj=_quick_gzip)
    if local_workers:
        dependency_utils.make_beam_dependency_flags = _nothing_to_pack
    try:
        yield
    finally:
        dependency_utils.make_beam_dependency_flags = packing
        pickler.bz2 = compression
        filesystem.zlib = gzip
        if language is None:
            del os.environ["LANGUAGE"]
        else:
            os.environ["LANGUAGE"] = language
