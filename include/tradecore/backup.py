"""Backups: the whole database in one encrypted file, proved by restoring it, and back again.

A file is a line of text (format, salt), then frames of at most 1 MiB: length, and AES-256-GCM of the content under a
key that HKDF derives from the installation's key and the file's salt. Each frame's nonce is its number and whether it
is the last, and the first line is authenticated with each: a file that was cut, altered, or put together from two, is
refused. The first frame says what the database held: rows and a checksum for each table, taken in the snapshot that
was dumped. Source of the construction: STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tradecore.errors import BackupError
from tradecore.storage import connection, copies, migrate

FORMAT = "tradecore backup 1"
NAME = re.compile(r"^tradecore-(\d{8})T\d{6}Z\.backup$")
FRAME_BYTES = 1 << 20
TAG_BYTES = 16
KEY_BYTES = 32
MONTHS_KEPT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A file that was restored once, into a scratch database, and held what the database held."""

    file: Path
    bytes: int
    tables: int
    rows: int
    removed: tuple[str, ...]


def load_key(path: Path, *, make: bool = False) -> bytes:
    """Return the key of a file (64 hexadecimal digits, readable by its owner alone); make=True: write a new one.

    Raises BackupError for one that is missing, malformed, or open to others.
    """
    if make and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another process was first: its key is read below
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_hex(KEY_BYTES) + "\n")
    try:
        text, mode = path.read_text(encoding="ascii").strip(), path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise BackupError(f"the key {path} cannot be read: {error}.", next_step="name it with --key") from error
    if mode & 0o077:
        raise BackupError(f"the key {path} is open to other users.", next_step=f"chmod 600 {path}")
    if not re.fullmatch(rf"[0-9a-f]{{{2 * KEY_BYTES}}}", text):
        raise BackupError(f"{path} holds no key of {2 * KEY_BYTES} hexadecimal digits.", next_step="name it with --key")
    return bytes.fromhex(text)


def create(url: str, folder: Path, key: bytes, now: datetime, *, keep: int) -> Backup:
    """Write a backup, restore it into a scratch database, compare, and only then remove old ones.

    Parameters: now (aware UTC) names the file; keep, how many stay beside the newest of each of 12 months.
    Raises BackupError; a file that did not prove itself stays beside the others as `.failed`.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"tradecore-{now:%Y%m%dT%H%M%SZ}.backup"
    if file.exists():
        raise BackupError(f"{file} exists.", next_step="wait a second")
    fresh = file.with_suffix(".unproved")
    copies.drop_left_scratch(url)
    with connection.connect(url) as conn:
        major = conn.info.server_version // 10_000
        with copies.snapshot(conn) as name, _private(fresh) as out:
            held = copies.contents(conn)
            record = {
                "made_at": now.isoformat(),
                "server": major,
                "timescaledb": copies.timescaledb_version(conn),
                "tables": held,
            }
            _write(out, key, record, copies.dump(url, major, name))
    try:
        with copies.scratch(url, f"tradecore_check_{secrets.token_hex(4)}") as place:
            _fill(place, fresh, key)
    except BackupError:
        fresh.replace(file.with_suffix(".failed"))
        raise
    fresh.replace(file)
    return Backup(
        file=file,
        bytes=file.stat().st_size,
        tables=len(held),
        rows=sum(int(count) for count, _ in held.values()),
        removed=tuple(_rotate(folder, keep)),
    )


def verify(file: Path, key: bytes) -> dict[str, Any]:
    """Read a backup to its end and return what its first frame says. Raises BackupError for any that was altered."""
    with file.open("rb") as source:
        parts = _read(source, key, file)
        record: dict[str, Any] = json.loads(next(parts))
        for _ in parts:
            pass
    return record


def restore(url: str, file: Path, key: bytes) -> dict[str, Any]:
    """Bring a backup into an empty database, and compare every table with what it held. Returns its record.

    The file is read to its end before anything is written. Raises BackupError, the database being empty as before.
    """
    verify(file, key)
    with connection.connect(url) as conn:
        there = conn.execute(copies.SQL["tables"]).fetchall()
    if there:
        name = psycopg.conninfo.conninfo_to_dict(url).get("dbname", "")
        raise BackupError(
            f"the database {name} has {len(there)} tables already; a backup goes into an empty one.",
            next_step=f"name another one in DATABASE_URL, or move this one: ALTER DATABASE {name} RENAME TO ...",
        )
    return _fill(url, file, key)


def _fill(url: str, file: Path, key: bytes) -> dict[str, Any]:
    """Restore a file into an empty database and compare."""
    with file.open("rb") as source:
        parts = _read(source, key, file)
        record: dict[str, Any] = json.loads(next(parts))
        with connection.connect(url) as conn:
            major = conn.info.server_version // 10_000
        if major < record["server"]:
            raise BackupError(
                f"{file.name} comes from PostgreSQL {record['server']}, this server is {major}.",
                next_step=f"restore it into PostgreSQL {record['server']} or newer",
            )
        copies.restore(url, major, parts, record["timescaledb"])
    with connection.connect(url) as conn:
        found = copies.contents(conn)
        if "tradecore.schema_migrations" in found:
            migrate.check_not_newer(conn)
    differing = sorted(n for n in found.keys() | record["tables"].keys() if found.get(n) != record["tables"].get(n))
    if differing:
        raise BackupError(
            f"what was restored from {file.name} differs in {', '.join(differing)}.",
            next_step="do not use that database; take another backup",
        )
    return record


# -- the file


@contextlib.contextmanager
def _private(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that nobody else reads; it is on the disk at the end, or gone."""
    with contextlib.ExitStack() as unless_whole:
        unless_whole.callback(path.unlink, missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        unless_whole.pop_all()


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=FORMAT.encode()).derive(key))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _write(out: BinaryIO, key: bytes, record: dict[str, Any], parts: Iterable[bytes]) -> None:
    salt = secrets.token_bytes(32)
    line = f"{FORMAT} {salt.hex()}\n".encode()
    cipher, waiting = _cipher(key, salt), json.dumps(record).encode()
    out.write(line)
    number = 0
    for part in _frames(parts):
        _frame(out, cipher.encrypt(_nonce(number, False), waiting, line))
        waiting, number = part, number + 1
    _frame(out, cipher.encrypt(_nonce(number, True), waiting, line))


