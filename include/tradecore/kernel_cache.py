"""Where compiled kernels are kept: a folder named after everything that decides what they compile to.

numba looks at the file of a cached function, not at the files of the functions that it calls: a changed
callee would be served stale. So the cache folder's name covers the content of every kernel file and of what
those import from here, the versions of numba, llvmlite, numpy and Python, and the CPU. `make` and
`. .venv/bin/activate` set NUMBA_CACHE_DIR to it; `python -m tradecore.kernel_cache` prints it.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("numba", "llvmlite", "numpy")
CPU_LINES = ("flags", "Features", "vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
KEPT_CACHES = 3  # switching between two branches should not compile anew

_IMPORTS_NUMBA = re.compile(r"^\s*(?:from|import)\s+numba\b|^\s*import\s[\w., ]*\bnumba\b", re.MULTILINE)
_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+import\s+(\([^)]*\)|[\w ,]+)|import\s+([\w., ]+))", re.MULTILINE)


def kernel_files(include: Path) -> list[Path]:
    """Return every file whose content can reach a compiled kernel, sorted.

    These are `_kernels*.py`, every other file that imports numba, and, over any number of steps, what they
    import from the same folder: a constant in `units.py` is compiled in as well. A file that speaks of numba alone
    compiles nothing: what it imports may change and all kernels stay.
    """
    sources = {path: path.read_text(encoding="utf-8") for path in include.rglob("*.py")}
    waiting = [p for p, text in sources.items() if p.name.startswith("_kernels") or _IMPORTS_NUMBA.search(text)]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [other for other in _imported(include, sources[path]) if other in sources]
    return sorted(found)


def _imported(include: Path, text: str) -> list[Path]:
    """Return the files that the import lines of a source may mean; relative imports are not used here."""
    modules: list[str] = []
    for source, names, plain in _IMPORT.findall(text):
        if source:
            modules += [source, *(f"{source}.{name}" for name in re.findall(r"\w+", names))]
        modules += re.findall(r"[\w.]+", plain)
    bases = [include.joinpath(*module.split(".")) for module in modules]
    return [path for base in bases for path in (base.with_suffix(".py"), base / "__init__.py")]


def cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return what the kernel says about the CPU's kind and features, over all cores."""
    lines: set[str] = set()
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.split(":")[0].strip() in CPU_LINES:
                lines.add(line)
    return "\n".join([platform.machine(), *sorted(lines)])


def cache_key(include: Path) -> str:
    """Return 16 hex digits that change with anything that changes a compiled kernel."""
    digest = hashlib.sha256()
    for part in (sys.implementation.cache_tag, platform.python_version(), cpu(), *_versions()):
        digest.update(str(part).encode() + b"\0")
    for path in kernel_files(include):
        digest.update(path.relative_to(include).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _versions() -> list[str]:
    return [f"{name} {metadata.version(name)}" for name in PACKAGES]


def cache_dir(root: Path) -> Path:
    """Return the cache folder for the project's present content; it need not exist yet."""
    return root / ".local" / "numba-cache" / cache_key(root / "include")


def prune(root: Path) -> int:
    """Delete all but the newest caches and the present one; return how many went."""
    present = cache_dir(root)
    others = [path for path in present.parent.glob("*") if path.is_dir() and path != present]
    old = sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_CACHES - 1 :]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return len(old)


if __name__ == "__main__":
    print(cache_dir(Path(__file__).resolve().parents[2]))
