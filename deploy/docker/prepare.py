"""Prepare what the containers need, once per start: `prepare.py check` refuses secrets that are not set and a
configuration that is wrong; `prepare.py migrate` brings Airflow's tables and ours to this version, writes the
logins and compiles the kernels (the scheduler then loads them: a compiler's memory is not given back).

Both can be run again at any time.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tradecore.config_env import is_placeholder

PASSWORDS = {"admin": "AIRFLOW_ADMIN_PASSWORD", "viewer": "AIRFLOW_VIEWER_PASSWORD"}
SECRETS = (
    "DB_PASSWORD",
    *PASSWORDS.values(),
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__CORE__FERNET_KEY",
)
JWT_MIN_CHARS = 64
FERNET_BYTES = 32
CHECK = [[sys.executable, "-m", "tradecore.settings", "--check"]]
MIGRATE = [
    ["airflow", "db", "migrate"],
    ["airflow", "pools", "set", "vendor", "2", "tasks that ask a vendor of market data at once"],
    [sys.executable, "-m", "tradecore", "db", "upgrade"],
    [sys.executable, "-m", "tradecore.warm"],
]


def problems(environment: Mapping[str, str]) -> list[str]:
    """Say what is wrong with the secrets in `environment`, a line for each; nothing when all is well."""
    found = []
    for key in SECRETS:
        value = environment.get(key, "")
        if not value:
            found.append(f"{key} is empty")
        elif is_placeholder(value):
            found.append(f"{key} is still a placeholder")
        elif key == "AIRFLOW__API_AUTH__JWT_SECRET" and len(value) < JWT_MIN_CHARS:
            found.append(f"{key} has {len(value)} characters, not {JWT_MIN_CHARS} or more")
        elif key == "AIRFLOW__CORE__FERNET_KEY" and not _is_fernet_key(value):
            found.append(f"{key} is not {FERNET_BYTES} bytes in URL-safe base64")
    return found


def _is_fernet_key(value: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(value)) == FERNET_BYTES
    except (binascii.Error, ValueError):
        return False


def write_logins(path: Path, environment: Mapping[str, str]) -> None:
    """Write the file that the simple auth manager reads for its fixed users, readable by us alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps({user: environment[key] for user, key in PASSWORDS.items()}) + "\n")


def main(arguments: list[str]) -> int:
    """Run one step. Returns 2 for secrets that must be set first, else the failing command's code."""
    if arguments not in (["check"], ["migrate"]):
        print("usage: prepare.py check|migrate", file=sys.stderr)
        return 2
    found = problems(os.environ)
    if found:
        for line in found:
            print(f"prepare: {line}", file=sys.stderr)
        print("prepare: run `make env`, which writes .env with generated secrets", file=sys.stderr)
        return 2
    if arguments == ["migrate"]:
        write_logins(Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]), os.environ)
    for command in CHECK if arguments == ["check"] else MIGRATE:
        code = subprocess.run(command).returncode
        if code != 0:
            print(f"prepare: `{' '.join(command)}` failed with exit code {code}", file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
