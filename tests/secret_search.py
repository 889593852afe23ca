"""Recognisable secrets of every kind, and where they must not turn up: texts, files, every row of a database."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

NOWHERE = "127.0.0.1:9"  # the discard port: nobody listens
PLANTED = {
    "ALPACA_API_KEY": "PKPLANTEDALPACAKEY01",
    "ALPACA_SECRET_KEY": "planted-alpaca-secret-4f1c",
    "ALPHA_VANTAGE_API_KEY": "PLANTEDALPHAVANTAGE9",
    "SMTP_PASSWORD": "planted-smtp-password-77",
    "SLACK_WEBHOOK_URL": f"http://{NOWHERE}/services/T0/B0/plantedslackhook88",
    "TELEGRAM_BOT_TOKEN": "123456789:PLANTEDtelegramTOKENaaaaaaaaaaaaaaa",
    "APPRISE_URLS": f"json://user:planted-apprise-pw@{NOWHERE}/hook",
    "AIRFLOW_ADMIN_PASSWORD": "planted-airflow-admin-5",
    "AIRFLOW__API_AUTH__JWT_SECRET": "planted-jwt-secret-" + "x" * 50,
}
# What is looked for: of a URL the part that gives access.
NEEDLES = {
    **{key: value for key, value in PLANTED.items() if "URL" not in key},
    "SLACK_WEBHOOK_URL": "plantedslackhook88",
    "APPRISE_URLS": "planted-apprise-pw",
}
# Around them, so that they are used: addresses at which nobody answers.
AROUND = {
    "SMTP_HOST": "127.0.0.1",
    "SMTP_PORT": "9",
    "SMTP_USER": "alerts",
    "SMTP_FROM": "from@example.com",
    "SMTP_TO": "to@example.com",
    "TELEGRAM_CHAT_ID": "42",
    "ALPACA_BASE_URL": f"http://{NOWHERE}",
    "HTTPS_PROXY": f"http://{NOWHERE}",  # Telegram's address cannot be changed: nothing leaves the machine
    "https_proxy": f"http://{NOWHERE}",
    "NO_PROXY": "",
    "LOG_LEVEL": "DEBUG",
}


def spellings(secret: str) -> set[str]:
    """Return a secret as it is, percent-encoded, and in base64 (the start that does not depend on what follows)."""
    encoded = base64.b64encode(secret.encode()).decode()
    return {secret, quote(secret, safe=""), encoded[: len(encoded) // 4 * 4 - 4]}


def watch_for_password_of(url: str) -> None:
    """Look for the password of a database's URL, too: it was not planted but is the real one."""
    NEEDLES["DATABASE_URL"] = urlsplit(url).password or ""
    assert len(NEEDLES["DATABASE_URL"]) > 7, "the database has no password that could be searched for"


def found_in(name: str, text: str) -> list[str]:
    """Return which secrets a text shows, as 'KEY in NAME'."""
    return [f"{key} in {name}" for key, secret in NEEDLES.items() if any(s in text for s in spellings(secret))]


def found_in_files(folder: Path, but: Iterable[str] = ()) -> list[str]:
    """Return which secrets the files below a folder show; `but`: names of files that are meant to hold them."""
    left_out, found = set(but), []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in left_out:
            found += found_in(str(path.relative_to(folder)), path.read_bytes().decode("utf-8", "replace"))
    return found


def found_in_database(conn: psycopg.Connection) -> tuple[list[str], int]:
    """Return which secrets the rows of a database show, and how many rows were searched."""
    tables = conn.execute(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    ).fetchall()
    found, count = [], 0
    for schema, table in tables:
        query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))
        for (row,) in conn.execute(query).fetchall():
            found += found_in(f"{schema}.{table}", row)
            count += 1
    conn.rollback()
    return found, count
