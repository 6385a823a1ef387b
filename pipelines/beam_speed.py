"""Two costs of Beam on one machine that have nothing to do with the data.

Both were found by sampling the stacks of a Transform over 20,000 rows (docs/pipeline.md):

- Beam builds an ``argparse`` parser whenever it looks at its options, and each asks gettext for
  translations of its headings, that is, the disk, several times: 14% of the time. With the language
  ``C`` gettext does not look.
- Every pickled function is compressed by bzip2 at level 9, whose tables alone take longer than most
  of the functions: 13%. Level 1 writes the same format.
"""

from __future__ import annotations

import bz2
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import apache_beam.internal.cloudpickle_pickler as pickler


def _compress(data: bytes, compresslevel: int = 9) -> bytes:
    del compresslevel
    return bz2.compress(data, compresslevel=1)


@contextmanager
def lean_beam() -> Iterator[None]:
    """Spares Beam both costs inside the block; results are the same."""
    language = os.environ.get("LANGUAGE")
    before: Any = pickler.bz2
    os.environ["LANGUAGE"] = "C"
    pickler.bz2 = SimpleNamespace(compress=_compress, decompress=bz2.decompress)
    try:
        yield
    finally:
        pickler.bz2 = before
        if language is None:
            del os.environ["LANGUAGE"]
        else:
            os.environ["LANGUAGE"] = language
