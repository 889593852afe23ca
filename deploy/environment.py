"""The environment of everything that runs natively: one answer for make, the shell, the stack and Airflow.

Printed as shell commands for deploy/env.sh; imported by the stack and by tests. What wins, first to last: the
process environment, `.env`, what is derived here (folders, database, secrets), deploy/airflow/airflow.env.
Secrets that `.env` does not give are made once and kept under .local/airflow (0600).
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import shlex
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from dotenv import dotenv_values

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "include"))

from tradecore.errors import ConfigError, TradecoreError  # noqa: E402
from tradecore.kernel_cache import cache_dir  # noqa: E402
from tradecore.storage import embedded  # noqa: E402

PLACEHOLDER = "CHANGE_ME"
MADE_HERE = "NATIVE_ENVIRONMENT"  # names and checksums of what an earlier call set
DEFAULT_PORT = 8080
ALWAYS_OURS = ("AIRFLOW_HOME", "DATABASE_URL", "NUMBA_CACHE_DIR", "PYTHONPATH")
USERS = "admin:admin,viewer:viewer"
SECRETS = {
    "AIRFLOW__CORE__FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "AIRFLOW__API_AUTH__JWT_SECRET": lambda: secrets.token_hex(48),
    "AIRFLOW__API__SECRET_KEY": lambda: secrets.token_hex(24),
    "AIRFLOW_ADMIN_PASSWORD": lambda: secrets.token_urlsafe(12),
    "AIRFLOW_VIEWER_PASSWORD": lambda: secrets.token_urlsafe(12),
}


def environment(root: Path, present: Mapping[str, str]) -> dict[str, str]:
    """Return what is to be set beside the present environment, without what somebody else has set there.

    Raises ConfigError for a placeholder in .env and a URL that is not PostgreSQL's.
    """
    theirs = _not_ours(present)
    chosen = _dotenv(root) | theirs
    local = root / ".local"
    port = noted_port(root) or chosen.get("AIRFLOW_PORT") or str(DEFAULT_PORT)
    url = database_url(chosen) or embedded.describe(root)
    derived = _settings(root / "deploy" / "airflow" / "airflow.env") | {
        "PYTHONPATH": _python_path(root, theirs.get("PYTHONPATH", "")),
        "NUMBA_CACHE_DIR": str(cache_dir(root)),
        "MPLCONFIGDIR": str(local / "matplotlib"),
        "DATABASE_URL": url,
        "AIRFLOW_HOME": str(local / "airflow"),
        "AIRFLOW_CONN_TRADECORE_DB": "postgres" + url.removeprefix("postgresql"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2" + url.removeprefix("postgresql"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(root / "plugins"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(local / "airflow" / "logs"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": USERS,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(local / "airflow" / "login.json"),
        "AIRFLOW__API__PORT": port,
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
    }
    result = derived | kept_secrets(root) | chosen
    result |= {key: derived[key] for key in ALWAYS_OURS}
    ours = {key: value for key, value in result.items() if theirs.get(key) != value}
    ours[MADE_HERE] = " ".join(f"{key}={_sum(value)}" for key, value in sorted(ours.items()))
    return ours


def database_url(settings: Mapping[str, str]) -> str | None:
    """Return the URL that the settings name: DATABASE_URL, else DB_HOST and its siblings, else None.

    Raises ConfigError if it is not PostgreSQL's.
    """
    url = settings.get("DATABASE_URL", "")
    if url:
        scheme = urlsplit(url).scheme.split("+")[0]
        if scheme not in ("postgres", "postgresql"):
            raise ConfigError(
                f"DATABASE_URL starts with {url.split(':')[0]!r}; only PostgreSQL is supported.",
                next_step="write postgresql://user:password@host:5432/name, or nothing for the embedded one",
            )
        return "postgresql" + url[url.index(":") :]
    if not settings.get("DB_HOST"):
        return None
    user = quote(settings.get("DB_USER", "tradecore"), safe="")
    password = quote(settings.get("DB_PASSWORD", ""), safe="")
    name = quote(settings.get("DB_NAME", "tradecore"), safe="")
    port = settings.get("DB_PORT", "5432")
    return f"postgresql://{user}:{password}@{settings['DB_HOST']}:{port}/{name}"


def uses_embedded(root: Path, present: Mapping[str, str]) -> bool:
    """True if no setting names a database server."""
    return database_url(_dotenv(root) | _not_ours(present)) is None


def noted_port(root: Path) -> str | None:
    """Return the port that the running stack took, if `make up` noted one."""
    try:
        return (root / ".local" / "run" / "port").read_text().strip() or None
    except FileNotFoundError:
        return None


def kept_secrets(root: Path) -> dict[str, str]:
    """Return the generated secrets, made on first use; two processes at once agree on the first one's."""
    path = root / ".local" / "airflow" / "secrets.json"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mine = path.with_name(f"secrets.{os.getpid()}")
        with os.fdopen(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            json.dump({name: make() for name, make in SECRETS.items()}, handle)
        try:
            os.link(mine, path)
        except FileExistsError:
            pass  # the other process was first
        finally:
            mine.unlink()
    return dict(json.loads(path.read_text()))


def _dotenv(root: Path) -> dict[str, str]:
    """Return .env without empty values. Raises ConfigError for a placeholder that was never replaced."""
    values = {key: value for key, value in dotenv_values(root / ".env").items() if value}
    left = sorted(key for key, value in values.items() if PLACEHOLDER in value)
    if left:
        raise ConfigError(
            f"{root / '.env'} still has the placeholder {PLACEHOLDER} for {', '.join(left)}.",
            next_step="put in real values, or remove the file and run `make env`, which generates them",
        )
    return values


def _settings(path: Path) -> dict[str, str]:
    return {key: value for key, value in dotenv_values(path).items() if value}


def _not_ours(present: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what an earlier call set and nobody has changed since."""
    sums = dict(item.rsplit("=", 1) for item in present.get(MADE_HERE, "").split())
    return {
        key: value
        for key, value in present.items()
        if value and key != MADE_HERE and not (key in sums and sums[key] == _sum(value))
    }


def _sum(value: str) -> str:
    return f"{zlib.crc32(value.encode(errors='surrogateescape')):08x}"


def _python_path(root: Path, theirs: str) -> str:
    ours = [str(root / part) for part in ("include", "plugins", "deploy/airflow")]
    return os.pathsep.join(ours + [part for part in theirs.split(os.pathsep) if part and part not in ours])


def main() -> int:
    """Print the environment as shell commands; start the embedded database before if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--database",
        choices=["leave", "resume", "start"],
        default="leave",
        help="embedded PostgreSQL: leave it, start it if it was made before, start it",
    )
    wish = parser.parse_args().database
    try:
        if wish != "leave" and uses_embedded(ROOT, os.environ):
            made_before = embedded.was_made(ROOT)
            if (wish == "start" or made_before) and embedded.status(ROOT) is None:
                print(f"{'Starting' if made_before else 'Making'} the embedded PostgreSQL", file=sys.stderr)
            if wish == "start" or made_before:
                embedded.ensure(ROOT)
        ours = environment(ROOT, os.environ)
    except (TradecoreError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for key, value in sorted(ours.items()):
        print(f"export {key}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
