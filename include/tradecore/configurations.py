"""Configurations by content: a decision names the hash of its own, and a replay reads it back."""

from __future__ import annotations

import json
from datetime import datetime

import psycopg

from tradecore.config_models import Trading
from tradecore.settings import Settings
from tradecore.storage import queries

SQL = queries.load("replay")


def keep(conn: psycopg.Connection, settings: Settings, now: datetime) -> str:
    """Store what is configured, once by content; return its hash. trading.yaml holds no secrets."""
    digest = settings.config_hash()
    content = settings.trading.model_dump_json()
    conn.execute(SQL["keep_configuration"], {"hash": digest, "content": content, "now": now})
    return digest


def find(conn: psycopg.Connection, config_hash: str) -> Trading | None:
    """Return the configuration of a hash, or None where it was not kept."""
    row = conn.execute(SQL["configuration"], (config_hash,)).fetchone()
    return Trading.model_validate(json.loads(row[0])) if row else None
