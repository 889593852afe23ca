"""Prepare the containers' database, once per start: `prepare.py check` refuses unset secrets, `prepare.py
migrate` brings Airflow's tables and ours to this version and writes the login.

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

PLACEHOLDER = "CHANGE_ME"
SECRETS = (
    "DB_PASSWORD",
    "AIRFLOW_ADMIN_PASSWORD",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__CORE__FERNET_KEY",
)
JWT_MIN_CHARS = 64
FERNET_BYTES = 32


def problems(environment: Mapping[str, str]) -> list[str]:
    """Say what is wrong with the secrets in `environment`, a line for each; nothing when all is well."""
    found = []
    for key in SECRETS:
        value = environment.get(key, "")
        if not value:
            found.append(f"{key} is empty")
        elif PLACEHOLDER in value:
            found.append(f"{key} is still the placeholder {PLACEHOLDER}")
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


def write_login(path: Path, password: str) -> None:
    """Write the file that the simple auth manager reads, for its one user, readable by us alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps({"admin": password}) + "\n")


def main(arguments: list[str]) -> int:
    """Run one step. Returns 2 for secrets that must be set first, else the failing command's code."""
    if arguments not in (["check"], ["migrate"]):
        print("usage: prepare.py check|migrate", file=sys.stderr)
        return 2
    found = problems(os.environ)
    if found:
        for line in found:
            print(f"prepare: {line}", file=sys.stderr)
        print("prepare: run `make env` to write .env with generated secrets, or set them there", file=sys.stderr)
        return 2
    if arguments == ["check"]:
        return 0
    write_login(
        Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]),
        os.environ["AIRFLOW_ADMIN_PASSWORD"],
    )
    for command in (["airflow", "db", "migrate"], [sys.executable, "-m", "tradecore", "db", "upgrade"]):
        print(f"prepare: {' '.join(command[-3:])}", flush=True)
        code = subprocess.run(command).returncode
        if code != 0:
            print(f"prepare: that failed with exit code {code}", file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
