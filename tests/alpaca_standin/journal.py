"""The journal: one line of JSON for each command, on the disk before its answer leaves.

Started again on the same file, the stand-in applies the lines again and is what it was. A last line that a kill
cut short belongs to an answer that never left; it is dropped.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Journal:
    """An append-only file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")

    def read(self) -> list[dict[str, Any]]:
        """Return the whole lines, and cut off what follows the last of them."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        return [json.loads(line) for line in content[:whole].splitlines()]

    def append(self, command: dict[str, Any]) -> None:
        """Write a line and wait until it is on the disk."""
        self._file.write(json.dumps(command, default=str).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def clear(self) -> None:
        """Forget everything."""
        self._file.truncate(0)
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
