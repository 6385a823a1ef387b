"""How much memory a SavedModel takes when served, and whether two versions fit during a swap.

TensorFlow Serving loads a new version before it drops the old one. So a server that runs well can
still be killed by a push. `plan` reads the files alone (no graph is built, no weight is loaded) and
adds up what each part is known to cost; the costs were measured on the embedded server, see
docs/deploy.md, and hold within a factor of 1.5 there.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.saved_model import Content, read_content

MIB = 1 << 20
RUNTIME_BYTES = 750 * MIB
"""The embedded server with an almost empty model: Python and TensorFlow, measured at 753 MiB."""
CONSTANT_COPIES = 7
"""Copies of a constant that stay in memory: the graph is kept as messages, nodes and kernels."""
CONSTANT_COPIES_LOADING = 10
"""Further copies while a version is loaded."""
NODE_BYTES = 14 << 10
"""A node of the graph or of a function: its message, its place in the graph, its kernel."""


class PlanError(ValueError):
    """A folder or an amount that cannot be used; the text says why and how to mend it."""


@dataclass(frozen=True)
class Plan:
    """Estimated memory of one model. All sizes are bytes.

    Attributes:
        model_dir: the version's folder.
        variables: numbers and texts of the checkpoint.
        constants: values inside the graph, as stored once.
        tables: lookup tables, once filled.
        nodes: nodes of the graph and its functions.
        runtime: the process without the model.
        available: memory the server may use.
    """

    model_dir: Path
    variables: int
    constants: int
    tables: int
    nodes: int
    runtime: int
    available: int

    @property
    def resident(self) -> int:
        """One version, loaded, without the process around it."""
        constants = self.constants * CONSTANT_COPIES
        return self.variables + constants + self.tables + self.nodes * NODE_BYTES

    @property
    def loading(self) -> int:
        """One version at the height of its loading."""
        return self.resident + self.constants * CONSTANT_COPIES_LOADING

    @property
    def one_version(self) -> int:
        """The process with one version."""
        return self.runtime + self.resident

    @property
    def two_versions(self) -> int:
        """The process in a swap: one version answers, the next is being loaded."""
        return self.one_version + self.loading

    @property
    def fits(self) -> bool:
        """Whether a swap stays within the available memory."""
        return self.two_versions <= self.available

    def warnings(self) -> list[str]:
        """What is wrong and how to mend it; empty if all is well."""
        found = []
        if self.one_version > self.available:
            found.append(
                f"One version needs {human(self.one_version)}, there are "
                f"{human(self.available)}: the server will be killed while it starts. "
                "Give it more memory, or make the model smaller (shorter embeddings, fewer ids)."
            )
        elif not self.fits:
            found.append(
                f"Two versions at once need {human(self.two_versions)}, there are "
                f"{human(self.available)}: the server will be killed when the next version is "
                f"pushed. Give it {human(self.two_versions)}, make the model smaller, or replace "
                "the process instead of the version (a new pod for each version)."
            )
        share = self.constants * CONSTANT_COPIES
        if share > 64 * MIB and share > self.resident // 4:
            found.append(
                f"Constants of {human(self.constants)} take {human(share)}, since the graph is "
                "kept in several copies. Export them as variables (`tf.Variable`), and the keys "
                "of a large table as a text file (`tf.lookup.TextFileInitializer`)."
            )
        return found

    def __str__(self) -> str:
        rows = [
            ("variables", self.variables, ""),
            ("constants", self.constants * CONSTANT_COPIES, f"{human(self.constants)} in the file"),
            ("tables", self.tables, ""),
            ("graph", self.nodes * NODE_BYTES, f"{self.nodes:,} nodes"),
            ("one version", self.resident, ""),
            ("with the process", self.one_version, ""),
            ("during a swap", self.two_versions, "two versions at once"),
            ("available", self.available, ""),
        ]
        lines = [f"{self.model_dir}: estimated memory"]
        lines += [f"  {name:<18}{human(size):>10}  {note}".rstrip() for name, size, note in rows]
        lines += [f"warning: {text}" for text in self.warnings()]
        return "\n".join(lines)


def human(size: int) -> str:
    """Bytes for people: ``"1.5 GiB"``."""
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"


def parse_bytes(text: str) -> int:
    """``"4GiB"``, ``"4G"``, ``"4Gi"``, ``"512m"`` or a number of bytes, as Compose and Kubernetes.

    ``GB`` is 1000^3; ``G`` alone is read as ``GiB``.

    Raises:
        PlanError: for anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b?)\s*", text, re.IGNORECASE)
    if match is None:
        raise PlanError(f"an amount of memory is a number and a unit, such as 4GiB; got {text!r}")
    number, unit, rest = match.groups()
    base = 1000 if rest.lower() == "b" and unit else 1024
    return int(float(number) * base ** " kmgt".index(unit.lower() or " "))


def machine_bytes() -> int:
    """Memory this process may use: the machine's, or its control group's limit if lower."""
    import os

    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return min(found)


def version_dir(path: Path) -> Path:
    """The folder with the SavedModel: the path itself, or its largest version.

    Raises:
        PlanError: if there is none.
    """
    if (path / "saved_model.pb").is_file():
        return path
    if not path.is_dir():
        raise PlanError(f"{path} is not a folder; give a SavedModel's, or that of its versions")
    versions = [one for one in path.iterdir() if one.name.isdigit()]
    versions = [one for one in versions if (one / "saved_model.pb").is_file()]
    if not versions:
        raise PlanError(
            f"{path} holds no saved_model.pb, nor a numbered folder that does; "
            "give the folder that was exported"
        )
    return max(versions, key=lambda one: int(one.name))


def plan(
    saved_model_dir: str | Path,
    available_bytes: int | None = None,
    runtime_bytes: int = RUNTIME_BYTES,
) -> Plan:
    """Estimates the memory of a served SavedModel from its files.

    Args:
        saved_model_dir: a SavedModel, or the folder of its numbered versions (the largest counts).
        available_bytes: memory of the server; this machine's (or container's) where None.
        runtime_bytes: the process without the model; the embedded server's by default.

    Raises:
        PlanError: if there is no readable SavedModel.
    """
    folder = version_dir(Path(saved_model_dir))
    try:
        content: Content = read_content(folder)
    except ValueError as error:
        raise PlanError(f"{folder}: {error}") from None
    return Plan(
        folder,
        content.variables,
        content.constants,
        content.tables,
        content.nodes,
        runtime_bytes,
        machine_bytes() if available_bytes is None else available_bytes,
    )


def plan_main(argv: Sequence[str] | None = None) -> int:
    """``tfrec serve plan MODEL_DIR``: prints the plan.

    Returns:
        0 if a swap fits, 1 if it does not, 2 if the arguments cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="tfrec serve plan", description="Memory of a served SavedModel, before it is pushed."
    )
    parser.add_argument("model_dir", help="a SavedModel, or the folder of its versions")
    parser.add_argument("--memory", help="of the server, such as 4GiB; this machine's by default")
    try:
        given = parser.parse_args(argv)
    except SystemExit as stop:
        return 0 if stop.code in (0, None) else 2
    try:
        memory = None if given.memory is None else parse_bytes(given.memory)
        found = plan(given.model_dir, memory)
    except PlanError as error:
        print(f"tfrec serve plan: {error}", file=sys.stderr)
        return 2
    print(found)
    return 0 if found.fits else 1


if __name__ == "__main__":
    sys.exit(plan_main())
