"""A copy of the project with a stack, a database and a port of its own: what `make up` starts, for tests.

The copy holds the files that git would: the working tree without what .gitignore names.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tradecore.storage import embedded

REPOSITORY = Path(__file__).resolve().parents[1]
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")


def clean_environment(**more: str) -> dict[str, str]:
    """Return the machine's environment without the project's: as a fresh shell has it."""
    return {key: os.environ[key] for key in KEPT if key in os.environ} | more


def copy_project(to: Path) -> Path:
    """Copy the project's files, as git would clone them, into a new folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (REPOSITORY / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, to / name)
    return to


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A running stack: its folder, the environment of its processes, its URL and its users' passwords."""

    root: Path
    env: Mapping[str, str]
    url: str
    passwords: Mapping[str, str]

    def run(self, *command: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment's bin folder in the copy."""
        program, *arguments = command
        found = Path(sys.executable).parent / program
        return subprocess.run(
            [str(found), *arguments], cwd=self.root, env=dict(self.env), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def make(self, target: str, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run what a make target runs: up, down, status, memory."""
        return self.run("python", "deploy/stack.py", target, *arguments, timeout_s=timeout_s)

    def pid(self, part: str) -> int:
        """Return the process id that a part was started with."""
        return int(json.loads((self.root / ".local" / "run" / f"{part}.json").read_text())["pid"])

    def token(self, user: str = "admin") -> str:
        """Log in over REST."""
        login = {"username": user, "password": self.passwords[user]}
        status, answer = self.call("/auth/token", login)
        assert status == 201, (status, answer)
        return str(answer["access_token"])

    def call(self, path: str, body: object = None, token: str = "", method: str | None = None) -> tuple[int, Any]:
        """Call the api-server; return the status and the JSON of its answer."""
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")


def project_environment(root: Path, present: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment that deploy/environment.py gives a process of that copy."""
    code = (
        "import json, os, sys; sys.path.insert(0, sys.argv[1]); import environment as e;"
        "print(json.dumps(dict(os.environ) | e.environment(e.ROOT, os.environ)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root / "deploy")],
        env=dict(present), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


@contextlib.contextmanager
def prepared_project(to: Path, **settings: str) -> Iterator[Stack]:
    """Give a copy with its database started and no stack yet; everything is gone afterwards."""
    root = copy_project(to).resolve()
    try:
        embedded.ensure(root)
        env = project_environment(root, clean_environment(**settings))
        passwords = {user: env[f"AIRFLOW_{user.upper()}_PASSWORD"] for user in ("admin", "viewer")}
        stack = Stack(root=root, env=env, url=env["AIRFLOW__API__BASE_URL"], passwords=passwords)
        try:
            yield stack
        finally:
            stack.make("down")
    finally:
        embedded.remove(root)
