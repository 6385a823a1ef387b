"""The memory estimate: against sizes that can be said, and against a process with the model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving import plan as planning
from serving import saved_model
from serving.plan import MIB, PlanError, human, parse_bytes, plan, plan_main

ROOT = Path(__file__).resolve().parents[2]
INT = [tf.TensorSpec([None], tf.int64, name="x")]
TEXT = [tf.TensorSpec([None], tf.string, name="x")]


def save(module: tf.Module, call: Any, spec: list[tf.TensorSpec], folder: Path) -> Path:
    signature = tf.function(call).get_concrete_function(*spec)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})
    return folder


def variables(folder: Path, rows: int = 1000, columns: int = 64) -> Path:
    module = tf.Module()
    module.table = tf.Variable(np.ones((rows, columns), np.float32))
    module.count = tf.Variable(np.zeros(3, np.int64))
    return save(module, lambda x: {"y": tf.gather(module.table, x)}, INT, folder)


def text_table(folder: Path, lines: list[str]) -> Path:
    file = folder.parent / f"{folder.name}.txt"
    file.write_text("".join(f"{line}\n" for line in lines))
    module = tf.Module()
    rows = tf.lookup.TextFileIndex
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(file), tf.string, rows.WHOLE_LINE, tf.int64, rows.LINE_NUMBER
        ),
        -1,
    )
    return save(module, lambda x: {"y": module.table.lookup(x)}, TEXT, folder)


def test_variables_are_counted_to_the_byte(tmp_path: Path) -> None:
    assert plan(variables(tmp_path / "m")).variables == 1000 * 64 * 4 + 3 * 8


def test_texts_in_variables(tmp_path: Path) -> None:
    module = tf.Module()
    module.ids = tf.Variable(np.array(["short"] * 10 + ["x" * 30] * 5, object), dtype=tf.string)
    folder = save(module, lambda x: {"y": tf.gather(module.ids, x)}, INT, tmp_path / "m")
    assert plan(folder).variables == 15 * 24 + 5 * (30 + 16)


def test_constants_are_found_in_graph_and_functions(tmp_path: Path) -> None:
    empty = plan(variables(tmp_path / "a")).constants
    module = tf.Module()
    big = np.random.default_rng(0).standard_normal((1000, 64)).astype(np.float32)
    folder = save(module, lambda x: {"y": tf.gather(tf.constant(big), x)}, INT, tmp_path / "m")
    assert big.nbytes <= plan(folder).constants <= big.nbytes + empty + 2000


def test_a_table_from_a_text_file(tmp_path: Path) -> None:
    found = plan(text_table(tmp_path / "m", [f"i{n}" for n in range(5000)]))
    assert found.tables == 5000 * (24 + 8 + saved_model.TABLE_ENTRY)
    found = plan(text_table(tmp_path / "n", [f"{n:040d}" for n in range(100)]))
    assert found.tables == 100 * (24 + 56 + 8 + saved_model.TABLE_ENTRY)


def test_a_table_from_constants(tmp_path: Path) -> None:
    module = tf.Module()
    keys = tf.constant([f"item-{n}" for n in range(3000)])
    initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.range(3000, dtype=tf.int64))
    module.table = tf.lookup.StaticHashTable(initializer, -1)
    folder = save(module, lambda x: {"y": module.table.lookup(x)}, TEXT, tmp_path / "m")
    found = plan(folder)
    assert found.tables == 3000 * (24 + 8 + saved_model.TABLE_ENTRY)
    # The keys are in the graph as well, as texts of 9 letters at most, and so are the values.
    assert 3000 * saved_model.TEXT_CONSTANT < found.constants < 3000 * 80 + 2000


def test_a_table_in_the_checkpoint(tmp_path: Path) -> None:
    module = tf.Module()
    module.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    keys = tf.constant([f"i{n}" for n in range(700)])
    module.table.insert(keys, tf.range(700, dtype=tf.int64))
    folder = save(module, lambda x: {"y": module.table.lookup(x)}, TEXT, tmp_path / "m")
    found = plan(folder)
    assert found.tables == 700 * (24 + 8 + saved_model.MUTABLE_ENTRY)
    assert found.variables == 0


def test_the_largest_version_is_taken(tmp_path: Path) -> None:
    for version, rows in ((9, 10), (10, 20)):
        variables(tmp_path / str(version), rows)
    (tmp_path / "11").mkdir()  # half copied
    (tmp_path / "notes").mkdir()
    found = plan(tmp_path)
    assert found.model_dir == tmp_path / "10"
    assert found.variables == 20 * 64 * 4 + 24


def test_two_versions_and_warnings(tmp_path: Path) -> None:
    folder = variables(tmp_path / "m", 16384)  # 4 MiB
    roomy = plan(folder, 2000 * MIB)
    assert roomy.two_versions == roomy.runtime + roomy.resident + roomy.loading
    assert roomy.fits
    assert roomy.warnings() == []
    tight = plan(folder, roomy.one_version + 1)
    assert not tight.fits
    (text,) = tight.warnings()
    assert "Two versions at once need" in text
    assert f"Give it {human(tight.two_versions)}" in text
    tiny = plan(folder, 100 * MIB)
    assert "One version needs" in tiny.warnings()[0]
    assert plan(folder, roomy.two_versions).fits
    assert plan(folder, 2000 * MIB, runtime_bytes=0).one_version == roomy.resident


def test_large_constants_are_warned_of() -> None:
    heavy = planning.Plan(Path("m"), 0, 20 * MIB, 0, 10, 0, 1 << 40)
    assert "Export them as variables" in heavy.warnings()[0]
    light = planning.Plan(Path("m"), 2000 * MIB, 20 * MIB, 0, 10, 0, 1 << 40)
    assert light.warnings() == []


def test_memory_of_this_machine_is_the_default(tmp_path: Path) -> None:
    found = plan(variables(tmp_path / "m"))
    assert found.available == planning.machine_bytes()
    assert 64 * MIB < found.available < 1 << 50


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        ("4GiB", 4 << 30),
        ("4Gi", 4 << 30),
        ("4g", 4 << 30),
        ("512m", 512 << 20),
        ("1.5 KiB", 1536),
        ("2GB", 2 * 10**9),
        ("7b", 7),
    ],
)
def test_amounts_of_memory(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "many", "4XB", "-1G", "4 GiB more"])
def test_bad_amounts_are_refused(text: str) -> None:
    with pytest.raises(PlanError, match="a number and a unit"):
        parse_bytes(text)


def test_human_sizes() -> None:
    assert [human(n) for n in (0, 999, 1024, 1536 << 10, 3 << 30, 5000 << 30)] == [
        "0 B",
        "999 B",
        "1 KiB",
        "1.5 MiB",
        "3 GiB",
        "5e+03 GiB",
    ]


def test_what_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="is not a folder"):
        plan(tmp_path / "none")
    with pytest.raises(PlanError, match=r"holds no saved_model\.pb"):
        plan(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(PlanError, match="cannot be read"):
        plan(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(PlanError, match="tagged 'serve'"):
        plan(tmp_path)


def test_a_broken_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = variables(tmp_path / "m")
    (folder / "variables" / "variables.index").write_bytes(b"rubbish")
    with pytest.raises(PlanError, match="checkpoint cannot be read"):
        plan(folder)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = variables(tmp_path / "m")
    assert plan_main([str(folder), "--memory", "8GiB"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"{folder}: estimated memory"
    assert "  variables            250 KiB" in out
    assert "  available              8 GiB" in out
    assert "warning" not in out
    assert plan_main([str(folder), "--memory", "10m"]) == 1
    assert "warning: One version needs" in capsys.readouterr().out
    assert plan_main([str(tmp_path / "none")]) == 2
    assert "tfrec serve plan: " in capsys.readouterr().err
    assert plan_main([str(folder), "--memory", "lots"]) == 2
    assert plan_main([]) == 2


MEASURE = """
import json, sys
from pathlib import Path
from serving.bundle import Bundle
from serving.memory import give_back

