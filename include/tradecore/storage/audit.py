"""The audit log: who changed what may trade. Each row is sealed with the hash of the one before it (migration 0021).

The database writes and seals; here the seals are computed again, by other code than the one that could be altered
there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from tradecore.storage import queries

SQL = queries.load("audit")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROWS_A_READ = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row: what happened, to whom, by whom, and its seal."""

    entry_no: int
    happened_at: datetime
    kind: str
    subject: str
    actor: str
    detail: str
    sealed: str

    def seal(self, before: str) -> str:
        """Return the seal that the row must have behind the seal of the row before."""
        micros = (self.happened_at - EPOCH) // timedelta(microseconds=1)
        fields = (before, str(self.entry_no), str(micros), self.kind, self.subject, self.actor, self.detail)
        return hashlib.sha256("".join(f"{len(field)}:{field}" for field in fields).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The chain: how many rows, the last seal, and the first row that does not fit ('' for none) with what is wrong."""

    rows: int
    head: str
    broken_at: int | None = None
    problem: str = ""
    has_known: bool = True


def _entry(row: tuple[object, ...]) -> Entry:
    names = ("entry_no", "happened_at", "kind", "subject", "actor", "detail", "sealed")
    return Entry(**dict(zip(names, row, strict=True)))  # type: ignore[arg-type]


def verify(conn: psycopg.Connection, known: str = "") -> Checked:
    """Compute every seal again, from the first row on, and stop at the first that does not fit.

    known: a seal that was written down earlier; a chain that was cut behind it, or made anew, has it no more.
    """
    before, rows, seen = "", 0, not known
    with conn.transaction(), conn.cursor(name="audit") as cursor:
        cursor.itersize = ROWS_A_READ
        for row in cursor.execute(SQL["entries"]):
            entry = _entry(row)
            rows += 1
            if entry.entry_no != rows:
                problem = f"row {rows} is missing: the next one is {entry.entry_no}"
                return Checked(rows=rows - 1, head=before, broken_at=rows, problem=problem, has_known=seen)
            if entry.sealed != entry.seal(before):
                problem = f"the seal of row {rows} does not fit its content and the rows before it"
                return Checked(rows=rows, head=before, broken_at=rows, problem=problem, has_known=seen)
            before = entry.sealed
            seen = seen or before == known
    return Checked(rows=rows, head=before, has_known=seen)


def newest(conn: psycopg.Connection, count: int) -> list[Entry]:
    """Return the newest rows, the newest first."""
    return [_entry(row) for row in conn.execute(SQL["newest"], (count,)).fetchall()]


def append(conn: psycopg.Connection, *, kind: str, subject: str, actor: str, detail: str) -> None:
    """Write a row for what no table of its own tells."""
    conn.execute(SQL["append"], {"kind": kind, "subject": subject, "actor": actor, "detail": detail})
