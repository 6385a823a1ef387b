"""Renders benchmarks/RESULTS.md from benchmarks/results/*.json; no number is typed by hand.

Records of one (protocol, name, note, metric) are folded over their seeds to mean and standard
deviation. Within a protocol every model is a row and every metric a column.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
INTRODUCTION = """# Results

Made by `make results` from `benchmarks/results/*.json`, which the scripts in `benchmarks/` write
(`make bench`). Where a figure has a spread it is mean ± standard deviation over the seeds in the
column "seeds". Sampled metrics (candidates `sampled`) do not keep the order of models; look at the
full-catalogue ones. Timings on this kind of machine are noisy: read the ratios.
"""


def shown(values: list[float]) -> str:
    """Mean, and spread where there are several values, with digits that fit the size."""
    mean = sum(values) / len(values)
    size = abs(mean)
    digits = 4 if size < 10 else 1 if size < 1000 else 0
    if all(float(v).is_integer() for v in values) and size >= 1:
        digits = 0 if len(values) == 1 else 1
    text = f"{mean:,.{digits}f}"
    if len(values) > 1:
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
        text += f" ± {spread:,.{digits}f}"
    return text


def table(records: list[dict[str, Any]]) -> list[str]:
    """Markdown lines of one protocol: rows by model and note, columns by metric and unit."""
    columns = list(dict.fromkeys(_column(r) for r in records))
    rows: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for record in records:
        rows[record["name"], record.get("note", "")][_column(record)].append(record)
    noted = any(note for _, note in rows)
    head = ["name", *(["variant"] if noted else []), *columns, "seeds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for (name, note), cells in rows.items():
        seeds = sorted({r["seed"] for c in cells.values() for r in c if r["seed"] is not None})
        values = [shown([r["value"] for r in cells[c]]) if c in cells else "" for c in columns]
        seen = ", ".join(map(str, seeds)) or "-"
        lines.append("| " + " | ".join([name, *([note] if noted else []), *values, seen]) + " |")
    return lines


def _column(record: dict[str, Any]) -> str:
    """Metric and unit: figures of different units are never folded into one."""
    return f"{record['metric']} [{record['unit']}]" if record["unit"] else record["metric"]


def render(folder: Path) -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for path in sorted(folder.glob("*.json")):
        if path.name.endswith(".quick.json"):
            continue
        records = json.loads(path.read_text())
        if not records:
            continue
        machines = sorted({r["machine"] for r in records})
        dates = sorted({r["date"] for r in records})
        parts.append(f"## {path.stem}\n\n`python -m benchmarks.{path.stem}`, {', '.join(dates)}; ")
        parts[-1] += "; ".join(machines) + "\n"
        by_protocol: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in records:
            by_protocol[record["protocol"]].append(record)
        for protocol, group in by_protocol.items():
            parts.append(f"### {protocol}\n\n" + "\n".join(table(group)) + "\n")
    return "\n".join(parts)


def main() -> int:
    page = HERE / "RESULTS.md"
    page.write_text(render(HERE / "results"), encoding="utf-8")
    print(f"wrote {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
