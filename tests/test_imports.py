"""What importing does not do, and which rooms do not know each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("tensorflow", "tfx", "apache_beam", "tensorflow_transform", "pandas")

# A room may import those to its right and itself (docs/architecture.md).
FLOORS = {
    "schema": 0,
    "config": 0,
    "data": 1,
    "rerank": 1,
    "store": 1,
    "losses": 2,
    "features": 2,
    "retrieval": 2,
    "models": 3,
    "evaluation": 4,
    "training": 4,
    "export": 5,
    "explore": 6,
    "cli": 7,
}


def test_import_tfrec_starts_nothing() -> None:
    code = f"import sys, tfrec; print([m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_public_names_resolve_and_unknown_ones_do_not() -> None:
    import tfrec

    for name in tfrec.__all__:
        assert getattr(tfrec, name) is not None
        assert name in dir(tfrec)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        tfrec.nonsense  # noqa: B018


def imported(path: Path) -> set[str]:
    """All modules that a file names in imports, wherever they stand in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def top_level_imports(path: Path) -> set[str]:
    """Modules imported when a file is imported."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_serving_never_imports_tfrec_or_pipelines(repository: Path) -> None:
    for path in (repository / "serving").rglob("*.py"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"tfrec", "pipelines"}, path


def test_tfrec_never_imports_tfx_or_beam_at_import(repository: Path) -> None:
    for path in (repository / "tfrec").rglob("*.py"):
        roots = {name.split(".")[0] for name in top_level_imports(path)}
        assert not roots & {"tfx", "apache_beam", "tensorflow_transform", "pipelines"}, path


def test_only_the_roof_reaches_pipelines_and_serving(repository: Path) -> None:
    for path in (repository / "tfrec").rglob("*.py"):
        if path.relative_to(repository / "tfrec").parts[0] != "cli":
            roots = {name.split(".")[0] for name in imported(path)}
            assert not roots & {"pipelines", "serving"}, path


def test_rooms_import_only_downwards(repository: Path) -> None:
    wrong = []
    for path in (repository / "tfrec").rglob("*.py"):
        own = FLOORS.get(path.relative_to(repository / "tfrec").parts[0].removesuffix(".py"))
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "tfrec" and len(parts) > 1 and own is not None:
                floor = FLOORS[parts[1]]
                if floor > own:
                    wrong.append(f"{path.relative_to(repository)} imports {name}")
    assert not wrong
