"""What the server can do: plain PostgreSQL, TimescaleDB's Apache edition, or its Community edition."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

PLAIN, APACHE, COMMUNITY = "plain", "apache", "community"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """kind: one of the three; version: TimescaleDB's, '' on plain PostgreSQL."""

    kind: str
    version: str = ""

    @property
    def has_chunks(self) -> bool:
        """Tell whether tables with a time are hypertables, whose old chunks can be dropped whole."""
        return self.kind != PLAIN

    @property
    def is_community(self) -> bool:
        """Tell whether there are continuous aggregates and compression."""
        return self.kind == COMMUNITY

    @property
    def name(self) -> str:
        if self.kind == PLAIN:
            return "plain PostgreSQL"
        return f"TimescaleDB {self.version}, {'Community' if self.is_community else 'Apache'} edition"

    @property
    def path(self) -> str:
        """Say which path coarser bars, compression and retention take on it."""
        if self.is_community:
            return "continuous aggregates, compressed chunks, drop_chunks"
        return "roll-up tables, no compression, " + ("drop_chunks" if self.has_chunks else "delete by range")


def of(conn: psycopg.Connection) -> Edition:
    """Ask the database for its edition. A Community server may run as Apache: `timescaledb.license` says."""
    row = conn.execute(
        "SELECT extversion, current_setting('timescaledb.license', true) FROM pg_extension"
        " WHERE extname = 'timescaledb'"
    ).fetchone()
    if row is None:
        return Edition(kind=PLAIN)
    return Edition(kind=COMMUNITY if row[1] == "timescale" else APACHE, version=str(row[0]))
