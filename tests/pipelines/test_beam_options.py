"""Beam options from the configuration, against Beam's own knowledge."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import pytest

from pipelines.beam_options import beam_args
from pipelines.beam_speed import lean_beam
from tfrec.config import ConfigError


@pytest.mark.parametrize(
    "options",
    [
        {
            "runner": "DirectRunner",
            "direct_num_workers": 2,
            "direct_running_mode": "multi_processing",
        },
        {"runner": "FlinkRunner", "flink_master": "localhost:8081", "parallelism": 4},
        {"runner": "SparkRunner", "spark_master_url": "spark://host:7077"},
        {
            "runner": "DataflowRunner",
            "project": "p",
            "region": "r",
            "temp_location": "gs://b/t",
            "max_num_workers": 8,
        },
    ],
)
def test_options_of_each_runner_pass(options: dict) -> None:
    assert beam_args(options)[:-1] == [f"--{k}={v}" for k, v in options.items()]
    assert beam_args(options)[-1] == "--beam_plugins=pipelines"


def test_switches_are_true_or_false() -> None:
    assert "--streaming" in beam_args({"streaming": True})
    assert "--streaming" not in beam_args({"streaming": False})


def test_all_wrong_keys_and_values_are_named_at_once() -> None:
    wrong = {
        "direct_num_worker": 2,
        "direct_num_workers": "many",
        "direct_running_mode": "turbo",
        "streaming": "yes",
    }
    with pytest.raises(ConfigError) as caught:
        beam_args(wrong)
    message = str(caught.value)
    assert "4 problem(s)" in message
    assert "did you mean 'direct_num_workers'?" in message
    assert "'multi_processing'" in message
    assert "(got 'many')" in message
    assert re.search("streaming: is a switch", message)


def test_lean_beam_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import apache_beam.internal.cloudpickle_pickler as pickler
    from apache_beam.io import filesystem
    from apache_beam.io.filesystems import FileSystems

    monkeypatch.setenv("LANGUAGE", "de")
    before = (pickler.bz2, filesystem.zlib)
    text = b"".join(b"%d," % number for number in range(10_000))
    with lean_beam(local_workers=True):
        assert os.environ["LANGUAGE"] == "C"
        packed = pickler.dumps({"a": [1, 2]})
        assert pickler.loads(packed) == {"a": [1, 2]}
        with FileSystems.create(str(tmp_path / "x.gz")) as stream:
            stream.write(text)
    assert (pickler.bz2, filesystem.zlib) == before
    assert os.environ["LANGUAGE"] == "de"
    # What was written inside is read outside.
    assert pickler.loads(packed) == {"a": [1, 2]}
    written = (tmp_path / "x.gz").read_bytes()
    assert gzip.decompress(written) == text
    assert written[8] == 4, "gzip's header says that the fastest level was used"
