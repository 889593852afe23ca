"""What a strategy reaches for beside its window: files and connections, as Python's audit events tell them.

A score is a function of its window and its parameters. What else it reads, no proof can cut at a day, and no hash of
code and parameters covers. Reading modules, the interpreter's own files and the time zones is not counted.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tradecore.research.dated_files import CUT_PREFIX

CONNECTIONS = ("socket.connect", "sqlite3.connect", "subprocess.Popen", "urllib.Request")
SYSTEM = ("/dev/", "/proc/", "/sys/", "/etc/", "/usr/share/zoneinfo")
CODE = (".py", ".pyc", ".so", ".nbi", ".nbc", ".pth")
PACKAGE = Path(__file__).resolve().parents[1]
CUT = Path(tempfile.gettempdir()) / CUT_PREFIX
_watched: list[set[str]] = []
_hooked = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _watched:
        return
    if event == "open" and isinstance(args[0], str | bytes) and _is_read(args[1], args[2]):
        path = args[0] if isinstance(args[0], str) else args[0].decode(errors="replace")
        for seen in _watched:
            seen.add(path)
    elif event in CONNECTIONS:
        for seen in _watched:
            seen.add(f"{event} {args[1] if event == 'socket.connect' else args[0]}")


def _is_read(mode: object, flags: object) -> bool:
    """Tell whether a file is opened for reading: by the mode of open(), or by the flags of os.open()."""
    if mode is None:
        return not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR))
    return not set(str(mode)) & set("wax+")


@contextmanager
def watching() -> Iterator[set[str]]:
    """Give a set that fills with what is opened for reading, and connected to, inside the block."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_hook)  # for good: Python has no way to take one back
        _hooked = True
    seen: set[str] = set()
    _watched.append(seen)
    try:
        yield seen
    finally:
        _watched.remove(seen)


def undeclared(seen: Iterable[str], declared: Sequence[Path]) -> list[str]:
    """Return what was reached for and is neither code, nor the machine's own, nor one of the declared files; sorted."""
    own = {path.resolve() for path in declared}
    homes = [Path(p).resolve() for p in (sys.prefix, sys.base_prefix, PACKAGE)]
    left = []
    for text in seen:
        path = Path(text)
        if any(text.startswith(f"{event} ") for event in CONNECTIONS) or not (
            text.startswith(SYSTEM)
            or path.suffix in CODE
            or "__pycache__" in path.parts
            or path.resolve() in own
            or any(path.resolve().is_relative_to(home) for home in homes)
            or str(path.resolve()).startswith(str(CUT.resolve()))
        ):
            left.append(text)
    return sorted(left)
