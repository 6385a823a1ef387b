"""What libraries write while they load is held back, unless they fail to."""

from __future__ import annotations

import os

import pytest

from serving.quiet import quiet_imports


def test_what_is_written_within_is_held_back_and_nothing_after(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with quiet_imports():
        os.write(2, b"I0000 00:00:1 port.cc:153] oneDNN custom operations are on.\n")
    os.write(2, b"said later\n")
    assert capfd.readouterr().err == "said later\n"


def test_a_failing_import_tells_what_was_said(capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        with quiet_imports():
            os.write(2, b"cannot open a library\n")
            raise ImportError

    with pytest.raises(ImportError):
        fails()
    assert capfd.readouterr().err == "cannot open a library\n"
