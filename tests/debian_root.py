"""A real Debian trixie below `.local/trixie`, made by debootstrap, to run what is meant for a fresh machine.

debootstrap comes unpacked by `private_apt`; it needs root, as the chroot does. The host's packages stay as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from private_apt import KEYRING, SUITE, Unavailable, debian_mirror, download, locked, unpack

TIMEOUT_S = 3000


def ensure(root: Path) -> Path:
    """Return a pristine minimal trixie below the project's `.local/trixie`, made on the first call (some minutes).

    Raises Unavailable without root, wget, a mirror or Debian.
    """
    if os.geteuid() != 0:
        raise Unavailable("debootstrap and chroot need root")
    if shutil.which("wget") is None or shutil.which("chroot") is None:
        raise Unavailable("debootstrap needs wget and chroot")
    home = root / ".local" / "trixie"
    with locked(home):
        if (home / "made").exists():
            return home / "root"
        mirror = debian_mirror()
        shutil.rmtree(home / "root", ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=home) as scratch:
            work = Path(scratch)
            debs = [deb for deb in download(work / "apt", ["debootstrap"]) if deb.name.startswith("debootstrap_")]
            unpack(debs, work / "prefix")
            done = subprocess.run(
                ["sh", str(work / "prefix/usr/sbin/debootstrap"), "--variant=minbase", f"--keyring={KEYRING}",
                 SUITE, str(home / "root"), mirror],
                env={**os.environ, "DEBOOTSTRAP_DIR": str(work / "prefix/usr/share/debootstrap")},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )  # fmt: skip
        if done.returncode != 0:
            raise Unavailable(f"debootstrap failed: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
        (home / "made").touch()
    return home / "root"
