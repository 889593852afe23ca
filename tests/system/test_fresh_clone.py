"""The README's two commands on a fresh clone with an empty home: as root and as an ordinary user."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared_machine import busy

REPO = Path(__file__).resolve().parents[2]
SECOND_RUN_S = 75
USERS = ["root", "nobody"] if os.geteuid() == 0 else ["me"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * 3600)]  # installs and all tests, twice, on a busy machine


class Clone:
    """A clone of what is committed, in a folder with a space in its name, and a home without anything in it."""

    def __init__(self, folder: Path, user: str) -> None:
        self.root, self.home, self.user = folder / "a clone", folder / "home", user
        subprocess.run(["git", "clone", "--quiet", "--no-local", str(REPO), str(self.root)], check=True)
        self.home.mkdir()
        if user not in ("root", "me"):
            entry = pwd.getpwnam(user)
            for path in (folder, *folder.rglob("*")):
                os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)

    def run(self, command: str) -> tuple[subprocess.CompletedProcess[str], float]:
        """Run a command there as the user, with nothing of this process's environment."""
        # a Python under root's home is none for others: they get the system's
        path = "/usr/local/bin:/usr/bin:/bin" if self.user == "nobody" else os.environ["PATH"]
        env = {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8"}
        env |= {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_"))}
        drop = ["setpriv", f"--reuid={self.user}", f"--regid={pwd.getpwnam(self.user).pw_gid}", "--clear-groups"]
        started = time.monotonic()
        done = subprocess.run(
            [*(drop if self.user == "nobody" else []), "sh", "-c", command],
            cwd=self.root,
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done, time.monotonic() - started


@pytest.fixture(params=USERS)
def clone(request: pytest.FixtureRequest) -> Iterator[Clone]:
    folder = Path(tempfile.mkdtemp(prefix="fresh-"))
    folder.chmod(0o755)
    try:
        made = Clone(folder, request.param)
        yield made
        made.run("make clean")  # stops its servers too, and removes what lies outside of the clone
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_two_commands(clone: Clone):
    first, first_s = clone.run("make demo")
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    assert re.search(r"orders   .*FILLED", first.stdout), first.stdout[-3000:]
    assert re.search(r"fills    [+-]\d+ [A-Z]+ at \d", first.stdout), first.stdout[-3000:]
    assert "gate open" in first.stdout
    report = next(line.split()[-1] for line in first.stdout.splitlines() if line.strip().startswith("report"))
    assert report.endswith(".html")
    second, second_s = clone.run("make demo")
    machine_busy = busy()
    assert second.returncode == 0, second.stdout[-3000:] + second.stderr[-3000:]
    tests, tests_s = clone.run("make test")
    closing = next((line for line in reversed(tests.stdout.splitlines()) if " passed" in line), "")
    print(
        f"proof: {clone.user} demo {first_s:.0f} s, again {second_s:.0f} s, tests {tests_s:.0f} s {closing.strip('= ')}"
    )
    assert tests.returncode == 0, tests.stdout[-5000:] + tests.stderr[-2000:]
    assert second_s <= SECOND_RUN_S * machine_busy
