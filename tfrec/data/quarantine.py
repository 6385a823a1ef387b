"""Where malformed rows go: a file of lines with reasons, and a limit past which reading stops."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from json.encoder import encode_basestring
from pathlib import Path
from types import TracebackType

from tfrec.data.tables import DataError

_EXAMPLES = 3
_RAW_LIMIT = 2_000


class BadDataError(DataError):
    """More malformed rows than ``data.max_bad_rate`` allows."""


class Quarantine:
    """Collects rows that cannot be used.

    Each becomes one line of JSON: ``file``, ``line`` (1-based), ``reason``, ``raw`` (the row's
    text, cut after 2,000 characters). Rows that fail a configured rule are kept too, but do not
    count as malformed.

    Args:
        path: the file to write.
        max_bad_rate: share of malformed rows of one file above which ``finish_file`` raises.
    """

    def __init__(self, path: Path, max_bad_rate: float) -> None:
        self.path = path
        self.max_bad_rate = max_bad_rate
        self.rows: dict[str, int] = {}
        self.malformed: dict[str, Counter[str]] = defaultdict(Counter)
        self.by_rule: dict[str, Counter[str]] = defaultdict(Counter)
        self._examples: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._stream = path.open("w", encoding="utf-8")

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def add(
        self,
        file: str,
        lines: Iterable[int],
        reasons: Iterable[str],
        raws: Iterable[str],
        rule: bool = False,
    ) -> None:
        """Keeps rows of one file; ``rule`` says that a configured rule rejected them."""
        counts = (self.by_rule if rule else self.malformed)[file]
        quoted = encode_basestring(file)
        out = []
        for line, reason, raw in zip(lines, reasons, raws, strict=True):
            counts[reason] += 1
            text = raw[:_RAW_LIMIT]
            examples = self._examples[file, reason]
            if len(examples) < _EXAMPLES:
                examples.append(f"line {int(line)}: {text[:120]}")
            out.append(
                f'{{"file": {quoted}, "line": {int(line)}, "reason": {encode_basestring(reason)}, '
                f'"raw": {encode_basestring(text)}}}'
            )
        if out:
            self._stream.write("\n".join(out) + "\n")

    def label(self, path: Path) -> str:
        """The name under which a file is counted; a file read again gets a number behind."""
        name, again = path.name, 1
        while name in self.rows:
            again += 1
            name = f"{path.name}#{again}"
        return name

    def finish_file(self, file: str, rows: int) -> None:
        """Says that a file was read to its end.

        Args:
            file: its name.
            rows: rows it held, good and bad.

        Raises:
            BadDataError: malformed rows exceed ``max_bad_rate * rows``.
        """
        self.rows[file] = rows
        bad = sum(self.malformed[file].values())
        if bad <= self.max_bad_rate * rows:
            return
        lines = [
            f"{file}: at most {self.max_bad_rate:.2%} of the rows may be malformed "
            f"(data.max_bad_rate); got {bad:,} of {rows:,} ({bad / rows:.2%}):"
        ]
        for reason, count in self.malformed[file].most_common():
            lines.append(f"  {count:>9,} {reason}")
            lines += [f"            {example}" for example in self._examples[file, reason]]
        lines.append(
            "mend the file or its column map (separator, encoding, timestamp_format; texts as NA "
            "go under missing); a row that is well formed but unwanted belongs in a rule; or raise "
            "data.max_bad_rate"
        )
        raise BadDataError("\n".join(lines))

    def counts(self) -> dict[str, dict[str, int]]:
        """File -> reason -> rows, malformed and rejected by rule together, most frequent first."""
        merged: dict[str, dict[str, int]] = {}
        for file in self.rows:
            both = self.malformed[file] + self.by_rule[file]
            if both:
                merged[file] = dict(both.most_common())
        return merged
