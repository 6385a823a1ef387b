"""The one place that knows that the TFX wheels of this machine do not quite fit together.

On glibc < 2.39 only tensorflow-data-validation 1.16.1 loads, and it imports
``tfx_bsl.arrow.sql_util``, which tfx-bsl 1.21 no longer has. Only SQL slices use it, so an empty
stand-in is enough. Where tfx-bsl has the module, or TFDV is new, nothing is done.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import sys
import types

from absl import logging as absl_logging

SQL_UTIL = "tfx_bsl.arrow.sql_util"
_NEW_TFDV = (1, 17)

# Said again and again, and nothing that a user of this project could mend.
_HARMLESS = (
    "Query.property_predicate is not supported",  # ml-metadata 1.17 lacks it: TFX reads more
    "Tables initialized inside a tf.function",  # Transform's own graphs, one for each analyzer
    "does not have payload_format custom property",  # what TFX assumes instead is so
    "tf_record_iterator",  # deprecated in TensorFlow, used by TFMA
)


class _DropHarmless(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(text in message for text in _HARMLESS)


_DROP_HARMLESS = _DropHarmless()


def needs_stand_in() -> bool:
    """True where the installed TFDV imports ``sql_util`` and the installed tfx-bsl lacks it."""
    if SQL_UTIL in sys.modules:
        return False
    try:
        version = importlib.metadata.version("tensorflow-data-validation")
    except importlib.metadata.PackageNotFoundError:
        return False
    if tuple(int(part) for part in version.split(".")[:2]) >= _NEW_TFDV:
        return False
    return importlib.util.find_spec(SQL_UTIL) is None


class RecordBatchSQLSliceQuery:
    """Refuses: SQL slices need a newer tensorflow-data-validation."""

    def __init__(self, *_: object) -> None:
        raise NotImplementedError(
            "SQL slices need tensorflow-data-validation >= 1.17 (glibc >= 2.39); slice by feature"
        )


def install() -> None:
    """Registers the stand-in where it is needed and silences the harmless messages."""
    for logger in (absl_logging.get_absl_logger(), logging.getLogger("tensorflow")):
        logger.addFilter(_DROP_HARMLESS)
    if needs_stand_in():
        module = types.ModuleType(SQL_UTIL, "Empty stand-in by pipelines.compat.")
        module.RecordBatchSQLSliceQuery = RecordBatchSQLSliceQuery  # type: ignore[attr-defined]
        sys.modules[SQL_UTIL] = module
