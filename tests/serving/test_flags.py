"""The command line: every flag of the protocol page, and refusals that say what is wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import flags
from serving.__main__ import serve_main

PROTOCOL = (
    "port",
    "rest_api_port",
    "rest_api_timeout_in_ms",
    "grpc_socket_path",
    "model_name",
    "model_base_path",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "file_system_poll_wait_seconds",
    "enable_batching",
    "batching_parameters_file",
    "monitoring_config_file",
    "allow_version_labels_for_unavailable_models",
    "enable_model_warmup",
    "grpc_channel_arguments",
    "enable_grpc_healthcheck_service",
    "ssl_config_file",
)


@pytest.fixture
def signals_kept() -> Iterator[None]:
    """``serve_main`` takes over the signals; tests must not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_every_flag_of_the_protocol_is_known() -> None:
    text = flags.parser().format_help()
    assert [name for name in PROTOCOL if f"--{name} " not in text] == []


def test_values() -> None:
    given = flags.parse(
        [
            "--port=0",
            "--rest_api_port=auto",
            "--model_name=m",
            "--model_base_path",
            "/m",
            "--enable_batching",
            "--enable_model_warmup=false",
            "--grpc_channel_arguments=grpc.max_connection_age_ms=5000,grpc.name=x",
        ]
    )
    assert given == {
        "port": 0,
        "rest_api_port": 0,
        "host": "0.0.0.0",
        "model_name": "m",
        "model_base_path": "/m",
        "enable_batching": True,
        "enable_model_warmup": False,
        "grpc_channel_arguments": {"grpc.max_connection_age_ms": 5000, "grpc.name": "x"},
    }
    assert flags.parse(["--rest_api_port=0"])["rest_api_port"] is None
    assert flags.parse([])["port"] == 8500


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--model_nam=m"], "unknown flag or argument: --model_nam=m"),
        (["stray"], "unknown flag or argument: stray"),
        (["--use_tflite_model"], "--use_tflite_model is a flag of tensorflow_model_server"),
        (["--port=x"], "--port"),
        (["--enable_batching=maybe"], "must be true or false"),
        (["--grpc_channel_arguments=x"], "must be key=value"),
        ([], "exactly one of model_base_path and model_config_file"),
        (["--model_base_path=relative"], "absolute path"),
        (
            ["--model_base_path=/m", "--batching_parameters_file=/b"],
            "batching_parameters_file is set without enable_batching",
        ),
        (["--model_config_file=/nowhere/x"], "/nowhere/x: cannot be read"),
        (
            ["--model_base_path=/m", "--enable_batching", "--batching_parameters_file=/no/b"],
            "/no/b: cannot be read",
        ),
        (["--model_base_path=/m", "--ssl_config_file=/no/s"], "/no/s: cannot be read"),
        (["--model_base_path=/m", "--monitoring_config_file=/no/m"], "/no/m: cannot be read"),
    ],
)
def test_refusals(
    argv: list[str], text: str, capsys: pytest.CaptureFixture[str], signals_kept: None
) -> None:
    assert serve_main(argv) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("model_config_list { nonsense: 3 }", "nonsense"),
        ("", "Only ModelConfigList is currently supported"),
        (
            'model_config_list { config { name: "m" base_path: "/nowhere" '
            'model_platform: "tensorflow" version_labels { key: "a" value: 1 } } }',
            "not currently available for inference",
        ),
    ],
)
def test_a_bad_config_file_is_named(
    content: str,
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    signals_kept: None,
) -> None:
    file = tmp_path / "models.config"
    file.write_text(content)
    assert serve_main([f"--model_config_file={file}", "--port=0"]) == 2
    said = capsys.readouterr().err
    assert str(file) in said
    assert text in said


def test_a_mistyped_flag_needs_no_tensorflow(repository: Path) -> None:
    code = (
        "import sys; from serving.__main__ import serve_main; status = serve_main(['--x']); "
        "assert 'tensorflow' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "unknown flag or argument: --x" in done.stderr) == (2, True)
