"""Old raw data into Parquet files, out of the database, and back: nothing is dropped that was not read back first."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from tradecore.errors import ArchiveError
from tradecore.settings import Settings
from tradecore.storage import keeping, rollups
from tradecore.storage.keeping import RAW_TABLES, RawTable, Slice

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 8 << 20  # of CSV at a time: some 100,000 rows, so that a week of minute bars fits a small machine
HELD_DAYS = 30
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """One slice in one file."""

    table: str
    first_at: datetime
    until_at: datetime
    file: Path
    rows: int
    content_hash: str


def folder_of(settings: Settings) -> Path:
    """Return where archive files are."""
    return settings.resolve(settings.trading.maintenance.archive_folder)


def keep_within_policy(settings: Settings, conn: psycopg.Connection, now: datetime) -> dict[str, object]:
    """Archive and drop the raw data that are older than the configured days. A slice is a transaction; commits.

    The stream and loads write meanwhile. They wait only while a slice is dropped, and one that they changed since its
    file was begun stays for the next run.
    """
    policy, out = settings.trading.maintenance, dict[str, object]()
    for table, days in ((keeping.MINUTE_BARS, policy.minute_bars_days), (keeping.TRADES, policy.trades_days)):
        slices = rows = 0
        for part in _parts(conn, table, now - timedelta(days=days), now):
            with conn.transaction():
                keeping.lock(conn)
                if keeping.is_held(conn, part, now):  # by an import since the slices were listed
                    continue
                content = keeping.content_of(conn, part)
                if policy.archive:
                    archive(conn, part, folder_of(settings), now)
                    keeping.lock_rows(conn, table)
                    if keeping.content_of(conn, part) != content:
                        log.warning("%s of %s changed while it was archived: kept", table.name, part.first_at)
                        continue
                keeping.drop(conn, part, now)
            slices, rows = slices + 1, rows + content[0]
        out[table.name] = {"slices": slices, "rows": rows}
    conn.commit()
    return out


def archive_before(
    settings: Settings, conn: psycopg.Connection, *, table: str, before: datetime, now: datetime
) -> list[Archived]:
    """Write the whole slices of a table that end by `before` to files, and leave them in the database. Commits."""
    done = []
    for part in _parts(conn, _table(table), before, now):
        with conn.transaction():
            keeping.lock(conn)
            done.append(archive(conn, part, folder_of(settings), now))
    conn.commit()
    return done


def _parts(conn: psycopg.Connection, table: RawTable, before: datetime, now: datetime) -> list[Slice]:
    parts = list(keeping.slices_before(conn, table, before, now))
    conn.commit()
    return parts


def archive(conn: psycopg.Connection, part: Slice, folder: Path, now: datetime) -> Archived:
    """Write a slice to a Parquet file, read it back, and record it; in the caller's transaction.

    The same content is written once. Raises ArchiveError where what is on the disk is not what was read.
    """
    folder = folder / part.table.name
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{part.first_at:%Y-%m-%d}.{os.getpid()}.parquet"
    try:
        rows, digest = _write(draft, part.table, keeping.read_csv(conn, part, BLOCK_BYTES), keeping.symbols(conn))
        file = folder / f"{part.first_at:%Y-%m-%d}_{part.until_at:%Y-%m-%d}_{digest[:12]}.parquet"
        if (rows, digest) != read_back(draft):
            raise ArchiveError(
                f"{draft} does not hold what was read from {part.table.name}; nothing was dropped.",
                next_step="check the disk, then run ops_maintenance again",
                file=str(draft),
            )
        draft.replace(file)
        _sync(folder)
    finally:
        draft.unlink(missing_ok=True)
    conn.execute(
        keeping.SQL["add_archive"], {**part.where, "hash": digest, "file": str(file), "rows": rows, "now": now}
    )
    return Archived(
        table=part.table.name,
        first_at=part.first_at,
        until_at=part.until_at,
        file=file,
        rows=rows,
        content_hash=digest,
    )


def import_file(conn: psycopg.Connection, path: Path, now: datetime, held_days: int = HELD_DAYS) -> dict[str, object]:
    """Bring the rows of an archive file back; those that the database has stay as they are. Commits.

    Retention leaves the slice alone for held_days. Symbols of the file decide which instruments its rows are of.
    Raises ArchiveError for a file that is no archive or was changed, or names a symbol that the database lacks.
    """
    table, symbols, schema_hash = _head(path)
    rows, digest = read_back(path)
    if digest != schema_hash:
        raise ArchiveError(
            f"{path}: its content is not what was archived.", next_step="take another copy of it", file=str(path)
        )
    with conn.transaction():
        keeping.lock(conn)
        ids = _instruments(conn, symbols, path)
        first, last = _load(conn, table, path, ids)
        new = keeping.import_staged(conn, table)
        for at in _slice_starts(table, first, last):
            where = keeping.slice_of(table, at).where
            record = {"hash": digest, "file": str(path), "rows": rows, "now": now}
            conn.execute(keeping.SQL["hold"], {**where, **record, "held": now + timedelta(days=held_days)})
        if table is keeping.MINUTE_BARS and new:
            rollups.refresh(conn, of_table=table.name, instruments=ids.values(), first=first, last=last)
    conn.commit()
    rollups.catch_up(conn)
    return {"table": table.name, "rows": rows, "new": new, "first": first, "last": last, "held_days": held_days}


def _slice_starts(table: RawTable, first: datetime, last: datetime) -> Iterator[datetime]:
    at = keeping.slice_of(table, first).first_at
    while at <= last:
        yield at
        at += table.width


def _table(name: str) -> RawTable:
    if name not in RAW_TABLES:
        raise ArchiveError(
            f"{name!r} is no table of raw data.", next_step=f"one of: {', '.join(RAW_TABLES)}", table=name
        )
    return RAW_TABLES[name]


# ------------------------------------------------------------------------------------------------------ Parquet files


def _schema(table: RawTable) -> pa.Schema:
    import pyarrow as pa

    kinds = {
        **dict.fromkeys(("source", "exchange", "conditions"), pa.string()),
        **dict.fromkeys(("instrument_id", "trade_count"), pa.int32()),
        **dict.fromkeys(("bar_end_at", "known_at", "trade_at"), pa.timestamp("us", tz="UTC")),
        "session_date": pa.date32(),
        "trade_id": pa.int64(),
    }
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in table.columns])


def _write(path: Path, table: RawTable, blocks: Iterable[bytes], symbols: dict[int, str]) -> tuple[int, str]:
    """Write blocks of CSV to a Parquet file; return its rows and the hash of its content."""
    from pyarrow import csv, parquet

    schema, content, used = _schema(table), _Content(table), set[int]()
    # NaN is a value here, an empty text too: nothing in these tables is NULL
    convert = csv.ConvertOptions(
        column_types=schema,
        null_values=[],
        strings_can_be_null=False,
        timestamp_parsers=["%Y-%m-%d %H:%M:%S%z", csv.ISO8601],
    )
    parse = csv.ParseOptions(newlines_in_values=True)
    with path.open("wb") as file:
        with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for block in blocks:
                part = csv.read_csv(io.BytesIO(block), parse_options=parse, convert_options=convert).select(
                    list(table.columns)
                )
                writer.write_table(part.cast(schema))
                content.add(part.cast(schema))
                used |= set(part["instrument_id"].unique().to_pylist())
            named = {str(i): symbols[i] for i in sorted(used) if i in symbols}
            head = {"table": table.name, "rows": content.rows, "hash": content.digest(), "symbols": named}
            writer.add_key_value_metadata({"tradecore": json.dumps(head)})
        file.flush()
        os.fsync(file.fileno())
    return content.rows, content.digest()


def read_back(path: Path) -> tuple[int, str]:
    """Return the rows of an archive file and the hash of its content, read from the disk."""
    from pyarrow import parquet

    table, _, _ = _head(path)
    content = _Content(table)
    with parquet.ParquetFile(path) as file:
        for k in range(file.num_row_groups):
            content.add(file.read_row_group(k))
    return content.rows, content.digest()


def _head(path: Path) -> tuple[RawTable, dict[int, str], str]:
    """Return the table, the symbols and the content hash that an archive file names."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        head = json.loads((parquet.read_metadata(path).metadata or {})[b"tradecore"])
        symbols = {int(k): str(v) for k, v in head["symbols"].items()}
        return RAW_TABLES[head["table"]], symbols, str(head["hash"])
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise ArchiveError(
            f"{path} is no archive of raw data: {type(error).__name__}: {str(error).rstrip('.')}.",
            next_step="`python -m tradecore data archives` lists the files",
            file=str(path),
        ) from error


