"""Which data a run reads: spans and versions in the path, a fingerprint that the cache heeds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tfx.components.example_gen import input_processor
from tfx.proto import example_gen_pb2, range_config_pb2


@dataclass(frozen=True)
class Source:
    """One resolved input.

    Attributes:
        path: file or folder; None for generated data.
        span, version: numbers found in the path; 0 where the pattern has none.
        fingerprint: changes whenever a file of the input does (name, size, time of change).
    """

    path: str | None
    span: int
    version: int
    fingerprint: str


def resolve(pattern: str | None, span: int | None = None) -> Source:
    """Finds the newest span and version, or the span asked for.

    Args:
        pattern: path with ``{SPAN}`` or ``{YYYY}-{MM}-{DD}``, then perhaps ``{VERSION}``, as in
            TFX; or a plain path.
        span: the span to read; None reads the newest.

    Raises:
        ValueError: nothing matches.
    """
    if pattern is None:
        return Source(None, 0, 0, "generated")
    if "{" not in pattern:
        return Source(pattern, 0, 0, fingerprint(Path(pattern)))
    fixed = pattern[: pattern.index("{")].rpartition("/")[0]
    split = example_gen_pb2.Input.Split(name="data", pattern=pattern[len(fixed) + 1 :])
    wanted = None
    if span is not None:
        static = range_config_pb2.StaticRange(start_span_number=span, end_span_number=span)
        wanted = range_config_pb2.RangeConfig(static_range=static)
    try:
        processor = input_processor.FileBasedInputProcessor(fixed, [split], wanted)
        found, version = processor.resolve_span_and_version()
        relative = processor.get_pattern_for_span_version(split.pattern, found, version)
    except ValueError as error:
        raise ValueError(
            f"data.path {pattern!r} matches a folder or file of span "
            f"{'(newest)' if span is None else span}; got none ({error}); check the pattern"
        ) from error
    path = Path(fixed) / relative
    return Source(str(path), int(found), int(version or 0), fingerprint(path))


def fingerprint(path: Path) -> str:
    """Hash over names, sizes and times of change of all files below ``path``.

    Raises:
        ValueError: there is no such file or folder.
    """
    if not path.exists():
        raise ValueError(f"data.path {str(path)!r} is a file or folder; got nothing there")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(f"{file.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