def _frames(parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        for start in range(0, len(part), FRAME_BYTES):
            yield part[start : start + FRAME_BYTES]


def _frame(out: BinaryIO, sealed: bytes) -> None:
    out.write(len(sealed).to_bytes(4, "big"))
    out.write(sealed)


def _read(source: BinaryIO, key: bytes, file: Path) -> Iterator[bytes]:
    """Yield the content of each frame, the record's first. Raises BackupError at the first that is not as written."""
    line = source.readline(200)
    found = re.fullmatch(rf"{FORMAT} ([0-9a-f]{{64}})\n".encode(), line)
    if found is None:
        raise BackupError(f"{file} is no backup of this format.", next_step="python -m tradecore backup list")
    cipher = _cipher(key, bytes.fromhex(found[1].decode()))
    number, header = 0, source.read(4)
    while header:
        size = int.from_bytes(header, "big")
        sealed = source.read(size) if TAG_BYTES <= size <= 64 * FRAME_BYTES else b""
        header_after = source.read(4)
        try:
            content = cipher.decrypt(_nonce(number, not header_after), sealed, line)
        except InvalidTag as error:
            raise BackupError(
                f"{file} is cut, altered, or made with another key (frame {number}).",
                next_step="take another backup, or name its key with --key; nothing was restored",
                frame=number,
            ) from error
        yield content
        number, header = number + 1, header_after
    if number == 0:
        raise BackupError(f"{file} is cut: it has no content.", next_step="take another backup")


def _rotate(folder: Path, keep: int) -> list[str]:
    """Remove what is neither among the newest `keep` nor the newest of one of the last 12 months; return the names."""
    files = sorted((p for p in folder.iterdir() if NAME.match(p.name)), reverse=True)
    newest_of_month: dict[str, Path] = {}
    for file in files:
        newest_of_month.setdefault(file.name[10:16], file)
    kept = {*files[:keep], *[newest_of_month[m] for m in sorted(newest_of_month, reverse=True)[:MONTHS_KEPT]]}
    gone = [file for file in files if file not in kept]
    for file in gone:
        file.unlink()
    return [file.name for file in gone]
