"""A command as a process whose words are read while it runs."""

from __future__ import annotations

import re
import subprocess
import threading
from typing import Any


class Running:
    """A process; ``lines`` is what it has said on its standard error so far.

    Args:
        command: program and arguments.
        options: of ``subprocess.Popen``.
    """

    def __init__(self, command: list[str], **options: Any) -> None:
        self.lines: list[str] = []
        self.popen = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self.lines.append(line)
        self.popen.stderr.close()

    def said(self, pattern: str) -> list[str]:
        return re.findall(pattern, "".join(self.lines))

    def ended(self, seconds: float = 60) -> int:
        """Exit status, waited for."""
        status = self.popen.wait(seconds)
        self._reader.join()
        return status

    def kill(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self._reader.join()
