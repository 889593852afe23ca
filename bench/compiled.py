"""The C references: compiled when they are first asked for, by the machine's own `cc` and the line in their header."""

from __future__ import annotations

import ctypes
import hashlib
import platform
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
LINE = re.compile(r"^ \* (cc .*)$", re.MULTILINE)


def compile_line(source: Path) -> str:
    """Return the compile line of a C source: in its first comment, with OUT and SOURCE for the two files."""
    found = LINE.search(source.read_text(encoding="utf-8"))
    if not found:
        raise SystemExit(f"{source}: no compile line; its first comment holds one, ` * cc ... -o OUT SOURCE`")
    return found[1]


def library(name: str) -> ctypes.CDLL:
    """Return bench/NAME.c as a loaded library; built again when the source, the line or the compiler has changed."""
    source = HERE / f"{name}.c"
    line = compile_line(source)
    version = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout
    key = hashlib.sha256("\0".join([source.read_text(encoding="utf-8"), line, version, platform.machine()]).encode())
    target = HERE.parent / ".local" / "bench" / f"{name}-{key.hexdigest()[:12]}.so"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        words = [{"OUT": str(target), "SOURCE": str(source)}.get(word, word) for word in shlex.split(line)]
        subprocess.run(words, check=True)
    return ctypes.CDLL(str(target))


def function(name: str, symbol: str, arguments: str) -> ctypes._CFuncPtr:
    """Return a function of bench/NAME.c that returns nothing.

    `arguments` is a letter each: p an array's pointer (see `pointer`), i an int64, d a double.
    """
    found = getattr(library(name), symbol)
    found.argtypes = [{"p": ctypes.c_void_p, "i": ctypes.c_int64, "d": ctypes.c_double}[letter] for letter in arguments]
    found.restype = None
    return found


def pointer(array: np.ndarray) -> int:
    """Return an array's address for a C function; it must be contiguous, and live as long as the call."""
    if not array.flags.c_contiguous:
        raise ValueError("a C function reads arrays that are contiguous")
    return array.ctypes.data