def kib(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(key)))

Bundle(Path(sys.argv[1]), ["serve"], None).close()  # what the first load costs only once
give_back()
before = kib("VmRSS")
first = Bundle(Path(sys.argv[2]), ["serve"], None)
give_back()
resident = kib("VmRSS")
second = Bundle(Path(sys.argv[2]), ["serve"], None)
swap = kib("VmHWM")
print(json.dumps({"resident": (resident - before) * 1024, "swap": (swap - before) * 1024}))
"""


def measure(small: Path, folder: Path) -> dict[str, int]:
    """Growth of a process that loads one version, and its height while it loads a second."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small), str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_estimate_is_within_its_factor_of_a_real_process(tmp_path: Path) -> None:
    small = variables(tmp_path / "small", 10)
    module = tf.Module()
    rng = np.random.default_rng(0)
    module.items = tf.Variable(rng.standard_normal((300_000, 64)).astype(np.float32))  # 73 MiB
    fixed = rng.standard_normal((40_000, 64)).astype(np.float32)  # 10 MiB, seven times
    ids = tmp_path / "ids.txt"
    ids.write_text("".join(f"item-{n:09d}\n" for n in range(300_000)))
    rows = tf.lookup.TextFileIndex
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(ids), tf.string, rows.WHOLE_LINE, tf.int64, rows.LINE_NUMBER
        ),
        0,
    )

    def call(x: Any) -> dict[str, Any]:
        row = module.table.lookup(x)
        return {"y": tf.gather(module.items, row) + tf.gather(tf.constant(fixed), row % 40_000)}

    folder = save(module, call, TEXT, tmp_path / "m")
    found = plan(folder)
    real = measure(small, folder)
    print(f"estimate {found.resident / MIB:.0f} MiB, real {real['resident'] / MIB:.0f} MiB")
    print(
        f"swap: estimate {(found.resident + found.loading) / MIB:.0f} MiB, "
        f"real {real['swap'] / MIB:.0f} MiB"
    )
    assert 1 / 1.5 < real["resident"] / found.resident < 1.5
    assert 1 / 1.5 < real["swap"] / (found.resident + found.loading) < 1.5
