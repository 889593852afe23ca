"""Compose v2 without Docker: Debian's `docker-compose`, unpacked under `.local/compose`.

`config` needs no engine: it checks the file, fills in variables and reports the ones that are missing.

    python tests/compose_tool.py config      # any Compose arguments
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from private_apt import Unavailable, download, locked, unpack

# The binary stands alone; Docker's client and daemon are not needed to check a file.
STUBS = ("docker-cli", "docker.io", "docker-buildx")


def ensure(root: Path) -> Path:
    """Return the path of a Compose v2 binary, fetching it on the first call.

    Parameters
    ----------
    root : the project; the binary is kept under its `.local/compose`.

    Raises
    ------
    Unavailable
        No Debian, no mirror, no package.
    """
    home = root / ".local" / "compose"
    binary = home / "docker-compose"
    with locked(home):
        if binary.exists():
            return binary
        with tempfile.TemporaryDirectory(dir=home) as scratch:
            work = Path(scratch)
            unpack(download(work / "apt", ["docker-compose"], stubs=STUBS), work / "prefix")
            # The package names a few small files the same; the program is the executable one.
            files = (path for path in (work / "prefix").rglob("docker-compose") if path.is_file())
            found = [path for path in files if path.stat().st_mode & 0o111]
            if not found:
                raise Unavailable("Debian's docker-compose package holds no docker-compose binary")
            shutil.move(found[0], binary)
    return binary


def main(arguments: list[str]) -> int:
    root = Path(__file__).resolve().parent.parent
    try:
        binary = ensure(root)
    except Unavailable as error:
        print(f"Compose: {error}", file=sys.stderr)
        return 3
    os.execv(binary, [str(binary), *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