class _Content:
    """A hash of rows, whatever blocks they come in: a digest a column, of all its values in order."""

    def __init__(self, table: RawTable) -> None:
        self.rows = 0
        self._columns = {name: hashlib.sha256() for name in table.columns}

    def add(self, part: pa.Table) -> None:
        """Take in some rows."""
        import pyarrow as pa

        self.rows += part.num_rows
        for name, digest in self._columns.items():
            column = part[name].combine_chunks()
            if pa.types.is_string(column.type):
                digest.update("".join(f"{len(text)}:{text}" for text in column.to_pylist()).encode())
            else:
                digest.update(column.to_numpy(zero_copy_only=False).tobytes())

    def digest(self) -> str:
        """Return the sha256 of all columns."""
        return hashlib.sha256("".join(d.hexdigest() for d in self._columns.values()).encode()).hexdigest()


def _instruments(conn: psycopg.Connection, symbols: dict[int, str], path: Path) -> dict[int, int]:
    """Return {id in the file: id in this database}, by symbol; the same id where it has the symbol here too."""
    here = keeping.symbols(conn)
    known = {symbol: i for i, symbol in here.items()}
    lacking = sorted(set(symbols.values()) - set(known))
    if lacking:
        raise ArchiveError(
            f"{path} has rows of {', '.join(lacking)}, which this database does not know.",
            next_step="add them to the universe, `python -m tradecore db upgrade` and load a day of them first",
            symbols=lacking,
        )
    return {i: i if here.get(i) == symbol else known[symbol] for i, symbol in symbols.items()}


def _load(conn: psycopg.Connection, table: RawTable, path: Path, ids: dict[int, int]) -> tuple[datetime, datetime]:
    """COPY a file's rows into the stage; return the first and last time in it."""
    import pyarrow as pa
    from pyarrow import compute, csv, parquet

    options, ends = csv.WriteOptions(include_header=False), list[Any]()
    with parquet.ParquetFile(path) as file, keeping.importing(conn, table) as copy:
        for k in range(file.num_row_groups):
            part = file.read_row_group(k)
            moved = pa.array([ids[i] for i in part["instrument_id"].to_pylist()], pa.int32())
            part = part.set_column(0, "instrument_id", moved)
            bounds = compute.min_max(part[table.time])
            ends += [bounds["min"].as_py(), bounds["max"].as_py()]
            out = io.BytesIO()
            csv.write_csv(part, out, options)
            copy.write(out.getvalue())
    return min(ends).astimezone(UTC), max(ends).astimezone(UTC)


def _sync(folder: Path) -> None:
    """Have the disk know the file's name: the rows go from the database next."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
